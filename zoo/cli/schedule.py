"""`zoo schedule`: the learning rates of a run, before it is trained."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from zoo import output
from zoo.cli.completion import complete_model, complete_recipe

if TYPE_CHECKING:
    from zoo.workflows.schedule import ScheduleCurves

__all__ = ["schedule"]

_COLUMNS = 8  # of rates on a terminal; neighbours with the same rates share one


def schedule(
    recipe: Annotated[
        str | None,
        typer.Argument(
            metavar="RECIPE", help="a name from `zoo recipes`, a file or a run", autocompletion=complete_recipe
        ),
    ] = None,
    model: Annotated[
        str | None,
        typer.Option(help="a name from `zoo list` (default: the recipe's)", autocompletion=complete_model),
    ] = None,
    data: Annotated[str | None, typer.Option(metavar="PATH|NAME", help="as for finetune (default: digits)")] = None,
    freeze: Annotated[str | None, typer.Option(metavar="PLAN", help="as for finetune")] = None,
    assignments: Annotated[
        list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="any recipe field")
    ] = None,
    epochs: Annotated[int | None, typer.Option("--epochs", "-e", help="passes over the training images")] = None,
    batch_size: Annotated[int | None, typer.Option("--batch-size", "-b", help="images a step")] = None,
    lr: Annotated[float | None, typer.Option(help="learning rate")] = None,
    head_lr: Annotated[float | None, typer.Option(help="learning rate of the head")] = None,
    layer_decay: Annotated[float | None, typer.Option(help="factor on the rate for each group below the head")] = None,
    opt: Annotated[str | None, typer.Option(help="optimizer, or module:attribute")] = None,
    sched: Annotated[str | None, typer.Option(help="schedule, or module:attribute")] = None,
    warmup_epochs: Annotated[float | None, typer.Option(help="epochs of linear rise before the schedule")] = None,
    plot: Annotated[Path | None, typer.Option(metavar="FILE", help="draw the curves there, as PNG")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="every update's rates as JSON on stdout")] = False,
) -> None:
    """Show the learning rates that finetune would use with the same recipe and flags. Nothing is trained.

    In a pipe: a line for each epoch, with the rate that each group begins it with, under a line of names.
    """
    from zoo.recipe import parse_assignments
    from zoo.workflows.schedule import schedule as run_schedule
    from zoo.workflows.settle import Options

    options = Options(
        data=data, freeze=freeze, epochs=epochs, batch_size=batch_size, lr=lr, head_lr=head_lr,
        layer_decay=layer_decay, opt=opt, sched=sched, warmup_epochs=warmup_epochs,
        settings=parse_assignments(assignments or []),
    )  # fmt: skip
    found = run_schedule(recipe, model=model, plot=plot, **options)
    if as_json:
        output.print_json(found.to_dict())
    elif output.is_terminal(sys.stdout):
        names, rows = _shared(found)
        title = f"{found.name}: {found.epochs} epochs of {found.updates:,} updates" + (
            f", {found.warmup:,} updates of warm-up" if found.warmup else ""
        )
        output.print_table(("epoch", *names), rows, title=title, right=range(len(names) + 1))
    else:
        output.print_tsv([("epoch", *found.names)])
        output.print_tsv((i + 1, *(f"{v:.6g}" for v in row)) for i, row in enumerate(found.by_epoch()))
    for text in found.notes:
        output.note(text)
    if found.plot is not None:
        output.note(f"curves drawn: {found.plot}")


def _shared(found: ScheduleCurves) -> tuple[list[str], list[list[str]]]:
    """Columns of groups whose rates agree throughout; the middle ones are left out if they are too many."""
    columns: dict[tuple[float, ...], list[str]] = {}
    for name, rates in zip(found.names, found.rates, strict=True):
        columns.setdefault(rates, []).append(name)
    names = [n[0] if len(n) == 1 else f"{n[0]} … {n[-1]}" for n in columns.values()]
    shown = list(range(len(names)))
    if len(names) > _COLUMNS:
        shown = [*shown[: _COLUMNS // 2], *shown[-(_COLUMNS // 2) :]]
    curves = list(columns)
    rows = [
        [str(epoch + 1), *(f"{curves[i][epoch * found.updates]:.3g}" for i in shown)] for epoch in range(found.epochs)
    ]
    return [names[i] for i in shown], rows
