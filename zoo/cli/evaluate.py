"""`zoo evaluate`: metrics of a run, overall and per class, label or target."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Annotated, Any

import typer

from zoo import console
from zoo.cli.options import BatchSize, Json, RunArgument, pop_columns, takes
from zoo.imports import gc_paused

if TYPE_CHECKING:
    from zoo.metrics import ClassScore, Evaluation, MultiLabelEvaluation, RegressionEvaluation, SingleLabelEvaluation

_ROWS = 40  # classes or labels in a terminal's table: about a screen


@takes(
    "label_separator", "workers", "device", data="the run's validation images", image_column="the run's",
    label_column="the run's", split_column="the run's",
)  # fmt: skip
def evaluate(
    run: RunArgument,
    *,
    split: Annotated[
        str | None, typer.Option(metavar="NAME", help="with --data: the split to use, such as test")
    ] = None,
    batch_size: BatchSize = 64,
    as_json: Json = False,
    **options: Any,
) -> None:
    """Evaluate a run: overall metrics, and metrics per class, label or target.

    Writes evaluation.json, a CSV with one line per class, label or target (per_class.csv, per_label.csv,
    per_target.csv) and a picture (confusion.png with its confusion.csv, labels.png, scatter.png) into RUN,
    or into RUN/evaluation-NAME for other data.

    In a pipe: one line per metric, name and value, then lines that begin with class, label or target, with the columns
    of the CSV.
    """
    with gc_paused():
        from zoo.formats import suggested_format
        from zoo.run import Run
        from zoo.workflows.evaluate import evaluate as run_evaluate

    data = options.pop("data", None)
    result = run_evaluate(
        run, data, split=split, columns=pop_columns(options), batch_size=batch_size, save=False, **options
    )
    console.note(f"{result.data}: {result.rule}")
    for text in result.notes:
        console.warn(text)
    for bad in result.skipped_files:
        console.note(f"skipped {bad}")
    if as_json:
        console.print_json(result.to_dict())
    elif console.is_terminal(sys.stdout):
        _print_for_terminal(result.evaluation)
    else:
        _print_for_pipe(result.evaluation)
    sys.stdout.flush()  # the metrics are printed even if writing the files fails
    files = result.save()
    console.note(f"wrote {', '.join(f.name for f in files)} to {result.folder}")
    if data is None:
        console.note(f"next: zoo export {run} --format {suggested_format(Run(result.folder).model_record()['model'])}")


def _print_for_pipe(result: Evaluation) -> None:
    summary = {"images": result.images, **result.summary()}
    for row in (*summary.items(), *((result.ROW_KIND, *row) for row in result.rows())):
        console.print_tsv([[f"{v:.6g}" if isinstance(v, float) else v for v in row]])


def _print_for_terminal(result: Evaluation) -> None:
    from zoo.metrics import MultiLabelEvaluation, RegressionEvaluation, SingleLabelEvaluation

    match result:
        case SingleLabelEvaluation():
            _show_classes(result)
        case MultiLabelEvaluation():
            _show_labels(result)
        case RegressionEvaluation():
            _show_targets(result)


def _show_classes(result: SingleLabelEvaluation) -> None:
    visible = _lowest_scores([score.f1 for score in result.per_class])
    console.print_table(
        ("class", "images", "precision", "recall", "F1", "most often confused with"),
        [(*_rates(result.per_class[i]), _most_confused_class(result, i)) for i in visible],
        right=(1, 2, 3, 4),
    )
    _print_truncated(result, len(visible), "classes")
    print(f"top-1 {result.top1:.2%}   top-{result.top5_k} {result.top5:.2%}   loss {result.loss:.4f}")
    means = f"balanced accuracy {result.balanced_accuracy:.2%}   macro F1 {result.macro_f1:.2%}"
    print(f"{means}   calibration error {result.ece:.2%}")


def _show_labels(result: MultiLabelEvaluation) -> None:
    visible = _lowest_scores([score.average_precision for score in result.per_label])
    scores = [result.per_label[i] for i in visible]
    console.print_table(
        ("label", "images", "precision", "recall", "F1", "AP", "AUROC"),
        [(*_rates(s), _percent(s.average_precision), _percent(s.auroc)) for s in scores],
        right=(1, 2, 3, 4, 5, 6),
    )
    _print_truncated(result, len(visible), "labels")
    print(f"mean AP {result.average_precision:.2%}   mean AUROC {result.auroc:.2%}   loss {result.loss:.4f}")
    f1 = f"micro F1 {result.micro_f1:.2%}   macro F1 {result.macro_f1:.2%}"
    print(f"{f1}   exact match {result.subset_accuracy:.2%}   calibration error {result.ece:.2%}")
    print("precision, recall and F1 at a probability threshold of 0.5")


def _show_targets(result: RegressionEvaluation) -> None:
    rows = [(name, *("-" if v is None else f"{v:.4g}" for v in values)) for name, *values in result.rows()]
    console.print_table(("target", "mean", "MAE", "RMSE", "R²"), rows, right=(1, 2, 3, 4))
    over = f", means over {len(rows)} targets" if len(rows) > 1 else ""
    print(f"MAE {result.mae:.4g}   RMSE {result.rmse:.4g}   R² {result.r2:.4f}   ({result.images:,} images{over})")


def _lowest_scores(scores: list[float | None]) -> list[int]:
    """Indices of the lowest scores that fit on a screen, the lowest last; scores that are not defined come first."""
    return sorted(range(len(scores)), key=lambda i: (scores[i] is not None, -(scores[i] or 0.0)))[-_ROWS:]


def _print_truncated(result: Evaluation, visible: int, what: str) -> None:
    if visible < len(result.classes):
        print(f"the lowest {visible} of {len(result.classes):,} {what}; all are in per_{result.ROW_KIND}.csv\n")


def _rates(score: ClassScore) -> tuple[str, ...]:
    rates = (score.precision, score.recall, score.f1)
    return (score.name, f"{score.support:,}", *(_percent(v) for v in rates))


def _percent(value: float | None) -> str:
    return "-" if value is None else f"{value:.1%}"


def _most_confused_class(result: SingleLabelEvaluation, i: int) -> str:
    others = enumerate(zip(result.confusion[i], result.classes, strict=True))
    errors = [(count, name) for j, (count, name) in others if j != i and count]
    worst = max(errors, default=None, key=lambda e: e[0])
    return "" if worst is None else f"{worst[1]} ({worst[0]:,})"
