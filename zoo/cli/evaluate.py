"""`zoo evaluate`: how good a run is, class by class."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Annotated, Any

import typer

from zoo import output
from zoo.errors import UsageError

if TYPE_CHECKING:
    from zoo.metrics import ClassScore, Evaluation
    from zoo.workflows.evaluate import Evaluated

__all__ = ["evaluate"]

_ROWS = 40  # classes in a terminal's table: about a screen


def evaluate(
    run: Annotated[str, typer.Argument(metavar="RUN", help="directory of a run")],
    *,
    data: Annotated[
        str | None,
        typer.Option(
            metavar="PATH|NAME", help="a folder of class folders, or digits; the run's validation part if left out"
        ),
    ] = None,
    batch_size: Annotated[int, typer.Option("--batch-size", "-b", help="images at a time")] = 64,
    workers: Annotated[str, typer.Option("--workers", "-j", metavar="N", help="loader processes, or auto")] = "auto",
    device: Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:N or mps")] = "auto",
    as_json: Annotated[bool, typer.Option("--json", help="everything measured, as JSON")] = False,
) -> None:
    """Measure a run: top-1, top-5, loss, calibration error, precision, recall and F1 of each class, confusion matrix.

    Writes evaluation.json, per_class.csv, confusion.csv and confusion.png into RUN,
    or into RUN/evaluation-NAME for other data.

    In a pipe: metric and value on a line each, then "class", name, images, precision, recall, F1.
    """
    from zoo.workflows.evaluate import evaluate as run_evaluate

    number = _workers(workers)
    found = run_evaluate(run, data, batch_size=batch_size, workers=number, device=device, save=False)
    output.note(f"{found.data}: {found.rule}")
    for text in found.notes:
        output.warn(text)
    for bad in found.left_out:
        output.note(f"left out {bad}")
    if as_json:
        output.print_json(found.to_dict())
    elif output.is_terminal(sys.stdout):
        _print_for_a_person(found)
    else:
        _print_for_a_program(found.evaluation)
    sys.stdout.flush()  # the numbers are out, whatever happens to the files
    files = found.save()
    output.note(f"wrote {', '.join(f.name for f in files)} to {found.folder}")
    if data is None:
        output.note(f"next: zoo export {run} --format safetensors")


def _print_for_a_program(found: Evaluation) -> None:
    output.print_tsv([("images", found.images), *((name, f"{value:.6g}") for name, value in found.summary().items())])
    output.print_tsv(
        ("class", c.name, c.support, *(None if v is None else f"{v:.6g}" for v in (c.precision, c.recall, c.f1)))
        for c in found.per_class
    )


def _print_for_a_person(result: Evaluated) -> None:
    """The worst classes come last, next to the summary and the prompt."""
    found = result.evaluation
    ranked = sorted(range(len(found.classes)), key=lambda i: _rank(found.per_class[i]))
    shown = ranked[-_ROWS:]
    output.print_table(
        ("class", "images", "precision", "recall", "F1", "most often taken for"),
        [_row(found, i) for i in shown],
        right=(1, 2, 3, 4),
    )
    if len(shown) < len(ranked):
        print(f"the worst {len(shown)} of {len(ranked):,} classes; per_class.csv holds all\n")
    print(f"top-1 {found.top1:.2%}   top-{found.top5_k} {found.top5:.2%}   loss {found.loss:.4f}")
    means = f"balanced accuracy {found.balanced_accuracy:.2%}   macro F1 {found.macro_f1:.2%}"
    print(f"{means}   calibration error {found.ece:.2%}")


def _rank(score: ClassScore) -> tuple[bool, float]:
    """Classes without images first, then from the best F1 to the worst."""
    return (score.f1 is not None, -(score.f1 or 0.0))


def _row(found: Evaluation, i: int) -> tuple[Any, ...]:
    score = found.per_class[i]
    taken_for = enumerate(zip(found.confusion[i], found.classes, strict=True))
    errors = [(count, name) for j, (count, name) in taken_for if j != i and count]
    worst = max(errors, default=None, key=lambda e: e[0])
    rates = (score.precision, score.recall, score.f1)
    return (
        score.name,
        f"{score.support:,}",
        *("-" if v is None else f"{v:.1%}" for v in rates),
        "" if worst is None else f"{worst[1]} ({worst[0]:,})",
    )


def _workers(text: str) -> Any:
    if text == "auto":
        return text
    try:
        return int(text)
    except ValueError:
        raise UsageError(f"--workers {text!r} is neither a number nor auto", "give 0 or more, or auto") from None
