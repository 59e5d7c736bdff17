"""`zoo schedule`: show the learning rates of a run before it is trained."""

from __future__ import annotations

import math
import sys
from typing import TYPE_CHECKING, Annotated, Any

from zoo import console
from zoo.cli.options import RECIPE_ARGUMENT, Json, ModelOption, PlotFile, takes

if TYPE_CHECKING:
    from zoo.workflows.schedule import ScheduleCurves

_COLUMNS = 8  # of learning rates on a terminal; groups with the same ones share a column
_ROWS = 24


@takes(
    "data", "val", "task", "in_chans", "img_size", "freeze", "settings", "epochs", "batch_size", "grad_accum_steps",
    "lr", "head_lr", "layer_decay", "opt", "sched", "warmup_epochs",
)  # fmt: skip
def schedule(
    recipe: Annotated[str | None, RECIPE_ARGUMENT] = None,
    *,
    model: ModelOption = None,
    plot: PlotFile = None,
    as_json: Json = False,
    **options: Any,
) -> None:
    """Show the learning rates that finetune would use with the same recipe and options. Nothing is trained.

    In a pipe: a header line, then one line per epoch with the learning rate of each group at its first step. With
    --json the learning rates of every step.
    """
    from zoo.workflows.schedule import schedule as run_schedule

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
        console.note(f"wrote {result.plot}")


def _show(result: ScheduleCurves) -> None:
    """Print a table with one column per distinct curve; long schedules skip epochs but show the last."""
    curves, half = result.distinct_curves(), _COLUMNS // 2
    visible: list[tuple[str, Any]] = list(curves)
    if len(curves) > _COLUMNS:
        visible = [*curves[:half], ("…", None), *curves[-half:]]
    epochs = list(range(0, result.epochs, math.ceil(result.epochs / _ROWS)))
    epochs += [result.epochs - 1] if epochs[-1] != result.epochs - 1 else []
    rows = [
        (epoch + 1, *("…" if lrs is None else f"{lrs[epoch * result.steps_per_epoch]:.3g}" for _, lrs in visible))
        for epoch in epochs
    ]
    title = f"{result.name}: {result.epochs} epochs of {result.steps_per_epoch:,} steps"
    title += f", {result.warmup:,} warm-up steps" if result.warmup else ""
    names = [name for name, _ in visible]
    console.print_table(("epoch", *names), rows, title=title, right=range(len(names) + 1))
    console.note("learning rates at the first step of each epoch")
    if len(curves) > _COLUMNS or len(epochs) < result.epochs:
        console.note("shortened; the whole schedule: in a pipe (`| cat`), with --json or with --plot FILE")
