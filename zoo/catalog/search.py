"""Search the catalog by pattern and filters."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from fnmatch import translate
from typing import TYPE_CHECKING, Any

from zoo.catalog.entries import SOURCES, ModelEntry, Pretrained
from zoo.catalog.index import Index, load_index
from zoo.errors import UsageError, nearest

if TYPE_CHECKING:
    from typing_extensions import Unpack

    from zoo.options import Filters

_Value = float | int | None

# Sort keys besides the name: smallest first, unknown values last in both directions.
_SORT_VALUES: dict[str, Callable[[ModelEntry], _Value]] = {
    "params": lambda e: e.params,
    "gmacs": lambda e: e.macs,
    "input": lambda e: e.input_size[1] * e.input_size[2],
    "tags": lambda e: len(e.pretrained),
}
SORTS = ("name", *_SORT_VALUES)

_SUFFIXES = {"": 1, "k": 10**3, "m": 10**6, "b": 10**9, "g": 10**9}


@dataclass(frozen=True)
class PretrainedModel:
    """Pretrained weights with their model."""

    entry: ModelEntry
    weights: Pretrained

    @property
    def name(self) -> str:
        """Model name and tag: "resnet34.a1_in1k"."""
        return f"{self.entry.name}.{self.weights.tag}"

    def to_dict(self) -> dict[str, Any]:
        """All fields, JSON-able. params: of the model with its default head."""
        entry = self.entry
        shared = {"model": entry.name, "source": entry.source, "family": entry.family, "params": entry.params}
        return {"name": self.name, **shared, **self.weights.to_dict()}


def search(pattern: str | None = None, **filters: Unpack[Filters]) -> list[ModelEntry]:
    """The models that match the pattern and all filters.

    Args:
        pattern: glob as for timm's list_models (`*`, `?`, `[abc]`), case-insensitive, over the name without its source:
            "densenet121" also finds torchvision/densenet121. A pattern with a slash is compared with "source/name", one
            with a dot with "name.tag" of the pretrained weights.
        filters: see `zoo.options.Filters`.

    Raises:
        UsageError: an invalid value.
    """
    query = _Query(**filters)
    found = [e for e in _select(pattern, query) if query.size_matches is None or query.size_matches(e.input_size)]
    return found[: query.limit]


def search_weights(pattern: str | None = None, **filters: Unpack[Filters]) -> list[PretrainedModel]:
    """The published weights that match, grouped by model, the default first.

    As `search`, but a pattern with a dot, `license` and `input` apply to each set of weights.
    """
    query = _Query(**filters)
    tagged = _tag_matcher(pattern) if pattern is not None and "." in pattern else None
    found = [
        PretrainedModel(entry, weights)
        for entry in _select(pattern, query)
        for weights in entry.pretrained
        if (query.size_matches is None or query.size_matches(weights.input_size))
        and (query.license_matches is None or query.license_matches(weights.license))
        and (tagged is None or tagged(entry.name, entry.source, weights.tag))
    ]
    return found[: query.limit]


@dataclass
class _Query:
    """Filters, validated and converted to functions."""

    source: str | None = None
    family: str | None = None
    license: str | None = None
    pretrained: bool = False
    min_params: float | str | None = None
    max_params: float | str | None = None
    max_gmacs: float | None = None
    input: int | str | None = None
    sort: str = "name"
    limit: int | None = None

    def __post_init__(self) -> None:
        self.descending, self.key = self.sort.startswith("-"), self.sort.removeprefix("-")
        if self.key not in SORTS:
            known = ", ".join(SORTS)
            raise UsageError(f"cannot sort by {self.sort!r}", f"known: {known}; a - before it reverses, as -params")
        if self.source is not None and self.source not in SOURCES:
            raise UsageError(f"no source named {self.source!r}", f"known: {', '.join(SOURCES)}")
        if self.limit is not None and self.limit < 1:
            raise UsageError(f"limit is {self.limit}", "give at least 1")
        if self.max_gmacs is not None and not self.max_gmacs > 0:
            raise UsageError(f"max_gmacs is {self.max_gmacs}", "give a number above 0, for example 4.1")
        self.size_matches = None if self.input is None else parse_sizes(self.input)
        records = load_index().records()
        licenses = (p.get("license") for r in records for p in r.get("pretrained", ()))
        self.license_matches = None if self.license is None else _matcher(self.license, licenses)
        families = (r["family"] for r in records)
        self._family_matches = None if self.family is None else _matcher(self.family, families)
        self._min_params = None if self.min_params is None else parse_count(self.min_params, "min_params")
        self._max_params = None if self.max_params is None else parse_count(self.max_params, "max_params")

    def matches(self, entry: ModelEntry) -> bool:
        """All filters but that of the input size."""
        return (
            self.source in (None, entry.source)
            and (self._family_matches is None or self._family_matches(entry.family))
            and (self.license_matches is None or any(self.license_matches(p.license) for p in entry.pretrained))
            and (not self.pretrained or bool(entry.pretrained))
            and _within(entry.params, self._min_params, self._max_params)
            and _within(entry.gmacs, None, self.max_gmacs)
        )


def _within(value: float | None, minimum: float | None, maximum: float | None) -> bool:
    """Unknown values are within no limits."""
    if value is None:
        return minimum is None and maximum is None
    return (minimum is None or value >= minimum) and (maximum is None or value <= maximum)


def _select(pattern: str | None, query: _Query) -> list[ModelEntry]:
    """Matching entries in order; without the filter of the input size."""
    index = load_index()
    names = _matching(pattern, index) if pattern is not None else list(index)
    entries = [e for e in map(index.__getitem__, names) if query.matches(e)]
    return _sorted(entries, query.key, query.descending)


def _matcher(wanted: str, known: Iterable[str | None]) -> Callable[[str | None], bool]:
    """A function that matches the glob `wanted`, case-insensitive.

    Without wildcards it matches the whole text if `wanted` is in `known`, else any text that contains `wanted`.
    """
    lowered = wanted.lower()
    if any(c in lowered for c in "*?["):
        matches = re.compile(translate(lowered)).match
        return lambda text: bool(text) and matches(str(text).lower()) is not None
    if lowered in {text.lower() for text in known if text}:
        return lambda text: str(text).lower() == lowered
    return lambda text: bool(text) and lowered in str(text).lower()


def parse_sizes(value: int | str) -> Callable[[tuple[int, int, int]], bool]:
    """A function that tells whether an input size (C, H, W) matches `value`.

    Args:
        value: 224: this height and width. 3x224x224: exactly this size. 160-256: height and width in this range, both
            ends included; one end may be omitted (-256, 384-).

    Raises:
        UsageError: anything else.
    """
    text = str(value).strip().lower().replace("×", "x")
    if found := re.fullmatch(r"(\d+)x(\d+)x(\d+)", text, re.ASCII):
        exact = tuple(map(int, found.groups()))
        return lambda size: size == exact
    if re.fullmatch(r"\d+", text, re.ASCII):
        minimum = maximum = int(text)
    elif found := re.fullmatch(r"(\d*)-(\d*)", text, re.ASCII):
        minimum, maximum = int(found[1] or 0), int(found[2] or 10**9)
    else:
        minimum, maximum = 1, 0
    if minimum > maximum or text == "-":
        raise UsageError(
            f"input: {value!r} is not a size", "write for example 224, 3x224x224, or a range: 160-256, -256, 384-"
        )
    return lambda size: minimum <= min(size[1:]) and max(size[1:]) <= maximum


def _sorted(entries: list[ModelEntry], key: str, descending: bool) -> list[ModelEntry]:
    """Sort `entries`, which are in natural order of names; the sort is stable."""
    if key == "name":
        return entries[::-1] if descending else entries
    value = _SORT_VALUES[key]
    known = [(v, e) for e in entries if (v := value(e)) is not None]
    known.sort(key=lambda pair: -pair[0] if descending else pair[0])
    return [e for _, e in known] + [e for e in entries if value(e) is None]


def _matching(pattern: str, index: Index) -> list[str]:
    """Names that match, in the order of the index."""
    if "." in pattern:
        tagged = _tag_matcher(pattern)
        records = ((name, index.record(name)) for name in index)
        return [n for n, r in records if any(tagged(n, r["source"], p["tag"]) for p in r.get("pretrained", ()))]
    matches = re.compile(translate(pattern.lower())).match
    with_source = "/" in pattern
    return [name for name in index if matches(_name_to_match(name, index.record(name)["source"], with_source))]


def _tag_matcher(pattern: str) -> Callable[[str, str, str], bool]:
    """A function that tells whether a name, its source and a tag match a pattern over "name.tag"."""
    matches, with_source = re.compile(translate(pattern.lower())).match, "/" in pattern
    return lambda name, source, tag: matches(f"{_name_to_match(name, source, with_source)}.{tag.lower()}") is not None


def _name_to_match(name: str, source: str, with_source: bool) -> str:
    plain = name.rpartition("/")[2]
    return f"{source}/{plain}" if with_source else plain


def widen(pattern: str) -> str:
    """`pattern` itself if it has wildcards or is a model name, else `*pattern*`."""
    if any(c in pattern for c in "*?["):
        return pattern
    return pattern if _matching(pattern, load_index()) else f"*{pattern}*"


def nearest_models(pattern: str, n: int = 5) -> list[str]:
    """Model names similar to `pattern` without its wildcards, best first."""
    plain = re.sub(r"[*?\[\]!]", "", pattern.lower()).partition(".")[0].rpartition("/")[2]
    return nearest(plain, load_index().plain_names(), n=n) if plain else []


def parse_count(value: float | str, label: str) -> int:
    """Parse 25000000, "25000000", "25M", "1.5B" or "300k". label: name of the value in the UsageError."""
    text = str(value).strip().lower().replace("_", "").replace(",", "")
    found = re.fullmatch(r"(\d+(?:\.\d*)?|\.\d+)([kmbg]?)", text, re.ASCII)
    if found is None:
        raise UsageError(
            f"{label}: {value!r} is not a number of parameters", "write for example 25M, 1.5B, 300k or 25000000"
        )
    return round(float(found[1]) * _SUFFIXES[found[2]])
