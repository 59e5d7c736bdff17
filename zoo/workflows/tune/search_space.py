"""The search space of `zoo tune`: recipe keys and their possible values, read from YAML and checked.

optimizer.lr: {low: 1e-5, high: 1e-2, log: true}
train.epochs: {low: 5, high: 20, step: 5, int: true}
augment.name: [none, light, strong]
loss: {choices: [{name: focal, params: {gamma: 2}}, {name: cross_entropy}]}
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any

from zoo.errors import RecipeError, UsageError, did_you_mean, nearest
from zoo.recipe import Recipe
from zoo.recipe.files import parse_yaml
from zoo.tasks import TASKS
from zoo.workflows.finetune import validate


@dataclass(frozen=True)
class Range:
    """Numbers from low to high, both included; with step: low, low + step, …; log: on a logarithmic scale."""

    low: float
    high: float
    step: float | None = None
    log: bool = False
    integer: bool = False

    def test_values(self) -> list[float]:
        """Values to check a field with: both ends, and a number between them that is not an integer."""
        if self.integer or self.step is not None:
            return [self.low, self.high]
        return [self.low, self.high, self.low + (self.high - self.low) * 0.38197]

    def values(self) -> list[float] | None:
        """All values; None if the range is continuous."""
        step = self.step or (1 if self.integer else None)
        if step is None:
            return None
        return [self.low + k * step for k in range(math.floor((self.high - self.low) / step + 1e-9) + 1)]


@dataclass(frozen=True)
class Choices:
    """Any YAML values, a whole section included."""

    options: tuple[Any, ...]

    def test_values(self) -> list[Any]:
        return list(self.options)

    def values(self) -> list[Any]:
        return list(self.options)


Space = dict[str, Range | Choices]


def read_space(search: str | Path | Mapping[str, Any]) -> tuple[Space, list[str]]:
    """The space of a YAML file or a mapping, and a line for each entry with an error.

    Raises UsageError if there is no such file, RecipeError if it is not a mapping.
    """
    problems: list[str] = []
    if isinstance(search, Mapping):
        values: Any = search
        where = "search"
    else:
        where = str(search)
        try:
            text = Path(search).read_text(encoding="utf-8")
        except OSError as e:
            raise UsageError(f"search file {where} cannot be read: {e.strerror}", _EXAMPLE) from e
        except UnicodeDecodeError as e:
            raise UsageError(f"search file {where} is not text", _EXAMPLE) from e
        try:
            values = parse_yaml(text, where)
        except RecipeError as e:
            if e.valid_part is None:
                raise
            problems, values = list(e.problems), e.valid_part
    if not isinstance(values, Mapping) or not values:
        raise RecipeError(["the top level must be a mapping of recipe keys to possible values"], _EXAMPLE, where=where)
    space: Space = {}
    for key, entry in values.items():
        found = _entry(str(key), entry)
        if isinstance(found, str):
            problems.append(f"{key}: {found}")
        else:
            space[str(key)] = found
    for key in space:
        problems += [f"{key} is part of {other}; search one of them" for other in space if key.startswith(f"{other}.")]
    return space, problems


_EXAMPLE = "write for example `optimizer.lr: {low: 1e-5, high: 1e-2, log: true}` or `augment.name: [light, strong]`"
_RANGE_KEYS = ("low", "high", "step", "log", "int")
_NOT_SEARCHABLE = {
    "task": "trials of different tasks cannot be compared",
    "train.monitor": "trials are compared by it",
    "description": "it has no effect",
}


def _entry(key: str, entry: Any) -> Range | Choices | str:
    """The range or choices of an entry, or its error."""
    if key in _NOT_SEARCHABLE:
        return f"cannot be searched: {_NOT_SEARCHABLE[key]}"
    if isinstance(entry, list | tuple):
        return _choices(list(entry))
    if not isinstance(entry, Mapping):
        return f"{entry!r} is a single value; give several as [a, b], or low and high"
    unknown = [str(k) for k in entry if k not in (*_RANGE_KEYS, "choices")]
    if unknown and not ({"low", "high", "choices"} & set(entry)):
        return f"neither low and high nor choices; for fields of a section use dotted keys: {key}.{unknown[0]}"
    if unknown:
        close = nearest(unknown[0], [*_RANGE_KEYS, "choices"], n=1)
        return f"unknown {unknown[0]!r}; {did_you_mean(close, 'known: low, high, choices …')}"
    if "choices" in entry:
        if len(entry) > 1:
            return "choices cannot be combined with low, high, step, log or int"
        return _choices(entry["choices"])
    return _range(entry)


def _choices(options: Any) -> Choices | str:
    if not isinstance(options, list | tuple) or not options:
        return "choices must be a list of values"
    duplicates = [option for i, option in enumerate(options) if option in options[:i]]
    return f"duplicate choice {duplicates[0]!r}" if duplicates else Choices(tuple(options))


def _range(entry: Mapping[str, Any]) -> Range | str:
    low: Any = entry.get("low")
    high: Any = entry.get("high")
    step: Any = entry.get("step")
    log, integer = entry.get("log", False), entry.get("int", False)
    if not isinstance(log, bool) or not isinstance(integer, bool):
        return "log and int must be true or false"
    for name, number in (("low", low), ("high", high), ("step", 1 if step is None else step)):
        if problem := _number(number, integer):
            return f"{name} {problem}"
    if not low < high:
        return f"low {low!r} is not below high {high!r}"
    if log and (low <= 0 or step is not None):
        return "log: true cannot have a step" if step is not None else f"log: true needs a low above 0, not {low!r}"
    if step is not None and not 0 < step <= high - low:
        return f"step {step!r} does not fit between {low!r} and {high!r}"
    if step is not None:  # the last value on the grid
        high = low + math.floor((high - low) / step + 1e-9) * step
    kind = int if integer else float
    return Range(kind(low), kind(high), None if step is None else kind(step), log, integer)


def _number(value: Any, integer_only: bool) -> str:
    """The error of a bound, or ""."""
    if value is None:
        return "is missing"
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        return f"must be a number, not {value!r}"
    return f"must be an integer with int: true, not {value!r}" if integer_only and value != int(value) else ""


# --- against the recipe ----------------------------------------------------------------------------------------------


def first_values(space: Space) -> dict[str, Any]:
    return {key: entry.test_values()[0] for key, entry in space.items()}


def check_space(space: Space, make: Callable[[dict[str, Any]], Recipe]) -> list[str]:
    """A line for each error that a trial would raise. Every choice and bound is tried with the first value of the other
    keys. make: values by dotted key → the recipe of a trial.
    """
    start = first_values(space)
    found = dict.fromkeys(_problems(make, start))
    for key, entry in space.items():
        key_problems: dict[str, None] = {}
        for value in entry.test_values():
            new = [p for p in _problems(make, {**start, key: value}) if p not in found]
            if new and isinstance(entry, Range) and value not in (entry.low, entry.high) and not key_problems:
                # A field that accepts both ends and no fraction between them takes integers.
                new = [f"{key}: takes integers; add int: true"]
            key_problems |= dict.fromkeys(new)
        found |= key_problems
        if not key_problems and not _has_effect(make, start, key, entry.test_values()):
            found[f"{key}: it is also given by an option, which overrides it; leave one of them out"] = None
    return list(found)


def _problems(make: Callable[[dict[str, Any]], Recipe], values: dict[str, Any]) -> list[str]:
    found: list[str] = []
    try:
        recipe = make(values)
    except RecipeError as e:
        found += e.problems
        if not isinstance(e.valid_part, Recipe):
            return found
        recipe = e.valid_part
    for error in validate.check_components(recipe, TASKS.get(recipe.task)):
        found += error.problems if isinstance(error, RecipeError) else [error.message]
    return found


def _has_effect(make: Callable[[dict[str, Any]], Recipe], start: dict[str, Any], key: str, values: list[Any]) -> bool:
    """Whether two values of `key` give different recipes."""
    if len(values) < 2:
        return True
    try:
        return make({**start, key: values[0]}) != make({**start, key: values[1]})
    except RecipeError:
        return True  # errors in other keys, which are reported


# --- the whole space -------------------------------------------------------------------------------------------------


def size(space: Space) -> int | None:
    """The number of combinations; None if a range is continuous."""
    counts = [None if (values := entry.values()) is None else len(values) for entry in space.values()]
    return None if None in counts else math.prod(n for n in counts if n is not None)


def combinations(space: Space) -> Iterator[dict[str, Any]]:
    """All combinations of a space that has a `size`."""
    for values in product(*(entry.values() or [] for entry in space.values())):
        yield dict(zip(space, values, strict=True))


def space_record(space: Space) -> dict[str, Any]:
    """The space as JSON values, equal for equal spaces."""
    return {key: {"kind": type(entry).__name__, **vars(entry)} for key, entry in space.items()}
