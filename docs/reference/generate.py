"""Write the pages of this folder from the code: `make reference`.

cli.md: every command with its options. recipe.md: every field of a recipe with its type, default and description.
"""

from __future__ import annotations

import inspect
import textwrap
from collections.abc import Iterator
from pathlib import Path
from types import NoneType
from typing import Any, Literal, get_args, get_origin

import typer
from pydantic import BaseModel
from pydantic.fields import FieldInfo

from zoo.cli import app
from zoo.options import OPTIONS, RECIPE_KEYS, flag
from zoo.recipe import Recipe

FOLDER = Path(__file__).parent
NOTE = "<!-- Written by `make reference` from the code. Do not edit. -->"
WIDTH = 100
INTRO = (
    "`zoo COMMAND --help` prints the same. Results go to stdout, messages to stderr. Results are tables on a terminal, "
    "tab-separated lines in a pipe. Exit codes: 0 success, 1 internal error, 2 usage or recipe, 3 data, 4 model or "
    "weights, 5 training, 6 export, 130 interrupted."
)
_BOUNDS = {"ge": "≥", "gt": ">", "le": "≤", "lt": "<"}
_TYPES = {int: "integer", float: "number", bool: "true or false", str: "text"}
_PLURALS = {int: "integers", str: "texts"}


def cli_page() -> str:
    """Every command: what it does, its arguments and options."""
    group: Any = typer.main.get_command(app)
    lines = ["# Commands", "", NOTE, "", *_wrap(INTRO), ""]
    for name, command in group.commands.items():
        arguments = [p for p in command.params if p.param_type_name == "argument"]
        usage = " ".join(_usage(p) for p in arguments)
        lines += [f"## zoo {name}", "", f"    zoo {name} [OPTIONS] {usage}".rstrip(), ""]
        for paragraph in inspect.cleandoc(command.help).split("\n\n"):
            lines += [*_wrap(" ".join(paragraph.split())), ""]
        panels: dict[str, list[Any]] = {"Arguments": arguments}
        for parameter in command.params:
            if parameter.param_type_name == "option" and parameter.name != "help":
                panels.setdefault(parameter.rich_help_panel or "Options", []).append(parameter)
        for panel, parameters in panels.items():
            if any(p.help for p in parameters):
                lines += [f"{panel}:", "", *(line for p in parameters if p.help for line in _parameter(p)), ""]
    return "\n".join(lines).rstrip() + "\n"


def _usage(argument: Any) -> str:
    text = _metavar(argument)
    return text if argument.required or text.startswith("[") else f"[{text}]"


def _metavar(parameter: Any) -> str:
    return str(parameter.metavar or parameter.name.upper())


def _parameter(parameter: Any) -> Iterator[str]:
    if parameter.param_type_name == "argument":
        names = f"`{_metavar(parameter)}`"
    else:
        words = [*parameter.opts, *parameter.secondary_opts]
        value = "" if parameter.is_flag else f" {_metavar(parameter)}"
        names = ", ".join(f"`{word}{value}`" for word in words)
    text = parameter.help
    if parameter.required:
        text += " (required)"
    elif parameter.default not in (None, False, True, ()) and "(default" not in text:
        text += f" (default: {parameter.default})"
    elif parameter.secondary_opts and parameter.default is not None:
        text += f" (default: {(parameter.opts if parameter.default else parameter.secondary_opts)[0]})"
    yield from _wrap(f"- {names}: {text}", indent="  ")


def recipe_page() -> str:
    """Every field of a recipe."""
    intro = (
        "A field is written in a YAML recipe under its section, or on the command line as "
        "`--set SECTION.FIELD=VALUE`; fields with an option of their own name it. `zoo recipes` lists the shipped "
        "recipes, which set some of the fields to other values than these defaults. `null` unsets a field."
    )
    lines = ["# Recipe fields", "", NOTE, "", *_wrap(intro), ""]
    return "\n".join([*lines, *_section(Recipe, "")]).rstrip() + "\n"


def _section(section: type[BaseModel], before: str) -> Iterator[str]:
    if before:
        yield from (f"## {before[:-1]}", "", *_wrap(" ".join(inspect.cleandoc(section.__doc__ or "").split())), "")
    inner: list[tuple[str, type[BaseModel]]] = []
    for name, field in section.model_fields.items():
        if (found := _section_of(field)) is not None:
            inner.append((f"{before}{name}.", found))
        if found is None or field.description:
            yield from _field(f"{before}{name}", name, field)
    yield ""
    for key, found in inner:
        yield from _section(found, key)


def _field(key: str, name: str, field: FieldInfo) -> Iterator[str]:
    names = [name for name, known in RECIPE_KEYS.items() if known == key]
    default = "required" if field.is_required() else f"default: {_default(field, names)}"
    facts = [_type(field), default, *(f"`{flag(name)}`" for name in names)]
    yield from _wrap(f"- `{name}` ({', '.join(facts)}): {describe(key, field)}", indent="  ")


def describe(key: str, field: FieldInfo) -> str:
    """The description of a field: its own, or that of its option."""
    return field.description or next(OPTIONS[name].help for name, known in RECIPE_KEYS.items() if known == key)


def _default(field: FieldInfo, names: list[str]) -> str:
    value = field.get_default(call_default_factory=True, validated_data={})
    if value is None:
        return next((text for name in names if (text := OPTIONS[name].default)), "not set")
    if value in ("", (), {}):
        return "empty"
    return f"`{str(value).lower() if isinstance(value, bool) else value}`"


def _type(field: FieldInfo) -> str:
    bounds = [
        f"{sign} {getattr(constraint, name)}"
        for constraint in field.metadata
        for name, sign in _BOUNDS.items()
        if hasattr(constraint, name)
    ]
    return " ".join([_type_text(field.annotation), " and ".join(bounds)]).strip()


def _type_text(annotation: Any) -> str:
    if get_origin(annotation) is Literal:
        return " or ".join(f"`{value}`" for value in get_args(annotation))
    if get_origin(annotation) is dict:
        return "mapping"
    if get_origin(annotation) is tuple:
        return f"list of {_PLURALS.get(get_args(annotation)[0], 'sections')}"
    if annotation in _TYPES:
        return _TYPES[annotation]
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return "section"
    return " or ".join(_type_text(part) for part in get_args(annotation) if part is not NoneType)


def _section_of(field: FieldInfo) -> type[BaseModel] | None:
    parts = [field.annotation, *get_args(field.annotation)]
    parts += [inner for part in parts for inner in get_args(part)]
    # On Python 3.10, tuple[str, ...] is a type, which issubclass refuses.
    types = [p for p in parts if isinstance(p, type) and get_origin(p) is None]
    return next((t for t in types if issubclass(t, BaseModel)), None)


def _wrap(text: str, indent: str = "") -> list[str]:
    return textwrap.wrap(text, WIDTH, subsequent_indent=indent, break_long_words=False, break_on_hyphens=False)


PAGES = {"cli.md": cli_page, "recipe.md": recipe_page}

if __name__ == "__main__":
    for file, page in PAGES.items():
        (FOLDER / file).write_text(page(), encoding="utf-8")
