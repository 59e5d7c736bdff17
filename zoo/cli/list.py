"""`zoo list`: which models there are."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Annotated

import typer

from zoo import output
from zoo.errors import UsageError

if TYPE_CHECKING:
    from zoo.catalog import ModelEntry

__all__ = ["list_models"]


def list_models(
    pattern: Annotated[
        str | None, typer.Argument(help='glob over model names, as "*densenet*"; without wildcards: a part of a name')
    ] = None,
    *,
    source: Annotated[str | None, typer.Option(metavar="NAME", help="only timm, torchvision or builtin")] = None,
    pretrained: Annotated[bool, typer.Option("--pretrained", help="only models with published weights")] = False,
    max_params: Annotated[str | None, typer.Option(metavar="N", help="parameters at most: 25M, 300k, 1.5B")] = None,
    sort: Annotated[
        str, typer.Option(metavar="KEY", help="name, params, gmacs, input or tags; -params: largest first")
    ] = "name",
    limit: Annotated[int | None, typer.Option(metavar="N", help="only the first N")] = None,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="names only")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="everything known of each model, as JSON")] = False,
) -> None:
    """List models of timm, torchvision and zoo itself.

    In a pipe: tab-separated name, source, parameters, GMACs, input size (CxHxW), number of pretrained weights.
    """
    from zoo.catalog import widen
    from zoo.workflows.list_models import search_models

    found = search_models(pattern, source=source, pretrained=pretrained, sort=sort, limit=limit, max_params=max_params)
    if not found:
        raise _no_match(pattern)
    if pattern is not None and (wider := widen(pattern)) != pattern:
        output.note(f"no model is named {pattern!r}: listing the names that contain it, as for {wider!r}")
    if as_json:
        output.print_json([entry.to_dict() for entry in found])
    elif quiet:
        output.print_lines(entry.name for entry in found)
    elif output.is_terminal(sys.stdout):
        _show_table(found)
        output.note(f"{len(found):,} model{'s' if len(found) > 1 else ''}")
    else:
        output.print_tsv(
            (e.name, e.source, e.params, e.gmacs, "x".join(map(str, e.input_size)), len(e.pretrained)) for e in found
        )


# Column → the cell of a model. Three digits are enough for a person; a pipe gets the exact numbers.
_COLUMNS: dict[str, Callable[[ModelEntry], str]] = {
    "name": lambda e: e.name,
    "source": lambda e: e.source,
    "params": lambda e: "" if e.params is None else f"{e.params / 1e6:.2f} M",
    "GMACs": lambda e: "" if e.gmacs is None else f"{e.gmacs:.2f}",
    "input": lambda e: "x".join(map(str, e.input_size)),
    "weights": lambda e: str(len(e.pretrained) or ""),
}
_NUMBERS = ("params", "GMACs", "weights")
# Left out in this order where the terminal is too narrow; a torchvision name shows its source anyway.
_SPARE = ("source", "weights", "input", "GMACs")


def _show_table(found: Sequence[ModelEntry]) -> None:
    columns = {title: [cell(entry) for entry in found] for title, cell in _COLUMNS.items()}
    width = shutil.get_terminal_size().columns
    for spare in _SPARE:
        # Between two columns the table puts three spaces, and one at either end.
        needed = sum(max(len(title), *map(len, cells)) + 3 for title, cells in columns.items()) - 1
        if needed <= width:
            break
        del columns[spare]
    output.print_table(
        list(columns),
        zip(*columns.values(), strict=True),
        right=[i for i, title in enumerate(columns) if title in _NUMBERS],
    )


def _no_match(pattern: str | None) -> UsageError:
    from zoo.catalog import SOURCES, nearest_models, search, widen

    matching = search(None if pattern is None else widen(pattern))
    if pattern is None or matching:
        return UsageError(
            f"none of the {len(matching):,} models{f' matching {pattern!r}' if pattern else ''} is left",
            "widen or drop --source, --pretrained and --max-params",
        )
    if pattern.lower() in SOURCES:
        hint = f"for all of {pattern.lower()}'s models write: zoo list --source {pattern.lower()}"
    elif near := nearest_models(pattern):
        hint = f"did you mean {', '.join(near)}?"
    else:
        hint = "zoo list shows every model"
    return UsageError(f"no model matches {pattern!r}", hint)
