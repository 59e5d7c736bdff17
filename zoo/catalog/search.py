"""Which models match a pattern and limits, in which order."""

from __future__ import annotations

import re
from collections.abc import Callable
from fnmatch import translate

from zoo.catalog.entries import SOURCES, ModelEntry
from zoo.catalog.index import Index, load_index
from zoo.errors import UsageError, nearest

__all__ = ["SORTS", "nearest_models", "parse_count", "search", "widen"]

_Value = float | int | None

# Besides the name, what can be sorted by: smallest first, unknown values last in either direction.
_SORT_VALUES: dict[str, Callable[[ModelEntry], _Value]] = {
    "params": lambda e: e.params,
    "gmacs": lambda e: e.macs,
    "input": lambda e: e.input_size[1] * e.input_size[2],
    "tags": lambda e: len(e.pretrained),
}
SORTS = ("name", *_SORT_VALUES)

_SUFFIXES = {"": 1, "k": 10**3, "m": 10**6, "b": 10**9, "g": 10**9}


def search(
    pattern: str | None = None,
    *,
    source: str | None = None,
    pretrained: bool = False,
    sort: str = "name",
    limit: int | None = None,
    max_params: float | str | None = None,
) -> list[ModelEntry]:
    """The models that match all of what is given, possibly none.

    pattern: a glob as timm's list_models takes it (`*`, `?`, `[abc]`), case aside, over the whole name without its
    source, so that "densenet121" also gives torchvision/densenet121; a pattern with a slash is compared with
    "source/name". One with a dot is compared with "name.tag" of the pretrained weights, and gives the models that
    have such a tag. source: "timm", "torchvision" or "builtin". pretrained: only models with published weights. sort:
    one of `SORTS`, ascending, `-` before it descending; ties by name, in which resnet18 comes before resnet101.
    limit: keep the first so many. max_params: parameters at most, a number or "25M"; models of unknown size are left
    out.

    Raises UsageError if a value is not one of those.
    """
    descending, key = sort.startswith("-"), sort.removeprefix("-")
    if key not in SORTS:
        raise UsageError(f"cannot sort by {sort!r}", f"known: {', '.join(SORTS)}; a - before it reverses, as -params")
    if source is not None and source not in SOURCES:
        raise UsageError(f"no source named {source!r}", f"known: {', '.join(SOURCES)}")
    if limit is not None and limit < 1:
        raise UsageError(f"limit is {limit}", "give at least 1")
    most = None if max_params is None else parse_count(max_params, "max_params")

    index = load_index()
    names = _matching(pattern, index) if pattern is not None else list(index)
    entries = [
        entry
        for entry in map(index.__getitem__, names)
        if (source is None or entry.source == source)
        and (not pretrained or entry.pretrained)
        and (most is None or (entry.params is not None and entry.params <= most))
    ]
    return _sorted(entries, key, descending)[:limit]


def _sorted(entries: list[ModelEntry], key: str, descending: bool) -> list[ModelEntry]:
    """`entries` come in natural order of their names, which a stable sort keeps among equals."""
    if key == "name":
        return entries[::-1] if descending else entries
    value = _SORT_VALUES[key]
    known = [(v, e) for e in entries if (v := value(e)) is not None]
    known.sort(key=lambda pair: -pair[0] if descending else pair[0])
    return [e for _, e in known] + [e for e in entries if value(e) is None]


def _matching(pattern: str, index: Index) -> list[str]:
    """Names that match, in the index's order."""
    matches = re.compile(translate(pattern.lower())).match
    with_source, with_tag = "/" in pattern, "." in pattern
    found = []
    for name in index:
        record = index.record(name)
        compared = name.rpartition("/")[2]
        if with_source:
            compared = f"{record['source']}/{compared}"
        if with_tag:
            hit = any(matches(f"{compared}.{p['tag'].lower()}") for p in record.get("pretrained", ()))
        else:
            hit = matches(compared) is not None
        if hit:
            found.append(name)
    return found


def widen(pattern: str) -> str:
    """What a person means by `pattern`: itself if it has wildcards or is a name, else every name that holds it."""
    if any(c in pattern for c in "*?["):
        return pattern
    return pattern if _matching(pattern, load_index()) else f"*{pattern}*"


def nearest_models(pattern: str, n: int = 5) -> list[str]:
    """Names of models like `pattern`, whose wildcards are set aside; best first, possibly none."""
    plain = re.sub(r"[*?\[\]!]", "", pattern.lower()).partition(".")[0].rpartition("/")[2]
    return nearest(plain, load_index().plain_names(), n=n) if plain else []


def parse_count(value: float | str, label: str) -> int:
    """25000000, "25000000", "25M", "1.5B", "300k" → 25000000, …; `label` names the value in the UsageError."""
    text = str(value).strip().lower().replace("_", "").replace(",", "")
    found = re.fullmatch(r"(\d+(?:\.\d*)?|\.\d+)([kmbg]?)", text, re.ASCII)
    if found is None:
        raise UsageError(
            f"{label}: {value!r} is not a number of parameters", "write for example 25M, 1.5B, 300k or 25000000"
        )
    return round(float(found[1]) * _SUFFIXES[found[2]])
