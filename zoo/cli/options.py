"""The options of zoo.options as parameters of Typer commands, and the parameters that several commands share."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, get_args, get_origin, get_type_hints

import typer

from zoo.cli.completion import complete_model, complete_recipe
from zoo.errors import UsageError
from zoo.imports import gc_paused
from zoo.options import GROUPS, OPTIONS, flag

if TYPE_CHECKING:
    from zoo.data.schema.columns import Columns

__all__ = [
    "BatchSize", "DataArgument", "Json", "ModelArgument", "PlotFile", "RunArgument", "output_dir_option", "pop_columns",
    "takes",
]  # fmt: skip

_Command = Callable[..., None]

DataArgument = Annotated[str, typer.Argument(metavar="DATA", help=OPTIONS["data"].help)]
ModelArgument = Annotated[
    str | None,
    typer.Argument(help="model name from `zoo list`; optional if the recipe names one", autocompletion=complete_model),
]
RunArgument = Annotated[str, typer.Argument(metavar="RUN", help="directory of a run")]
BatchSize = Annotated[int, typer.Option("--batch-size", "-b", metavar="N", help="images per batch")]
Json = Annotated[bool, typer.Option("--json", help="print the result as JSON on stdout")]
PlotFile = Annotated[Path | None, typer.Option("--plot", metavar="FILE", help="draw the curves into this PNG file")]


def output_dir_option(help: str) -> typer.models.OptionInfo:
    """`--output-dir DIR`, `-o DIR`."""
    info: typer.models.OptionInfo = typer.Option("--output-dir", "-o", metavar="DIR", help=help)
    return info


def takes(*wanted: str | type, **defaults: str) -> Callable[[_Command], _Command]:
    """Decorator: give a command options of zoo.options, in addition to the parameters of its own.

    The command gets those that the user has given as keywords, as the Python API takes them:

        @takes(DataOptions, "seed", device="the fastest")
        def command(model: ModelArgument, *, as_json: Json = False, **options: Unpack[Options]) -> None: ...

    Args:
        wanted: names of options, or whole groups.
        defaults: further names, each with the default that `--help` shows in the place of the usual one.
    """
    names = [*defaults, *(name for item in wanted for name in ([item] if isinstance(item, str) else _names(item)))]

    def decorate(command: _Command) -> _Command:
        hints = get_type_hints(command, include_extras=True)
        own = [
            p.replace(annotation=hints[p.name], kind=p.KEYWORD_ONLY)
            for p in inspect.signature(command).parameters.values()
            if p.kind is not p.VAR_KEYWORD
        ]
        shared = [
            inspect.Parameter(
                name, inspect.Parameter.KEYWORD_ONLY, default=None,
                annotation=Annotated[_cli_type(hint.__origin__), _typer_option(name, panel, defaults.get(name))],
            )
            for panel, group in GROUPS.items()
            for name, hint in get_type_hints(group, include_extras=True).items()
            if name in names
        ]  # fmt: skip

        @functools.wraps(command)
        def parsed(**values: Any) -> None:
            given = {p.name: values.pop(p.name) for p in shared}
            command(**values, **_parse(given))

        parsed.__signature__ = inspect.Signature([*own, *shared])  # type: ignore[attr-defined]
        parsed.__annotations__ = {p.name: p.annotation for p in (*own, *shared)}
        return parsed

    return decorate


def _names(group: type) -> list[str]:
    return list(get_type_hints(group))


def _typer_option(name: str, panel: str, default: str | None) -> typer.models.OptionInfo:
    option = OPTIONS[name]
    is_switch = bool in get_args(get_type_hints(GROUPS[panel])[name])
    shown = default or option.default
    info: typer.models.OptionInfo = typer.Option(
        *(option.flags or (f"{flag(name)}/--no-{flag(name)[2:]}" if is_switch else flag(name),)),
        help=option.help if shown is None else f"{option.help} (default: {shown})",
        metavar=option.metavar,
        rich_help_panel=panel,
        autocompletion=complete_recipe if option.completion == "recipe" else None,
    )
    return info


def _cli_type(annotation: Any) -> Any:
    """The type that Typer parses for a type of the Python API: one value, or a list for what may be repeated."""
    members = get_args(annotation)
    if any(get_origin(member) in (Sequence, Mapping) for member in members):
        return list[str] | None
    return str | None if str in members else members[0] | None


def _parse(values: Mapping[str, Any]) -> dict[str, Any]:
    """What was given on the command line, as the Python API takes it. Raises UsageError."""
    options: dict[str, Any] = {}
    for name, value in values.items():
        if value is None or value == []:
            continue
        minimum = OPTIONS[name].minimum
        if name == "settings":
            with gc_paused():
                from zoo.recipe import parse_assignments
            options[name] = parse_assignments(value)
        else:
            options[name] = value if minimum is None else _number_or_auto(flag(name), value, minimum)
    return options


def _number_or_auto(name: str, text: str, minimum: int) -> int | str:
    if text == "auto":
        return text
    try:
        return int(text)
    except ValueError:
        raise UsageError(f"{name} {text!r} is neither a number nor auto", f"give {minimum} or more, or auto") from None


def pop_columns(options: dict[str, Any]) -> Columns:
    """The columns of a table among `options`, taken out of them."""
    from zoo.data.schema.columns import Columns

    return Columns(
        options.pop("image_column", None),
        tuple(options.pop("label_column", ())),
        options.pop("label_separator", None),
        options.pop("split_column", None),
    )
