"""`zoo schedule`: the learning rates of a run, before it is trained."""

from __future__ import annotations

import math
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from zoo import console
from zoo.cli.completion import complete_model, complete_recipe
from zoo.cli.options import number_or_auto

if TYPE_CHECKING:
    from zoo.workflows.schedule import ScheduleCurves

__all__ = ["schedule"]

_COLUMNS = 8  # of rates on a terminal; groups with the same rates share one
_ROWS = 24


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
    val: Annotated[str | None, typer.Option(metavar="PATH", help="as for finetune")] = None,
    task: Annotated[str | None, typer.Option(help="single-label, multi-label or regression")] = None,
    in_chans: Annotated[int | None, typer.Option(help="input channels")] = None,
    img_size: Annotated[int | None, typer.Option(help="pixels (default: the model's)")] = None,
    freeze: Annotated[
        str | None, typer.Option(metavar="PLAN", help="none, backbone, N groups, a group, or globs")
    ] = None,
    assignments: Annotated[
        list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="any recipe field")
    ] = None,
    epochs: Annotated[int | None, typer.Option(help="passes over the data")] = None,
    batch_size: Annotated[
        str | None, typer.Option("--batch-size", "-b", metavar="N|auto", help="images a step; auto: measured")
    ] = None,
    grad_accum_steps: Annotated[int | None, typer.Option(help="batches an optimizer step")] = None,
    lr: Annotated[float | None, typer.Option(help="learning rate")] = None,
    head_lr: Annotated[float | None, typer.Option(help="learning rate of the head")] = None,
    layer_decay: Annotated[float | None, typer.Option(help="factor on the rate a group further from the head")] = None,
    opt: Annotated[str | None, typer.Option(help="optimizer, or module:attribute")] = None,
    sched: Annotated[str | None, typer.Option(help="schedule, or module:attribute")] = None,
    warmup_epochs: Annotated[float | None, typer.Option(help="linear rise before the schedule")] = None,
    plot: Annotated[Path | None, typer.Option(metavar="FILE", help="draw the curves there, as PNG")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="every update's rates as JSON on stdout")] = False,
) -> None:
    """Show the learning rates that finetune would use with the same recipe and flags. Nothing is trained.

    In a pipe: a line for each epoch, with the rate that each group begins it with, under a line of names.
    """
    from zoo.recipe import parse_assignments
    from zoo.workflows.finetune.options import Options
    from zoo.workflows.schedule import schedule as run_schedule

    options = Options(
        data=data, val=val, task=task, in_chans=in_chans, img_size=img_size, freeze=freeze, epochs=epochs,
        batch_size=number_or_auto("--batch-size", batch_size, least=1),
        grad_accum_steps=grad_accum_steps, lr=lr, head_lr=head_lr, layer_decay=layer_decay,
        opt=opt, sched=sched, warmup_epochs=warmup_epochs,
        settings=parse_assignments(assignments or []),
    )  # fmt: skip
    result = run_schedule(recipe, model=model, plot=plot, **options)
    if as_json:
        console.print_json(result.to_dict())
    elif console.is_terminal(sys.stdout):
        _show(result)
    else:
        console.print_tsv([("epoch", *result.names)])
        console.print_tsv((i + 1, *(f"{v:.6g}" for v in row)) for i, row in enumerate(result.by_epoch().tolist()))
    for text in result.notes:
        console.note(text)
    if result.plot is not None:
        console.note(f"curves drawn: {result.plot}")


def _show(result: ScheduleCurves) -> None:
    """A column for all groups whose rates agree throughout; of too many epochs only every few, and the last."""
    curves = result.distinct_curves()
    half = _COLUMNS // 2
    visible: list[tuple[str, Any]] = list(curves)
    if len(curves) > _COLUMNS:
        visible = [*curves[:half], ("…", None), *curves[-half:]]
    epochs = list(range(0, result.epochs, math.ceil(result.epochs / _ROWS)))
    epochs += [result.epochs - 1] if epochs[-1] != result.epochs - 1 else []
    rows = [
        (epoch + 1, *("…" if rates is None else f"{rates[epoch * result.steps_per_epoch]:.3g}" for _, rates in visible))
        for epoch in epochs
    ]
    title = f"{result.name}: {result.epochs} epochs of {result.steps_per_epoch:,} updates"
    title += f", {result.warmup:,} updates of warm-up" if result.warmup else ""
    names = [name for name, _ in visible]
    console.print_table(("epoch", *names), rows, title=title, right=range(len(names) + 1))
    console.note("each rate is that of the epoch's first update")
    if len(curves) > _COLUMNS or len(epochs) < result.epochs:
        console.note("all of it: in a pipe (`| cat`), with --json, or drawn with --plot FILE")
