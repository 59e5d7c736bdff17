"""`zoo lr-find`: which learning rate a training can use."""

from __future__ import annotations

import math
import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from zoo import console
from zoo.cli.completion import complete_model, complete_recipe
from zoo.cli.options import number_or_auto
from zoo.imports import gc_paused

if TYPE_CHECKING:
    from zoo.workflows.lr_find import LrFindResult

__all__ = ["lr_find"]

_ROWS = 24  # of the curve on a terminal: it leaves room for the sentences around it
_BAR = 40


def lr_find(
    model: Annotated[
        str | None,
        typer.Argument(
            help="a name from `zoo list`; may be left out if the recipe names it", autocompletion=complete_model
        ),
    ] = None,
    data: Annotated[
        str | None,
        typer.Option(metavar="PATH|NAME", help="folder of images, CSV or TSV table, or digits (default: digits)"),
    ] = None,
    task: Annotated[str | None, typer.Option(help="single-label, multi-label or regression")] = None,
    in_chans: Annotated[int | None, typer.Option(help="input channels")] = None,
    img_size: Annotated[int | None, typer.Option(help="pixels (default: the model's)")] = None,
    weights: Annotated[str | None, typer.Option(metavar="WEIGHTS", help="as for finetune")] = None,
    freeze: Annotated[
        str | None, typer.Option(metavar="PLAN", help="none, backbone, N groups, a group, or globs")
    ] = None,
    recipe: Annotated[
        str | None,
        typer.Option(
            "--recipe",
            "-r",
            metavar="NAME|FILE",
            help="a name from `zoo recipes`, a file or a run",
            autocompletion=complete_recipe,
        ),
    ] = None,
    assignments: Annotated[
        list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="any recipe field")
    ] = None,
    batch_size: Annotated[
        str | None, typer.Option("--batch-size", "-b", metavar="N|auto", help="images a step; auto: measured")
    ] = None,
    opt: Annotated[str | None, typer.Option(help="optimizer, or module:attribute")] = None,
    loss: Annotated[str | None, typer.Option(help="loss, or module:attribute")] = None,
    seed: Annotated[int | None, typer.Option(help="of split, head, order and augmentation")] = None,
    device: Annotated[str | None, typer.Option(help="auto, cpu, cuda, cuda:N or mps")] = None,
    low: Annotated[float, typer.Option("--min", help="the first rate")] = 1e-7,
    high: Annotated[float, typer.Option("--max", help="the last rate")] = 10.0,
    steps: Annotated[int, typer.Option(help="updates, if the loss does not break before")] = 100,
    plot: Annotated[Path | None, typer.Option(metavar="FILE", help="draw the curve there, as PNG")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="curve and suggestion as JSON on stdout")] = False,
) -> None:
    """Find a learning rate: train for some updates while the rate rises, and see where the loss falls and breaks.

    The flags and the recipe are finetune's. Nothing is kept of the training, and no file is written but --plot.

    In a pipe: a line for each update, with rate, loss and smoothed loss.
    """
    with gc_paused():
        from zoo.recipe import parse_assignments
        from zoo.workflows.finetune.options import Options
        from zoo.workflows.lr_find import lr_find as run_lr_find

    options = Options(
        data=data, task=task, in_chans=in_chans, img_size=img_size, weights=weights, freeze=freeze, recipe=recipe,
        batch_size=number_or_auto("--batch-size", batch_size, least=1),
        opt=opt, loss=loss, seed=seed, device=device,
        settings=parse_assignments(assignments or []),
    )  # fmt: skip
    result = run_lr_find(model, low=low, high=high, steps=steps, plot=plot, **options)
    if as_json:
        console.print_json(result.to_dict())
    elif console.is_terminal(sys.stdout):
        _show(result)
    else:
        rows = zip(result.rates, result.losses, result.smoothed, strict=True)
        console.print_tsv([f"{v:.6g}" for v in row] for row in rows)
    for text in result.notes:
        console.note(text)
    if result.plot is not None:
        console.note(f"curve drawn: {result.plot}")
    if result.suggestion is None:
        console.note(f"no suggestion: {result.reason}")
        return
    console.note(
        f"suggestion: {result.suggestion:.2g}    (loss falls fastest at {result.steepest:.2g}, "
        f"is lowest at {result.lowest:.2g})"
    )
    flags = {
        "--data": data, "--task": task, "--in-chans": in_chans, "--img-size": img_size, "--weights": weights,
        "--freeze": freeze, "--recipe": recipe, "--batch-size": batch_size, "--opt": opt, "--loss": loss,
        "--seed": seed, "--device": device,
    }  # fmt: skip
    command = ["zoo", "finetune", *([model] if model else [])]
    command += [word for flag, value in flags.items() if value is not None for word in (flag, str(value))]
    command += [word for text in assignments or [] for word in ("--set", text)]
    command += ["--lr", f"{result.suggestion:.2g}"]
    command += ["--head-lr", f"{result.head_lr:.2g}"] if result.head_lr is not None else []
    console.note(f"next: {shlex.join(command)}")


def _show(result: LrFindResult) -> None:
    """The smoothed curve lying on its side: a row for every few rates, a bar for the loss above its lowest.

    What rises far above the loss of the start would flatten the fall: there the bars are cut.
    """
    every = math.ceil(len(result.rates) / _ROWS)
    indices = list(range(0, len(result.rates), every))
    suggested = None
    if result.suggestion is not None:
        wanted = result.suggestion
        suggested = min(indices, key=lambda i: abs(math.log(result.rates[i] / wanted)))
    finite = [result.smoothed[i] for i in indices if math.isfinite(result.smoothed[i])]
    lowest, start_loss = min(finite, default=0.0), max(finite[: max(len(finite) // 2, 1)], default=1.0)
    top = min(max(finite, default=1.0), lowest + 1.5 * (start_loss - lowest))
    rows = []
    for i in indices:
        loss = result.smoothed[i]
        height = min((loss - lowest) / (top - lowest), 1.0) if top > lowest else 0.0
        bar = "█" * (1 + round((_BAR - 1) * height)) if math.isfinite(loss) else ""
        rows.append((f"{result.rates[i]:.1e}", f"{loss:.4g}", bar + (" ← suggestion" if i == suggested else "")))
    console.print_table(("rate", "loss", "above the lowest"), rows, right=(1,))
