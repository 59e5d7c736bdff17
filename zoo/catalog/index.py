"""The index of all models: the shipped one, or a cached one for other versions of the installed libraries.

Reading it imports neither library, and nothing heavier than the json module.
"""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Iterator, Mapping
from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from zoo.cache import kind_folder
from zoo.catalog.entries import SOURCES, ModelEntry, from_record
from zoo.errors import ModelError, did_you_mean, nearest
from zoo.version import __version__

FORMAT = 2
INDEX = Path(__file__).with_name("index.json")


def natural_key(name: str) -> list[tuple[int, str]]:
    """Sort key that puts resnet18 before resnet101."""
    return [(int(part), "") if part.isdigit() else (-1, part) for part in re.split(r"(\d+)", name.lower()) if part]


class Index:
    """The records of an index file by name, in natural order. Entries are built on demand."""

    def __init__(self, text: str) -> None:
        document = json.loads(text)
        self.versions: Mapping[str, str] = document["versions"]
        self.renamings: Mapping[str, str] = document["renamed"]
        self._records: dict[str, Mapping[str, Any]] = {r["name"]: r for r in document["models"]}
        self._entries: dict[str, ModelEntry] = {}

    def __len__(self) -> int:
        return len(self._records)

    def __iter__(self) -> Iterator[str]:
        return iter(self._records)

    def __contains__(self, name: str) -> bool:
        return name in self._records

    def __getitem__(self, name: str) -> ModelEntry:
        """The entry of exactly this name. Raises KeyError."""
        if name not in self._entries:
            self._entries[name] = from_record(self._records[name])
        return self._entries[name]

    def record(self, name: str) -> Mapping[str, Any]:
        """The raw record, for filters over all models."""
        return self._records[name]

    def records(self) -> Collection[Mapping[str, Any]]:
        return self._records.values()

    def resolve(self, name: str) -> str | None:
        """The name in the index for a user's `name` without a tag; None if there is no such model.

        A plain name means the built-in model, else timm's, else torchvision's; `SOURCE/NAME` means one library.
        Case-insensitive. `resnet34` is in timm and torchvision; the plain name means timm's.
        """
        lowered = name.lower()
        source, slash, plain = lowered.partition("/")
        if slash:
            if source == "torchvision":
                return lowered if lowered in self._records else None
            known = plain in self._records and self._records[plain]["source"] == source
            return plain if known else None
        if lowered in self._records:
            return lowered
        prefixed = f"torchvision/{lowered}"
        return prefixed if prefixed in self._records else None

    def renamed(self, name: str) -> str | None:
        """The current `name.tag` for a name that is deprecated in timm."""
        return self.renamings.get(name.lower().removeprefix("timm/"))

    def plain_names(self) -> list[str]:
        """All names that `resolve` accepts without a source, for suggestions."""
        return list(dict.fromkeys(name.rpartition("/")[2] for name in self._records))


# The index of this process; empty until it is loaded.
_CURRENT: list[Index] = []


def load_index() -> Index:
    """The index of the installed libraries if there is one, else the shipped one; read once per process.

    `zoo.catalog.refresh` builds it if it is missing.
    """
    if not _CURRENT:
        shipped, installed = shipped_index(), installed_versions()
        use_index(shipped if same_versions(shipped.versions, installed) else _cached_index(installed) or shipped)
    return _CURRENT[0]


def use_index(index: Index | None) -> None:
    """Set the index that `load_index` returns in this process; None: read it from disk again."""
    _CURRENT[:] = [] if index is None else [index]


@lru_cache(maxsize=1)
def shipped_index() -> Index:
    return Index(INDEX.read_text(encoding="utf-8"))


def _cached_index(installed: Mapping[str, str]) -> Index | None:
    """The index from the cache; None if it is missing, damaged or of other versions."""
    try:
        index = Index(index_cache_file(installed).read_text(encoding="utf-8"))
        for name in index:
            index[name]  # finds damaged records early
    except (OSError, ValueError, KeyError, TypeError, AttributeError, IndexError):
        return None
    return index if same_versions(index.versions, installed) else None


# --- versions of the installed libraries ------------------------------------------------------------------------------

# The libraries of the names and configurations. The costs also depend slightly on torch.
_LIBRARIES = ("timm", "torchvision")
_VERSION = re.compile(r"""^__version__\s*(?::\s*str\s*)?=\s*['"]([^'"]+)['"]""", re.MULTILINE)


def installed_versions() -> dict[str, str]:
    """Library → version without a build label such as +cu130; without libraries of unknown version."""
    found = {package: _version_in_file(package) for package in _LIBRARIES}
    return {package: version for package, version in found.items() if version is not None}


def _version_in_file(package: str) -> str | None:
    """The version in the package's version.py, in a tenth of the time of importlib.metadata."""
    try:
        spec = find_spec(package)
        for folder in (spec.submodule_search_locations if spec else None) or ():
            stated = _VERSION.search(Path(folder, "version.py").read_text(encoding="utf-8"))
            if stated:
                return stated[1].partition("+")[0]
    except (OSError, ValueError, ImportError):
        pass  # not installed, or in an unusual way: use the shipped index
    return None


def same_versions(index: Mapping[str, str], installed: Mapping[str, str]) -> bool:
    """True if an index of the versions `index` is valid for the `installed` versions."""
    return all(index.get(package) == version for package, version in installed.items())


def index_cache_file(installed: Mapping[str, str]) -> Path:
    """The cache file of the index: one file per combination of versions."""
    parts = [f"{package}-{version}" for package, version in sorted(installed.items())]
    name = "-".join([f"index{FORMAT}-zoo-{__version__}", *parts])
    return kind_folder("catalog") / f"{re.sub(r'[^A-Za-z0-9._-]', '_', name)}.json"


# --- models by name ---------------------------------------------------------------------------------------------------


def index_versions() -> dict[str, str]:
    """Versions of timm, torch and torchvision that the index in use was built from."""
    return dict(load_index().versions)


def find(name: str) -> ModelEntry:
    """The catalog entry of a model.

    Args:
        name: "resnet34", "resnet34.a1_in1k", "torchvision/resnet34" or "timm/resnet34". A plain name means timm's model
            if both libraries have it.

    Raises:
        ModelError: no such model or tag, with the nearest names.
    """
    return find_weights(name)[0]


def find_weights(name: str) -> tuple[ModelEntry, str | None]:
    """The catalog entry of a model, and the tag in `name`, None without a tag.

    Deprecated names of timm lead to the model and the tag that replaced them. Raises ModelError as `find`.
    """
    index = load_index()
    plain, dot, tag = name.strip().partition(".")
    resolved = index.resolve(plain)
    if resolved is None and not dot and (current_name := index.renamed(plain)):
        plain, dot, tag = current_name.partition(".")
        resolved = index.resolve(plain)
    if resolved is None:
        raise ModelError(f"no model named {name!r}", _suggest(plain, index))
    entry = index[resolved]
    if not dot:
        return entry, None
    weights = entry.weights(tag)
    if weights is None:
        shown = nearest(tag.lower(), entry.tags, n=5, cutoff=0.3) or list(entry.tags[:5])
        more = f" and {len(entry.tags) - len(shown)} more" if len(entry.tags) > len(shown) else ""
        hint = f"it has {', '.join(shown)}{more}" if shown else f"it has no pretrained weights; use {entry.name}"
        raise ModelError(f"{entry.name} has no weights tagged {tag!r}", hint)
    return entry, weights.tag


def _suggest(plain: str, index: Index) -> str:
    source, slash, rest = plain.lower().partition("/")
    if slash and source not in SOURCES:
        return f"known prefixes: {', '.join(f'{s}/' for s in SOURCES)}; see zoo list"
    if slash:
        similar = [n for n in nearest(rest, index.plain_names(), n=8) if index.resolve(f"{source}/{n}")][:3]
        close = [f"{source}/{n}" for n in similar]
    else:
        close = nearest(rest or source, index.plain_names())
    return did_you_mean(close, more="zoo list shows every model")
