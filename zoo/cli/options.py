"""Typer parameters from the declarations in zoo.options, and parameters that several commands share."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, get_args, get_origin

import typer

from zoo.cli.completion import complete_model, complete_recipe
from zoo.errors import UsageError
from zoo.imports import gc_paused
from zoo.options import GROUPS, OPTIONS, Option, declared

if TYPE_CHECKING:
    from zoo.data.schema.columns import Columns

_Command = Callable[..., None]
# Name of an option → heading of its group, type of the Python keyword, declaration.
_DECLARED: dict[str, tuple[str, Any, Option]] = {
    name: (panel, *declaration) for panel, group in GROUPS.items() for name, declaration in declared(group).items()
}

DataArgument = Annotated[str, typer.Argument(metavar="DATA", help=OPTIONS["data"].help)]
ModelArgument = Annotated[
    str | None,
    typer.Argument(
        metavar="MODEL",
        help="model name from `zoo list`; optional if the recipe names one",
        autocompletion=complete_model,
    ),
]
ModelOption = Annotated[
    str | None,
    typer.Option(
        "--model",
        metavar="MODEL",
        help="model name from `zoo list` (default: the recipe's)",
        autocompletion=complete_model,
    ),
]
RECIPE_ARGUMENT = typer.Argument(
    metavar="RECIPE", help="name from `zoo recipes`, YAML file or run", autocompletion=complete_recipe
)
RunArgument = Annotated[str, typer.Argument(metavar="RUN", help="directory of a run")]
BatchSize = Annotated[int, typer.Option("--batch-size", "-b", metavar="N", help="images per batch")]
Json = Annotated[bool, typer.Option("--json", help="print the result as JSON on stdout")]
PlotFile = Annotated[Path | None, typer.Option("--plot", metavar="FILE", help="draw the curves into this PNG file")]


def output_dir_option(help: str) -> typer.models.OptionInfo:
    """`--output-dir DIR`, `-o DIR`."""
    info: typer.models.OptionInfo = typer.Option("--output-dir", "-o", metavar="DIR", help=help)
    return info


def takes(*wanted: str | type, **defaults: str) -> Callable[[_Command], _Command]:
    """Decorator that adds options of zoo.options; the command receives those that the user has given as keywords:

        @takes(DataOptions, "seed", device="the fastest")
        def command(model: ModelArgument, *, as_json: Json = False, **options: Unpack[Options]) -> None: ...

    Args:
        wanted: names of options, or whole groups.
        defaults: further options, by name, with the default that `--help` shows for this command.
    """
    names = [*defaults, *(name for item in wanted for name in ([item] if isinstance(item, str) else declared(item)))]

    def decorate(command: _Command) -> _Command:
        # typing.get_type_hints would wrap annotations with a default of None in Optional on Python 3.10.
        own = [
            p.replace(kind=p.KEYWORD_ONLY)
            for p in inspect.signature(command, eval_str=True).parameters.values()
            if p.kind is not p.VAR_KEYWORD
        ]
        shared = [_parameter(name, defaults.get(name)) for name in _DECLARED if name in names]

        @functools.wraps(command)
        def parsed(**values: Any) -> None:
            given = {p.name: values.pop(p.name) for p in shared}
            command(**values, **_parse(given))

        parsed.__signature__ = inspect.Signature([*own, *shared])  # type: ignore[attr-defined]
        parsed.__annotations__ = {p.name: p.annotation for p in (*own, *shared)}
        return parsed

    return decorate


def _parameter(name: str, default: str | None) -> inspect.Parameter:
    panel, annotation, option = _DECLARED[name]
    shown = default or option.default
    info = typer.Option(
        *option.flags,
        help=option.help if shown is None else f"{option.help} (default: {shown})",
        metavar=option.metavar,
        rich_help_panel=panel,
        autocompletion=complete_recipe if option.completion == "recipe" else None,
    )
    kind = inspect.Parameter.KEYWORD_ONLY
    return inspect.Parameter(name, kind, default=None, annotation=Annotated[_cli_type(annotation), info])


def _cli_type(annotation: Any) -> Any:
    """The type that Typer parses, from the type of the Python keyword; a list for options that may be repeated."""
    members = get_args(annotation) or (annotation,)
    if any(get_origin(member) in (Sequence, Mapping) for member in members):
        return list[str] | None
    return str | None if str in members else members[0] | None


def _parse(values: Mapping[str, Any]) -> dict[str, Any]:
    """Convert values of the command line to keyword arguments of the Python API. Raises UsageError."""
    options: dict[str, Any] = {}
    for name, value in values.items():
        if value is None or value == []:
            continue
        *_, option = _DECLARED[name]
        if name == "settings":
            with gc_paused():
                from zoo.recipe import parse_assignments
            options[name] = parse_assignments(value)
        else:
            options[name] = value if option.minimum is None else _number_or_auto(option, value)
    return options


def _number_or_auto(option: Option, text: str) -> int | str:
    if text == "auto":
        return text
    try:
        return int(text)
    except ValueError:
        raise UsageError(
            f"{option.flags[0]} {text!r} is neither a number nor auto", f"give {option.minimum} or more, or auto"
        ) from None


def pop_columns(options: dict[str, Any]) -> Columns:
    """Remove the table columns from `options` and return them."""
    from zoo.data.schema.columns import Columns

    return Columns(
        options.pop("image_column", None),
        tuple(options.pop("label_column", ())),
        options.pop("label_separator", None),
        options.pop("split_column", None),
    )
