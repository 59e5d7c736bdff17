"""The index: which models exist. Reading it imports the json module and nothing heavier."""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Iterator, Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

from zoo.catalog.entries import SOURCES, ModelEntry, from_record
from zoo.catalog.installed import index_cache_file, installed_versions, same_versions
from zoo.errors import ModelError, nearest

__all__ = [
    "FORMAT",
    "INDEX",
    "Index",
    "find",
    "find_weights",
    "index_versions",
    "load_index",
    "natural_key",
    "shipped_index",
    "use_index",
]

FORMAT = 1
INDEX = Path(__file__).with_name("index.json")


def natural_key(name: str) -> list[tuple[int, str]]:
    """Sort key that puts resnet18 before resnet101."""
    return [(int(part), "") if part.isdigit() else (-1, part) for part in re.split(r"(\d+)", name.lower()) if part]


class Index:
    """The records of an index file by name, in natural order; an entry is made when it is asked for."""

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
        """The raw record, for filters that look at every model."""
        return self._records[name]

    def records(self) -> Collection[Mapping[str, Any]]:
        return self._records.values()

    def resolve(self, name: str) -> str | None:
        """The name under which the index holds what a user may call `name`, which has no tag; None if there is none.

        A plain name is the built-in model's, else timm's, else torchvision's; `SOURCE/NAME` asks for one library. Case
        does not matter. `resnet34` is in timm and in torchvision: alone it is timm's.
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
        """The `name.tag` of today for a name that timm has given up."""
        return self.renamings.get(name.lower().removeprefix("timm/"))

    def plain_names(self) -> list[str]:
        """Every name that `resolve` takes without a source, for suggestions."""
        return list(dict.fromkeys(name.rpartition("/")[2] for name in self._records))


# The one index of this process; empty until it is asked for.
_CURRENT: list[Index] = []


def load_index() -> Index:
    """The index of the installed libraries if there is one, else the shipped one; read once a process.

    `zoo.catalog.refresh` makes it where it is missing.
    """
    if not _CURRENT:
        shipped, installed = shipped_index(), installed_versions()
        use_index(shipped if same_versions(shipped.versions, installed) else _cached_index(installed) or shipped)
    return _CURRENT[0]


def use_index(index: Index | None) -> None:
    """What `load_index` gives from now on in this process; None: what lies on the disk, read again."""
    _CURRENT[:] = [] if index is None else [index]


@lru_cache(maxsize=1)
def shipped_index() -> Index:
    return Index(INDEX.read_text(encoding="utf-8"))


def _cached_index(installed: Mapping[str, str]) -> Index | None:
    """None if there is no such file, or a damaged one, or one that says other versions than its name."""
    try:
        index = Index(index_cache_file(installed, FORMAT).read_text(encoding="utf-8"))
        for name in index:
            index[name]  # a damaged record is found here, and not where it is used
    except (OSError, ValueError, KeyError, TypeError, AttributeError, IndexError):
        return None
    return index if same_versions(index.versions, installed) else None


def index_versions() -> dict[str, str]:
    """Versions of timm, torch and torchvision that the index in use was built from."""
    return dict(load_index().versions)


def find(name: str) -> ModelEntry:
    """The model called `name`: "resnet34", "resnet34.a1_in1k", "torchvision/resnet34", "timm/resnet34".

    A plain name is timm's where both libraries have it, and torchvision's where only that has it. A tag after the dot
    must be one of the model's; `find_weights` also returns it. Raises ModelError, with the nearest names, if there is
    none.
    """
    return find_weights(name)[0]


def find_weights(name: str) -> tuple[ModelEntry, str | None]:
    """The model called `name` and the tag of weights that the name asks for, None if it has no tag.

    Names that timm has given up lead to the model and the tag that replaced them. Raises ModelError as `find` does,
    also if the model has no weights of that tag, or if the prefix is not a source.
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
        hint = f"it has {', '.join(shown)}{more}" if shown else f"it has no pretrained weights; write {entry.name}"
        raise ModelError(f"{entry.name} has no weights tagged {tag!r}", hint)
    return entry, weights.tag


def _suggest(plain: str, index: Index) -> str:
    source, slash, rest = plain.lower().partition("/")
    if slash and source not in SOURCES:
        return f"a name may start with {', '.join(f'{s}/' for s in SOURCES)}; see zoo list"
    if slash:
        similar = [n for n in nearest(rest, index.plain_names(), n=8) if index.resolve(f"{source}/{n}")][:3]
        close = [f"{source}/{n}" for n in similar]
    else:
        close = nearest(rest or source, index.plain_names())
    return (f"did you mean {', '.join(close)}? " if close else "") + "zoo list shows every model"
