"""Metrics and evaluation of single-label classification.

Shapes: logits (N, K) float32, targets (N,) int64 in 0..K-1, N ≥ 1. All results are Python floats.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from zoo.metrics import ranking
from zoo.metrics.accumulator import MetricAccumulator
from zoo.metrics.evaluation import ClassScore, Evaluation, calibration_error, precision_recall_f1
from zoo.metrics.statistics import ConfusionMatrix, Counts, StreamingMetric, streaming


class TopKHits(Counts):
    """(2,): images whose class is among the k most probable, and all images."""

    def __init__(self, k: int) -> None:
        super().__init__()
        self.k = k

    def count(self, outputs: Tensor, targets: Tensor) -> Tensor:
        chosen = outputs.topk(min(self.k, outputs.shape[1]), dim=1).indices
        return torch.stack([(chosen == targets[:, None]).any(1).sum(), torch.tensor(len(targets))])


def top_k(k: int) -> StreamingMetric[TopKHits]:
    """The metric top<k>. With fewer than k classes it is 1 by construction."""

    @streaming(partial(TopKHits, k))
    def accuracy(hits: TopKHits) -> float:
        correct, images = hits.counts.tolist()
        return float(correct / images)

    return accuracy


top1 = top_k(1)
top5 = top_k(5)
micro_f1 = top1  # with one class per image an error is one false positive and one false negative


def loss(logits: Tensor, targets: Tensor) -> float:
    """Mean cross entropy in nats, without label smoothing: comparable between runs whatever their training loss."""
    return float(functional.cross_entropy(logits, targets))


@streaming(ConfusionMatrix)
def balanced_accuracy(confusion: ConfusionMatrix) -> float:
    """Mean recall over the classes that have images."""
    matrix = confusion.counts.double()
    support = matrix.sum(1)
    present = support > 0
    return float((matrix.diagonal()[present] / support[present]).mean())


@streaming(ConfusionMatrix)
def macro_f1(confusion: ConfusionMatrix) -> float:
    """Mean of 2·tp / (2·tp + fp + fn) over the classes that have images."""
    matrix = confusion.counts.double()
    present = matrix.sum(1) > 0
    both = matrix.sum(0) + matrix.sum(1)  # 2·tp + fp + fn
    return float((2 * matrix.diagonal()[present] / both[present]).mean())


def auroc(logits: Tensor, targets: Tensor) -> float:
    """One-vs-rest ROC AUC, the mean over the classes that some images have and some do not; NaN if there are none."""
    return _one_vs_rest(ranking.area_under_roc, logits, targets)


def average_precision(logits: Tensor, targets: Tensor) -> float:
    """One-vs-rest average precision, the mean over the classes that have images."""
    return _one_vs_rest(ranking.average_precision, logits, targets)


def _one_vs_rest(metric: Callable[[Tensor, Tensor], float], logits: Tensor, targets: Tensor) -> float:
    present = targets.bincount().nonzero()[:, 0]
    scores = logits.double().softmax(1)[:, present]
    return ranking.nanmean_of(ranking.per_column(metric, scores, targets[:, None] == present))


def ece(logits: Tensor, targets: Tensor) -> float:
    """Expected calibration error: mean |accuracy − confidence| over bins of the top probability, weighted by size.

    15 bins (lower, upper] of equal width on 0..1, Guo et al. 2017, equation 3.
    """
    confidence, predicted = logits.double().softmax(1).max(1)
    return calibration_error(confidence, predicted == targets)


@dataclass(frozen=True)
class SingleLabelEvaluation(Evaluation):
    """Evaluation of a classifier; accuracies are fractions, the loss is in nats.

    Attributes:
        top5_k: the k of top5: 5, or the number of classes if that is smaller.
        per_class: scores of each class.
        confusion: confusion[true][predicted] images.
    """

    task = "single-label"
    ROW_KIND = "class"
    SUMMARY = ("top1", "top5", "loss", "ece", "balanced_accuracy", "macro_f1")
    STATISTICS = (ConfusionMatrix,)

    top1: float
    top5: float
    top5_k: int
    loss: float
    ece: float
    balanced_accuracy: float
    macro_f1: float
    per_class: tuple[ClassScore, ...]
    confusion: tuple[tuple[int, ...], ...]

    @classmethod
    def of(cls, accumulator: MetricAccumulator, classes: Sequence[str]) -> SingleLabelEvaluation:
        matrix = accumulator.statistic(ConfusionMatrix).counts
        predicted: list[int] = matrix.sum(0).tolist()
        counts = zip(classes, matrix.diagonal().tolist(), matrix.sum(1).tolist(), predicted, strict=True)
        return cls(
            images=accumulator.images,
            classes=tuple(classes),
            top5_k=min(5, len(classes)),
            per_class=tuple(
                ClassScore(name, support, *precision_recall_f1(hits, support, n)) for name, hits, support, n in counts
            ),
            confusion=tuple(tuple(row) for row in matrix.tolist()),
            **accumulator.compute(),
        )

    def tables(self) -> dict[str, list[Sequence[Any]]]:
        matrix = [(name, *row) for name, row in zip(self.classes, self.confusion, strict=True)]
        return {**super().tables(), "confusion.csv": [("true \\ predicted", *self.classes), *matrix]}

    def to_dict(self) -> dict[str, Any]:
        return {**super().to_dict(), "top5_k": self.top5_k, "confusion": [list(row) for row in self.confusion]}


EVALUATION = SingleLabelEvaluation
