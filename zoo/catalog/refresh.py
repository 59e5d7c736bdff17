"""Build an index for installed libraries of other versions than the shipped index.

Commands that import timm anyway build it, in half a second, once per pair of versions; `zoo list` and completion read
it. A failure is not an error: the shipped index stays in use.
"""

from __future__ import annotations

from contextlib import suppress
from dataclasses import replace
from functools import lru_cache

from zoo.cache import save_file
from zoo.catalog.build import render
from zoo.catalog.entries import ModelEntry
from zoo.catalog.index import (
    Index,
    find_weights,
    index_cache_file,
    installed_versions,
    load_index,
    same_versions,
    shipped_index,
    use_index,
)
from zoo.catalog.read_timm import read_timm, renamed_in_timm
from zoo.catalog.read_torchvision import read_torchvision


def find_installed(name: str) -> tuple[ModelEntry, str | None]:
    """As `zoo.catalog.find_weights`, with the models of the installed libraries; imports timm if necessary."""
    refresh_if_stale()
    return find_weights(name)


@lru_cache(maxsize=1)
def refresh_if_stale() -> None:
    """Rebuild the index if it is not of the installed timm and torchvision; only then imports both."""
    installed = installed_versions()
    if same_versions(load_index().versions, installed):
        return
    try:
        text = _rebuild_index(installed)
    # A newer library with another API: the shipped index still has most of its models.
    except (ImportError, AttributeError, LookupError, TypeError, ValueError, RuntimeError):
        return
    use_index(Index(text))
    _cache_index(text, installed)


def save_costs(name: str, *, params: int, macs: int | None) -> None:
    """Add the costs of the model `name`, with its published head and input channels, to the cached index."""
    index = load_index()
    if index is shipped_index() or index[name].params is not None:
        return
    entries = [replace(index[n], params=params, macs=macs) if n == name else index[n] for n in index]
    text = render(entries, versions=index.versions, renamed=index.renamings)
    use_index(Index(text))
    _cache_index(text, installed_versions())


def _cache_index(text: str, installed: dict[str, str]) -> None:
    with suppress(OSError):  # a read-only home: the next process builds it again
        save_file(index_cache_file(installed), text)


def _rebuild_index(installed: dict[str, str]) -> str:
    """The text of the index with the changed libraries read again; costs are those of the shipped index."""
    shipped = shipped_index()
    known = {name: shipped[name] for name in shipped}
    torchvision_entries = {e.architecture: e for e in known.values() if e.source == "torchvision"}
    stale = {library for library, version in installed.items() if shipped.versions.get(library) != version}
    entries = [e for e in known.values() if e.source not in stale]
    read = read_timm() if "timm" in stale else []
    read += read_torchvision(torchvision_entries) if "torchvision" in stale else []
    for entry in read:
        before = known.get(entry.name)
        if before is not None and before.num_classes == entry.num_classes and before.input_size == entry.input_size:
            entries.append(replace(entry, params=before.params, macs=before.macs))
        else:
            entries.append(entry)
    return render(
        entries,
        versions={**shipped.versions, **installed},
        renamed=renamed_in_timm() if "timm" in stale else shipped.renamings,
    )
