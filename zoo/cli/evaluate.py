"""`zoo evaluate`: how good a run is, class by class, label by label or target by target."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Annotated, Any

import typer

from zoo import console
from zoo.errors import UsageError
from zoo.imports import at_once

if TYPE_CHECKING:
    from zoo.metrics import ClassScore, Evaluation, MultiLabelEvaluation, RegressionEvaluation, SingleLabelEvaluation

__all__ = ["evaluate"]

_ROWS = 40  # classes or labels in a terminal's table: about a screen


def evaluate(
    run: Annotated[str, typer.Argument(metavar="RUN", help="directory of a run")],
    *,
    data: Annotated[
        str | None,
        typer.Option(
            metavar="PATH|NAME",
            help="a folder of class folders, a table, or digits; the run's validation part if left out",
        ),
    ] = None,
    split: Annotated[str | None, typer.Option(metavar="NAME", help="of other data: the part to take, as test")] = None,
    image_column: Annotated[str | None, typer.Option(metavar="NAME", help="of another table: the paths")] = None,
    label_column: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME", help="of another table: what the run learned; may be repeated"),
    ] = None,
    label_separator: Annotated[
        str | None, typer.Option(metavar="TEXT", help="of another table: what stands between several labels")
    ] = None,
    split_column: Annotated[
        str | None, typer.Option(metavar="NAME", help="of another table: where train, val or test stands")
    ] = None,
    batch_size: Annotated[int, typer.Option("--batch-size", "-b", help="images at a time")] = 64,
    workers: Annotated[str, typer.Option("--workers", "-j", metavar="N", help="loader processes, or auto")] = "auto",
    device: Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:N or mps")] = "auto",
    as_json: Annotated[bool, typer.Option("--json", help="everything measured, as JSON")] = False,
) -> None:
    """Measure a run: overall, and each class, label or target.

    Writes evaluation.json, a CSV with a line for each class, label or target (per_class.csv, per_label.csv,
    per_target.csv) and a picture (confusion.png with its confusion.csv, labels.png, scatter.png) into RUN,
    or into RUN/evaluation-NAME for other data.

    In a pipe: metric and value on a line each, then lines that begin with class, label or target, with the columns of
    the CSV.
    """
    with at_once():
        from zoo.data import Columns
        from zoo.workflows.evaluate import evaluate as run_evaluate

    found = run_evaluate(
        run,
        data,
        split=split,
        columns=Columns(image_column, tuple(label_column or ()), label_separator, split_column),
        batch_size=batch_size,
        workers=_workers(workers),
        device=device,
        save=False,
    )
    console.note(f"{found.data}: {found.rule}")
    for text in found.notes:
        console.warn(text)
    for bad in found.left_out:
        console.note(f"left out {bad}")
    if as_json:
        console.print_json(found.to_dict())
    elif console.is_terminal(sys.stdout):
        _print_for_a_person(found.evaluation)
    else:
        _print_for_a_program(found.evaluation)
    sys.stdout.flush()  # the numbers are out, whatever happens to the files
    files = found.save()
    console.note(f"wrote {', '.join(f.name for f in files)} to {found.folder}")
    if data is None:
        console.note(f"next: zoo export {run} --format safetensors")


def _print_for_a_program(found: Evaluation) -> None:
    console.print_tsv([("images", found.images), *((name, f"{value:.6g}") for name, value in found.summary().items())])
    console.print_tsv((found.PART, *(f"{v:.6g}" if isinstance(v, float) else v for v in row)) for row in found.rows())


def _print_for_a_person(found: Evaluation) -> None:
    from zoo.metrics import MultiLabelEvaluation, RegressionEvaluation, SingleLabelEvaluation

    match found:
        case SingleLabelEvaluation():
            _show_classes(found)
        case MultiLabelEvaluation():
            _show_labels(found)
        case RegressionEvaluation():
            _show_targets(found)


def _show_classes(found: SingleLabelEvaluation) -> None:
    shown = _weakest([score.f1 for score in found.per_class])
    console.print_table(
        ("class", "images", "precision", "recall", "F1", "most often taken for"),
        [(*_rates(found.per_class[i]), _taken_for(found, i)) for i in shown],
        right=(1, 2, 3, 4),
    )
    _say_cut(found, len(shown), "classes")
    print(f"top-1 {found.top1:.2%}   top-{found.top5_k} {found.top5:.2%}   loss {found.loss:.4f}")
    means = f"balanced accuracy {found.balanced_accuracy:.2%}   macro F1 {found.macro_f1:.2%}"
    print(f"{means}   calibration error {found.ece:.2%}")


def _show_labels(found: MultiLabelEvaluation) -> None:
    shown = _weakest([score.average_precision for score in found.per_label])
    scores = [found.per_label[i] for i in shown]
    console.print_table(
        ("label", "images", "precision", "recall", "F1", "AP", "AUROC"),
        [(*_rates(s), _percent(s.average_precision), _percent(s.auroc)) for s in scores],
        right=(1, 2, 3, 4, 5, 6),
    )
    _say_cut(found, len(shown), "labels")
    print(f"mean AP {found.average_precision:.2%}   mean AUROC {found.auroc:.2%}   loss {found.loss:.4f}")
    f1 = f"micro F1 {found.micro_f1:.2%}   macro F1 {found.macro_f1:.2%}"
    print(f"{f1}   all labels right {found.subset_accuracy:.2%}   calibration error {found.ece:.2%}")
    print("precision, recall and F1 at probability 0.5")


def _show_targets(found: RegressionEvaluation) -> None:
    numbers = [(t.mean, t.mae, t.rmse, t.r2) for t in found.per_target]
    console.print_table(
        ("target", "mean", "MAE", "RMSE", "R²"),
        [
            (name, *("-" if v is None else f"{v:.4g}" for v in row))
            for name, row in zip(found.classes, numbers, strict=True)
        ],
        right=(1, 2, 3, 4),
    )
    over = f", means over {len(numbers)} targets" if len(numbers) > 1 else ""
    print(f"MAE {found.mae:.4g}   RMSE {found.rmse:.4g}   R² {found.r2:.4f}   ({found.images:,} images{over})")


def _weakest(measured: list[float | None]) -> list[int]:
    """Those that a screen holds, the weakest last, next to the summary and the prompt; first what has no number."""
    return sorted(range(len(measured)), key=lambda i: (measured[i] is not None, -(measured[i] or 0.0)))[-_ROWS:]


def _say_cut(found: Evaluation, shown: int, what: str) -> None:
    if shown < len(found.classes):
        print(f"the worst {shown} of {len(found.classes):,} {what}; per_{found.PART}.csv holds all\n")


def _rates(score: ClassScore) -> tuple[str, ...]:
    rates = (score.precision, score.recall, score.f1)
    return (score.name, f"{score.support:,}", *(_percent(v) for v in rates))


def _percent(value: float | None) -> str:
    return "-" if value is None else f"{value:.1%}"


def _taken_for(found: SingleLabelEvaluation, i: int) -> str:
    others = enumerate(zip(found.confusion[i], found.classes, strict=True))
    errors = [(count, name) for j, (count, name) in others if j != i and count]
    worst = max(errors, default=None, key=lambda e: e[0])
    return "" if worst is None else f"{worst[1]} ({worst[0]:,})"


def _workers(text: str) -> Any:
    if text == "auto":
        return text
    try:
        return int(text)
    except ValueError:
        raise UsageError(f"--workers {text!r} is neither a number nor auto", "give 0 or more, or auto") from None
