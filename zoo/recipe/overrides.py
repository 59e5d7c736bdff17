"""Plain values, with `--set` and flags applied on top → a validated Recipe, or every problem."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, get_args, get_origin

from pydantic import BaseModel, ValidationError

from zoo.errors import RecipeError, UsageError, did_you_mean, nearest
from zoo.recipe.files import parse_yaml
from zoo.recipe.recipe import Recipe

# Keys and values of older versions, with what replaced them.
_RENAMED_KEYS = {
    "data.levels": "data.intensity_range",
    "optimizer.lr_batch": "optimizer.lr_base_size",
    "train.features": "train.feature_cache",
    "train.solver": "train.linear_probe",
    "transfer.head_epochs": "transfer.probe_epochs",
    "transfer.head_lr": "transfer.probe_lr",
}
_RENAMED_VALUES = {
    "data.image_cache": {"keep": "on"},
    "train.feature_cache": {"keep": "on", "recompute": "off"},
    "train.linear_probe": {"direct": "on", "steps": "off"},
}


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
    """Validate `values` with dotted `overrides` applied on top.

    Args:
        values: sections as nested mappings, as in a YAML file.
        overrides: dotted key → value, such as `{"train.epochs": 5}`.
        where: name of the recipe in error messages.

    Raises:
        RecipeError: every problem: unknown keys with the nearest known key, wrong types, values out of range. Its
            `valid_part` is the recipe without the values that have errors.
    """
    merged = _copy(values)
    problems: list[str] = []
    for key, value in (overrides or {}).items():
        *parents, last = key.split(".")
        section = merged
        for parent in parents:
            child = section.setdefault(parent, {})
            if child is None:  # an optional section that the recipe leaves out
                child = section[parent] = {}
            if not isinstance(child, dict):
                problems.append(f"{key}: {parent} is not a section")
                break
            section = child
        else:
            section[last] = value
    try:
        recipe = Recipe.model_validate(merged)
    except ValidationError as e:
        problems += [_format_error(error) for error in e.errors()]
        recipe = _drop_invalid(e.errors(), merged)
    if problems:
        raise RecipeError(problems, "`zoo recipes full` shows every key", where=where, valid_part=recipe)
    return recipe


def _drop_invalid(errors: list[Any], values: dict[str, Any]) -> Recipe:
    """The recipe without the values that have errors, so that the others can be checked too."""
    for error in errors:
        section: Any = values
        *parents, last = _keys(error["loc"], values)
        for key in parents:
            section = section[key]
        section.pop(last, None)
    try:
        return Recipe.model_validate(values)
    except ValidationError as e:  # errors of validators of whole sections
        return _drop_invalid(e.errors(), values)


def _keys(loc: tuple[Any, ...], values: Any) -> list[str]:
    """The part of an error's location that leads through mappings; a list counts as one value."""
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
    key = ".".join(str(p) for p in error["loc"] if p not in ("int", "literal['auto']"))
    if error["type"] == "extra_forbidden":
        *section, name = map(str, error["loc"])
        known = _keys_at(error["loc"][:-1])
        close = [_RENAMED_KEYS[key]] if key in _RENAMED_KEYS else []
        close += [k for k in _all_keys() if k.rsplit(".", 1)[-1] == name]
        close += [".".join([*section, k]) for k in nearest(name, known, n=1)]
        hint = did_you_mean(close[:1], f"known here: {', '.join(known)}")
        return f"unknown key {key}; {hint}"
    message = error["msg"].removeprefix("Value error, ")
    message = message[0].lower() + message[1:]
    renamed = _RENAMED_VALUES.get(key, {}).get(str(error["input"]))
    suggestion = f"; did you mean {renamed}?" if renamed else ""
    return f"{key}: {message.replace('input should', 'should')}, not {error['input']!r}{suggestion}"


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
        # get_origin: Python 3.10 takes tuple[str, ...] for a type
        if isinstance(kind, type) and not get_origin(kind) and issubclass(kind, BaseModel):
            return kind
    return None
