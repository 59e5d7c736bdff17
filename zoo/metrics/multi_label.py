"""Metrics and evaluation of multi-label classification, where each label is a decision of its own.

Shapes: logits (N, K) float32, targets (N, K) float32, 0 or 1 for each label (soft ones count as 1 from 0.5), N ≥ 1.
Decisions are taken at probability 0.5. All results are Python floats.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from zoo.metrics import ranking
from zoo.metrics.accumulator import MetricAccumulator
from zoo.metrics.evaluation import (
    ClassScore,
    Evaluation,
    calibration_error,
    finite_or_none,
    precision_recall_f1,
)
from zoo.metrics.statistics import Collected, Counts, streaming

THRESHOLD = 0.5


class LabelCounts(Counts):
    """(4, K): true positives, false positives, false negatives and true negatives of each label."""

    def count(self, outputs: Tensor, targets: Tensor) -> Tensor:
        chosen, true = _decisions(outputs), _positives(targets)
        return torch.stack([part.sum(0) for part in (chosen & true, chosen & ~true, ~chosen & true, ~chosen & ~true)])


class ExactMatches(Counts):
    """(2,): images with every label correct, and all images."""

    def count(self, outputs: Tensor, targets: Tensor) -> Tensor:
        correct = (_decisions(outputs) == _positives(targets)).all(1)
        return torch.stack([correct.sum(), torch.tensor(len(targets))])


def _positives(targets: Tensor) -> Tensor:
    return targets >= THRESHOLD


def _decisions(logits: Tensor) -> Tensor:
    """(N, K) bool; by the probability, as prediction decides."""
    return logits.sigmoid() >= THRESHOLD


def loss(logits: Tensor, targets: Tensor) -> float:
    """Mean binary cross entropy of all decisions in nats, without weights: comparable between runs whatever their
    training loss."""
    return float(functional.binary_cross_entropy_with_logits(logits, targets))


@streaming(LabelCounts)
def micro_f1(labels: LabelCounts) -> float:
    """2·tp / (2·tp + fp + fn) over all decisions; NaN if no image has a label and none was predicted."""
    tp, fp, fn, _ = labels.counts.double().sum(1)
    return float(2 * tp / (2 * tp + fp + fn))


@streaming(LabelCounts)
def macro_f1(labels: LabelCounts) -> float:
    """Mean of 2·tp / (2·tp + fp + fn) over the labels that have images; NaN if none has."""
    tp, fp, fn, _ = labels.counts.double()
    present = tp + fn > 0
    return float((2 * tp / (2 * tp + fp + fn))[present].mean())


@streaming(ExactMatches)
def subset_accuracy(matches: ExactMatches) -> float:
    correct, images = matches.counts.tolist()
    return float(correct / images)


@streaming(LabelCounts)
def hamming_loss(labels: LabelCounts) -> float:
    return float(labels.counts[1:3].sum().double() / labels.counts.sum())


def average_precision(logits: Tensor, targets: Tensor) -> float:
    """Mean over the labels that have images (mAP); NaN if none has."""
    return _macro(ranking.average_precision, logits, targets)


def auroc(logits: Tensor, targets: Tensor) -> float:
    """Mean over the labels that some images have and some do not; NaN if there are none."""
    return _macro(ranking.area_under_roc, logits, targets)


def _macro(metric: Callable[[Tensor, Tensor], float], logits: Tensor, targets: Tensor) -> float:
    if bool(logits.isnan().any()):
        return float("nan")  # no mean over the columns that are left: the model is broken
    return ranking.nanmean_of(ranking.per_column(metric, logits, _positives(targets)))


def micro_average_precision(logits: Tensor, targets: Tensor) -> float:
    """Of all N·K decisions ranked together; NaN if no image has a label."""
    return ranking.average_precision(logits.flatten(), _positives(targets).flatten())


def ece(logits: Tensor, targets: Tensor) -> float:
    """Expected calibration error of the N·K probabilities against the share of yes among them."""
    return calibration_error(logits.double().sigmoid().flatten(), _positives(targets).flatten())


@dataclass(frozen=True)
class LabelScore(ClassScore):
    """Scores of one label: those of a class at probability 0.5, and how well its probabilities rank the images.

    Attributes:
        average_precision: None without images.
        auroc: None without images, or if every image has the label.
    """

    average_precision: float | None
    auroc: float | None


def label_scores(accumulator: MetricAccumulator, classes: Sequence[str]) -> tuple[LabelScore, ...]:
    """Scores of each label, in the order of `classes`."""
    tp, fp, fn, _ = accumulator.statistic(LabelCounts).counts.tolist()
    collected = accumulator.statistic(Collected)
    true = _positives(collected.targets)
    precisions = ranking.per_column(ranking.average_precision, collected.outputs, true)
    areas = ranking.per_column(ranking.area_under_roc, collected.outputs, true)
    return tuple(
        LabelScore(
            name,
            tp[i] + fn[i],
            *precision_recall_f1(tp[i], tp[i] + fn[i], tp[i] + fp[i]),
            finite_or_none(precisions[i]),
            finite_or_none(areas[i]),
        )
        for i, name in enumerate(classes)
    )


@dataclass(frozen=True)
class MultiLabelEvaluation(Evaluation):
    """Evaluation at probability 0.5; rates are fractions, the loss is in nats.

    Attributes:
        average_precision, auroc, macro_f1: means over the labels where they are defined.
        subset_accuracy: fraction of images with every label correct.
        per_label: scores of each label.
    """

    task = "multi-label"
    ROW_KIND = "label"
    SUMMARY = ("average_precision", "auroc", "micro_f1", "macro_f1", "subset_accuracy", "hamming_loss", "loss", "ece")
    STATISTICS = (LabelCounts, Collected)

    average_precision: float
    auroc: float
    micro_f1: float
    macro_f1: float
    subset_accuracy: float
    hamming_loss: float
    loss: float
    ece: float
    per_label: tuple[LabelScore, ...]

    @classmethod
    def of(cls, accumulator: MetricAccumulator, classes: Sequence[str]) -> MultiLabelEvaluation:
        return cls(
            images=accumulator.images,
            classes=tuple(classes),
            per_label=label_scores(accumulator, classes),
            **accumulator.compute(),
        )


EVALUATION = MultiLabelEvaluation
