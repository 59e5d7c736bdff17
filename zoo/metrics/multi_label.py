"""The metrics of multi-label classification: each label is a yes or no of its own.

Shapes: logits (N, K) float32, targets (N, K) float32, 0 or 1 for each label (soft ones count as 1 from 0.5), N ≥ 1.
Decisions are taken at probability 0.5. All results are Python floats.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from torch import Tensor
from torch.nn import functional

from zoo.metrics import ranking
from zoo.metrics.calibration import calibration_error

__all__ = [
    "auroc",
    "average_precision",
    "confusion_counts",
    "ece",
    "hamming_loss",
    "loss",
    "macro_f1",
    "micro_average_precision",
    "micro_f1",
    "positives",
    "subset_accuracy",
]

THRESHOLD = 0.5


class ConfusionCounts(NamedTuple):
    """Of each label, (K,) float64: decisions that were rightly yes, wrongly yes, wrongly no."""

    true_positives: Tensor
    false_positives: Tensor
    false_negatives: Tensor


def positives(targets: Tensor) -> Tensor:
    """(N, K) bool."""
    return targets >= THRESHOLD


def _decisions(logits: Tensor) -> Tensor:
    """(N, K) bool; by the probability, as prediction decides."""
    return logits.sigmoid() >= THRESHOLD


def confusion_counts(logits: Tensor, targets: Tensor) -> ConfusionCounts:
    chosen, true = _decisions(logits), positives(targets)
    return ConfusionCounts(*((part.sum(0).double()) for part in (chosen & true, chosen & ~true, ~chosen & true)))


def loss(logits: Tensor, targets: Tensor) -> float:
    """Mean binary cross entropy of all decisions in nats, without weights: comparable between runs whatever loss they
    trained with."""
    return float(functional.binary_cross_entropy_with_logits(logits, targets))


def micro_f1(logits: Tensor, targets: Tensor) -> float:
    """2·tp / (2·tp + fp + fn) over all decisions; NaN if no label is there and none was chosen."""
    tp, fp, fn = (part.sum() for part in confusion_counts(logits, targets))
    return float(2 * tp / (2 * tp + fp + fn))


def macro_f1(logits: Tensor, targets: Tensor) -> float:
    """Mean of 2·tp / (2·tp + fp + fn) over the labels that have images; NaN if none has."""
    tp, fp, fn = confusion_counts(logits, targets)
    present = tp + fn > 0
    return float((2 * tp / (2 * tp + fp + fn))[present].mean())


def average_precision(logits: Tensor, targets: Tensor) -> float:
    """Mean over the labels that have images (mAP); NaN if none has."""
    return _macro(ranking.average_precision, logits, targets)


def auroc(logits: Tensor, targets: Tensor) -> float:
    """Mean over the labels that some images have and some do not; NaN if there are none."""
    return _macro(ranking.area_under_roc, logits, targets)


def _macro(measure: Callable[[Tensor, Tensor], float], logits: Tensor, targets: Tensor) -> float:
    if bool(logits.isnan().any()):
        return float("nan")  # no mean over the columns that are left: the model is broken
    return ranking.nanmean_of(ranking.per_column(measure, logits, positives(targets)))


def micro_average_precision(logits: Tensor, targets: Tensor) -> float:
    """Of all N·K decisions ranked together; NaN if no image has a label."""
    return ranking.average_precision(logits.flatten(), positives(targets).flatten())


def subset_accuracy(logits: Tensor, targets: Tensor) -> float:
    return float((_decisions(logits) == positives(targets)).all(1).double().mean())


def hamming_loss(logits: Tensor, targets: Tensor) -> float:
    return float((_decisions(logits) != positives(targets)).double().mean())


def ece(logits: Tensor, targets: Tensor) -> float:
    """Expected calibration error of the N·K probabilities against the share of yes among them."""
    return calibration_error(logits.double().sigmoid().flatten(), positives(targets).flatten())
