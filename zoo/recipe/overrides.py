"""Plain values, with `--set` and flags over them → a validated Recipe, or every problem."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, get_args

from pydantic import BaseModel, ValidationError

from zoo.errors import RecipeError, UsageError, nearest
from zoo.recipe.files import parse_yaml
from zoo.recipe.recipe import Recipe

__all__ = ["build", "parse_assignments"]


def parse_assignments(assignments: list[str]) -> dict[str, Any]:
    """`["train.epochs=5", "loss.params.gamma=2"]` → dotted key → value, values read as YAML. Raises UsageError."""
    values: dict[str, Any] = {}
    for text in assignments:
        key, equals, value = text.partition("=")
        if not equals or not key.strip():
            raise UsageError(
                f"--set {text!r} is not of the form key=value", "write for example --set optimizer.lr=3e-4"
            )
        values[key.strip()] = parse_yaml(value, f"--set {key.strip()}") if value.strip() else None
    return values


def build(values: Mapping[str, Any], overrides: Mapping[str, Any] | None = None, *, where: str = "recipe") -> Recipe:
    """Validate `values` with dotted `overrides` laid over them.

    Raises RecipeError with every problem: unknown keys with the nearest known key, wrong types, values out of range.
    """
    merged = _copy(values)
    problems: list[str] = []
    for key, value in (overrides or {}).items():
        *parents, last = key.split(".")
        place = merged
        for parent in parents:
            child = place.setdefault(parent, {})
            if child is None:  # an optional section that the recipe leaves out
                child = place[parent] = {}
            if not isinstance(child, dict):
                problems.append(f"{key}: {parent} is not a section")
                break
            place = child
        else:
            place[last] = value
    try:
        recipe = Recipe.model_validate(merged)
    except ValidationError as e:
        problems += [_format_error(error) for error in e.errors()]
        recipe = _drop_invalid(e.errors(), merged)
    if problems:
        raise RecipeError(problems, "`zoo recipes full` shows every key", where=where, valid_part=recipe)
    return recipe


def _drop_invalid(errors: list[Any], values: dict[str, Any]) -> Recipe:
    """The recipe that is left when every value with an error is taken out, so that the others can be checked too."""
    for error in errors:
        place: Any = values
        *parents, last = _keys(error["loc"], values)
        for key in parents:
            place = place[key]
        place.pop(last, None)
    try:
        return Recipe.model_validate(values)
    except ValidationError as e:  # what a validator of a whole section refused
        return _drop_invalid(e.errors(), values)


def _keys(loc: tuple[Any, ...], values: Any) -> list[str]:
    """The part of an error's place that leads through mappings; a list counts as one value."""
    keys: list[str] = []
    for key in loc:
        if not isinstance(values, dict) or not isinstance(key, str) or (keys and key not in values):
            break
        keys.append(key)
        values = values.get(key)
    return keys


def _copy(values: Mapping[str, Any]) -> dict[str, Any]:
    return {k: _copy(v) if isinstance(v, Mapping) else v for k, v in values.items()}


def _format_error(error: Any) -> str:
    """One line for one pydantic error."""
    place = ".".join(str(p) for p in error["loc"] if p not in ("int", "literal['auto']"))
    if error["type"] == "extra_forbidden":
        known = _keys_at(error["loc"][:-1])
        close = nearest(str(error["loc"][-1]), known, n=1)
        elsewhere = [k for k in _all_keys() if k.rsplit(".", 1)[-1] == str(error["loc"][-1])]
        if elsewhere:
            return f"unknown key {place}; did you mean {elsewhere[0]}?"
        if close:
            return f"unknown key {place}; did you mean {'.'.join([*map(str, error['loc'][:-1]), close[0]])}?"
        return f"unknown key {place}; known here: {', '.join(known)}"
    message = error["msg"].removeprefix("Value error, ")
    message = message[0].lower() + message[1:]
    return f"{place}: {message.replace('input should', 'should')}, not {error['input']!r}"


def _keys_at(loc: tuple[Any, ...]) -> list[str]:
    section: Any = Recipe
    for part in loc:
        if not isinstance(part, int):
            section = _section_in(section.model_fields[part].annotation)
    return list(section.model_fields)


def _all_keys(section: type[BaseModel] = Recipe, before: str = "") -> Iterator[str]:
    for name, field in section.model_fields.items():
        inner = _section_in(field.annotation)
        if inner is None:
            yield before + name
        else:
            yield from _all_keys(inner, f"{before}{name}.")


def _section_in(annotation: Any) -> type[BaseModel] | None:
    """The section in the type of a field: itself, optional, or the items of a tuple."""
    for kind in (annotation, *get_args(annotation)):
        if isinstance(kind, type) and issubclass(kind, BaseModel):
            return kind
    return None
