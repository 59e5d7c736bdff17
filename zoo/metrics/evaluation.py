"""The whole report of an evaluation: overall numbers, and a line for each class, label or target column."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import astuple, dataclass, fields
from typing import Any, ClassVar, Literal, overload

from torch import Tensor

from zoo.errors import DataError
from zoo.metrics import compute, multi_label, ranking, regression
from zoo.metrics.single_label import confusion_matrix
from zoo.tasks import TaskName, get_task

__all__ = [
    "ClassScore",
    "Evaluation",
    "LabelScore",
    "MultiLabelEvaluation",
    "RegressionEvaluation",
    "SingleLabelEvaluation",
    "TargetScore",
    "report",
]


@dataclass(frozen=True)
class ClassScore:
    """One class. Where a number does not exist it is None, never a made-up 0.

    support: images of this class. recall and f1 are None without images; precision is None without images, and where
    the class was never predicted (then f1 is 0).
    """

    name: str
    support: int
    precision: float | None
    recall: float | None
    f1: float | None


@dataclass(frozen=True)
class LabelScore(ClassScore):
    """One label: as of a class, decided at probability 0.5, and how well its probabilities rank the images.

    average_precision is None without images; auroc is also None if every image has the label.
    """

    average_precision: float | None
    auroc: float | None


@dataclass(frozen=True)
class TargetScore:
    """One target column, in its own units. mean: of the targets. r2 is None if they are all equal."""

    name: str
    mean: float
    mae: float | None
    rmse: float | None
    r2: float | None


@dataclass(frozen=True)
class Evaluation:
    """What `report` found, whatever the task: one of the three classes below.

    classes: names of the model's outputs. ROW_KIND: what has a line of numbers each, "class", "label" or "target".
    SUMMARY: the overall metrics, in the order to print them; each is an attribute.
    """

    task: ClassVar[TaskName]
    ROW_KIND: ClassVar[str]
    SUMMARY: ClassVar[tuple[str, ...]]

    images: int
    classes: tuple[str, ...]

    @property
    def scores(self) -> tuple[ClassScore, ...] | tuple[LabelScore, ...] | tuple[TargetScore, ...]:
        raise NotImplementedError

    @property
    def header(self) -> tuple[str, ...]:
        """Names of the columns of `rows`."""
        return (self.ROW_KIND, *(f.name for f in fields(self.scores[0])[1:]))

    def rows(self) -> list[tuple[Any, ...]]:
        """A line for each class, label or target; a number that does not exist is None."""
        return [astuple(score) for score in self.scores]

    def summary(self) -> dict[str, float]:
        """Name → value of the overall metrics, in the order to print them."""
        return {name: getattr(self, name) for name in self.SUMMARY}

    def to_dict(self) -> dict[str, Any]:
        """JSON-able; a number that is not finite becomes None."""
        return {
            "task": self.task,
            "images": self.images,
            **{name: value if math.isfinite(value) else None for name, value in self.summary().items()},
            f"per_{self.ROW_KIND}": [dict(zip(self.header, row, strict=True)) for row in self.rows()],
            "classes": list(self.classes),
        }


@dataclass(frozen=True)
class SingleLabelEvaluation(Evaluation):
    """Rates are shares of 1; the loss is in nats.

    top5 counts the first `top5_k` classes: 5, or all of them if there are fewer. balanced_accuracy and macro_f1 are
    means over the classes that have images. confusion[true][predicted] counts images.
    """

    task = "single-label"
    ROW_KIND = "class"
    SUMMARY = ("top1", "top5", "loss", "ece", "balanced_accuracy", "macro_f1")

    top1: float
    top5: float
    top5_k: int
    loss: float
    ece: float
    balanced_accuracy: float
    macro_f1: float
    per_class: tuple[ClassScore, ...]
    confusion: tuple[tuple[int, ...], ...]

    @property
    def scores(self) -> tuple[ClassScore, ...]:
        return self.per_class

    def to_dict(self) -> dict[str, Any]:
        return {**super().to_dict(), "top5_k": self.top5_k, "confusion": [list(row) for row in self.confusion]}


@dataclass(frozen=True)
class MultiLabelEvaluation(Evaluation):
    """Rates are shares of 1, decided at probability 0.5; the loss is in nats.

    average_precision, auroc and macro_f1 are means over the labels where they exist; subset_accuracy is the share of
    images with every label right.
    """

    task = "multi-label"
    ROW_KIND = "label"
    SUMMARY = ("average_precision", "auroc", "micro_f1", "macro_f1", "subset_accuracy", "hamming_loss", "loss", "ece")

    average_precision: float
    auroc: float
    micro_f1: float
    macro_f1: float
    subset_accuracy: float
    hamming_loss: float
    loss: float
    ece: float
    per_label: tuple[LabelScore, ...]

    @property
    def scores(self) -> tuple[LabelScore, ...]:
        return self.per_label


@dataclass(frozen=True)
class RegressionEvaluation(Evaluation):
    """Means over the target columns, in their units; r2 over those that vary, NaN if none does."""

    task = "regression"
    ROW_KIND = "target"
    SUMMARY = ("mae", "rmse", "r2")

    mae: float
    rmse: float
    r2: float
    per_target: tuple[TargetScore, ...]

    @property
    def scores(self) -> tuple[TargetScore, ...]:
        return self.per_target


@overload
def report(
    outputs: Tensor, targets: Tensor, classes: Sequence[str], task: Literal["single-label"] = "single-label"
) -> SingleLabelEvaluation: ...
@overload
def report(
    outputs: Tensor, targets: Tensor, classes: Sequence[str], task: Literal["multi-label"]
) -> MultiLabelEvaluation: ...
@overload
def report(
    outputs: Tensor, targets: Tensor, classes: Sequence[str], task: Literal["regression"]
) -> RegressionEvaluation: ...
@overload
def report(outputs: Tensor, targets: Tensor, classes: Sequence[str], task: TaskName) -> Evaluation: ...
def report(outputs: Tensor, targets: Tensor, classes: Sequence[str], task: TaskName = "single-label") -> Evaluation:
    """Judge the model's outputs (N, K) float32 against targets (N,) int64 or (N, K) float32, as the task demands;
    `classes` holds the K names in the order of the outputs.

    Raises DataError if N is 0, UsageError if there is no such task.
    """
    if len(targets) == 0:
        raise DataError("no image to evaluate", "give at least one labelled image")
    report_of = {"single-label": _single_label, "multi-label": _multi_label, "regression": _regression}
    return report_of[get_task(task).name](outputs, targets, tuple(classes))


def _single_label(logits: Tensor, targets: Tensor, classes: tuple[str, ...]) -> Evaluation:
    matrix = confusion_matrix(logits, targets)
    rows: list[list[int]] = matrix.tolist()
    predicted: list[int] = matrix.sum(0).tolist()
    counts = zip(classes, matrix.diagonal().tolist(), matrix.sum(1).tolist(), predicted, strict=True)
    return SingleLabelEvaluation(
        images=len(targets),
        classes=classes,
        top5_k=min(5, logits.shape[1]),
        per_class=tuple(
            ClassScore(name, support, *_precision_recall_f1(hits, support, n_predicted))
            for name, hits, support, n_predicted in counts
        ),
        confusion=tuple(tuple(row) for row in rows),
        **compute(SingleLabelEvaluation.SUMMARY, logits, targets, task="single-label"),
    )


def _multi_label(logits: Tensor, targets: Tensor, classes: tuple[str, ...]) -> Evaluation:
    true = multi_label.positives(targets)
    hits_per_label, false_positives, false_negatives = (
        part.long().tolist() for part in multi_label.confusion_counts(logits, targets)
    )
    precisions = ranking.per_column(ranking.average_precision, logits, true)
    areas = ranking.per_column(ranking.area_under_roc, logits, true)
    scores = []
    for i, name in enumerate(classes):
        support = hits_per_label[i] + false_negatives[i]
        rates = _precision_recall_f1(hits_per_label[i], support, hits_per_label[i] + false_positives[i])
        scores.append(LabelScore(name, support, *rates, _finite_or_none(precisions[i]), _finite_or_none(areas[i])))
    return MultiLabelEvaluation(
        images=len(targets),
        classes=classes,
        per_label=tuple(scores),
        **compute(MultiLabelEvaluation.SUMMARY, logits, targets, task="multi-label"),
    )


def _regression(outputs: Tensor, targets: Tensor, classes: tuple[str, ...]) -> Evaluation:
    numbers = (
        targets.double().mean(0),
        regression.mae_per_column(outputs, targets),
        regression.rmse_per_column(outputs, targets),
        regression.r2_per_column(outputs, targets),
    )
    columns = zip(classes, *(values.tolist() for values in numbers), strict=True)
    return RegressionEvaluation(
        images=len(targets),
        classes=classes,
        per_target=tuple(
            TargetScore(n, mean, _finite_or_none(a), _finite_or_none(b), _finite_or_none(c))
            for n, mean, a, b, c in columns
        ),
        **compute(RegressionEvaluation.SUMMARY, outputs, targets, task="regression"),
    )


def _precision_recall_f1(hits: int, support: int, n_predicted: int) -> tuple[float | None, float | None, float | None]:
    """Precision, recall and F1 of `support` images, of which `hits` are among the `n_predicted` ones."""
    if not support:
        return None, None, None
    return hits / n_predicted if n_predicted else None, hits / support, 2 * hits / (support + n_predicted)


def _finite_or_none(value: float) -> float | None:
    return value if math.isfinite(value) else None
