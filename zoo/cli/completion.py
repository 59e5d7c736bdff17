"""Shell completion. Each function gets the incomplete word and returns the completions.

The functions read only the catalog's index and file names and import no model library, because the user waits for them.
Completions have no descriptions, because formatting them with rich is slow.
"""

from __future__ import annotations

import os
from collections.abc import Iterator

_WEIGHTS = (".safetensors", ".pth", ".pt", ".bin", ".tar")


def complete_model(incomplete: str) -> list[str]:
    """Model names; after a dot, the tags of the model's weights."""
    from zoo.catalog import search_weights
    from zoo.catalog.index import load_index

    word = incomplete.lower()
    if any(c in word for c in "*?["):
        return []  # a pattern of `zoo list`, which the shell must not change
    if "." in word:
        plain, _, tag = word.partition(".")
        matches = [p.name for p in search_weights(f"{plain}.*")]
        return [n for n in matches if n.lower().startswith(f"{plain}.{tag}")]
    names = list(load_index())
    plain_names = (n.rpartition("/")[2] for n in names)
    return list(dict.fromkeys(n for n in (*names, *plain_names) if n.startswith(word)))


def complete_model_or_file(incomplete: str) -> list[str]:
    """Model names as in `complete_model`, and folders and files of weights."""
    return [*complete_model(incomplete), *_files(incomplete, _WEIGHTS)]


def complete_recipe(incomplete: str) -> list[str]:
    """Names of the shipped recipes, folders and YAML files."""
    from zoo.recipe import shipped

    return [*(n for n in shipped() if n.startswith(incomplete)), *_files(incomplete, (".yaml", ".yml"))]


def _files(incomplete: str, suffixes: tuple[str, ...]) -> Iterator[str]:
    """Paths that begin with `incomplete`: folders, with a final slash, and files with one of `suffixes`."""
    folder, _ = os.path.split(incomplete)
    try:
        with os.scandir(os.path.expanduser(folder) or ".") as entries:
            matches = sorted((e.name, e.is_dir()) for e in entries)
    except OSError:
        return  # no such folder
    for name, is_folder in matches:
        path = os.path.join(folder, name)
        hidden = name.startswith(".") and not os.path.basename(incomplete).startswith(".")
        if path.startswith(incomplete) and not hidden and (is_folder or name.endswith(suffixes)):
            yield f"{path}/" if is_folder else path
