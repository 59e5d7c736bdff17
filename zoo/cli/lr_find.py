"""`zoo lr-find`: find a learning rate."""

from __future__ import annotations

import math
import shlex
import sys
from typing import TYPE_CHECKING, Annotated

import typer
from typing_extensions import Unpack

from zoo import console
from zoo.cli.options import Json, ModelArgument, PlotFile, takes
from zoo.imports import gc_paused
from zoo.options import Options, to_flags

if TYPE_CHECKING:
    from zoo.workflows.lr_find import LrFindResult

_ROWS = 24  # of the table: it fits on one screen with the messages
_BAR = 40


@takes(
    "data", "task", "in_chans", "img_size", "weights", "freeze", "recipe", "settings", "batch_size", "opt", "loss",
    "seed", "device",
)  # fmt: skip
def lr_find(
    model: ModelArgument = None,
    *,
    low: Annotated[float, typer.Option("--min", metavar="RATE", help="first learning rate")] = 1e-7,
    high: Annotated[float, typer.Option("--max", metavar="RATE", help="last learning rate")] = 10.0,
    steps: Annotated[int, typer.Option(metavar="N", help="maximum number of training steps")] = 100,
    plot: PlotFile = None,
    as_json: Json = False,
    **options: Unpack[Options],
) -> None:
    """Find a learning rate with a short test (LR range test).

    Trains for some steps with an increasing learning rate, and finds where the loss decreases fastest and where it
    diverges. The trained weights are discarded, and no file is written except --plot.

    In a pipe: one line per step, with learning rate, loss and smoothed loss.
    """
    with gc_paused():
        from zoo.workflows.lr_find import lr_find as run_lr_find

    result = run_lr_find(model, low=low, high=high, steps=steps, plot=plot, **options)
    if as_json:
        console.print_json(result.to_dict())
    elif console.is_terminal(sys.stdout):
        _show(result)
    else:
        rows = zip(result.lrs, result.losses, result.smoothed, strict=True)
        console.print_tsv([f"{v:.6g}" for v in row] for row in rows)
    for text in result.notes:
        console.note(text)
    if result.plot is not None:
        console.note(f"wrote {result.plot}")
    if result.suggestion is None:
        console.note(f"no learning rate suggested: {result.reason}")
        return
    console.note(
        f"suggested learning rate: {result.suggestion:.2g}    (steepest loss at {result.steepest:.2g}, "
        f"lowest loss at {result.lowest:.2g})"
    )
    command = ["zoo", "finetune", *([model] if model else []), *to_flags(options)]
    command += ["--lr", f"{result.suggestion:.2g}"]
    command += ["--head-lr", f"{result.head_lr:.2g}"] if result.head_lr is not None else []
    console.note(f"next: {shlex.join(command)}")


def _show(result: LrFindResult) -> None:
    """Print the smoothed curve with a bar per learning rate, cut far above the initial loss to show the decrease."""
    indices = range(0, len(result.lrs), math.ceil(len(result.lrs) / _ROWS))
    suggested = None
    if (wanted := result.suggestion) is not None:
        suggested = min(indices, key=lambda i: abs(math.log(result.lrs[i] / wanted)))
    finite = [result.smoothed[i] for i in indices if math.isfinite(result.smoothed[i])]
    lowest, start_loss = min(finite, default=0.0), max(finite[: max(len(finite) // 2, 1)], default=1.0)
    top = min(max(finite, default=1.0), lowest + 1.5 * (start_loss - lowest))
    rows = []
    for i in indices:
        loss = result.smoothed[i]
        height = min((loss - lowest) / (top - lowest), 1.0) if top > lowest else 0.0
        bar = "█" * (1 + round((_BAR - 1) * height)) if math.isfinite(loss) else ""
        rows.append((f"{result.lrs[i]:.1e}", f"{loss:.4g}", bar + (" ← suggested" if i == suggested else "")))
    console.print_table(("learning rate", "loss", "above the lowest loss"), rows, right=(1,))
