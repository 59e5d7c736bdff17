"""The metrics of single-label classification.

Shapes: logits (N, K) float32, targets (N,) int64 in 0..K-1, N ≥ 1. All results are Python floats.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional

from zoo.metrics import ranking
from zoo.metrics.calibration import calibration_error

__all__ = [
    "auroc",
    "average_precision",
    "balanced_accuracy",
    "confusion_matrix",
    "ece",
    "loss",
    "macro_f1",
    "micro_f1",
    "top1",
    "top5",
    "top_k",
]


def top_k(k: int) -> Callable[[Tensor, Tensor], float]:
    """The metric top<k>. With fewer than k classes it is 1 by construction."""

    def share(logits: Tensor, targets: Tensor) -> float:
        chosen = logits.topk(min(k, logits.shape[1]), dim=1).indices
        return float((chosen == targets[:, None]).any(1).double().mean())

    return share


top1 = top_k(1)
top5 = top_k(5)


def loss(logits: Tensor, targets: Tensor) -> float:
    """Mean cross entropy in nats, without label smoothing: comparable between runs whatever loss they trained with."""
    return float(functional.cross_entropy(logits, targets))


def confusion_matrix(logits: Tensor, targets: Tensor) -> Tensor:
    """(K, K) int64: row = true class, column = predicted class."""
    classes = logits.shape[1]
    pairs = targets * classes + logits.argmax(1)
    return torch.bincount(pairs, minlength=classes * classes).view(classes, classes)


def balanced_accuracy(logits: Tensor, targets: Tensor) -> float:
    """Mean recall over the classes that have at least one image."""
    matrix = confusion_matrix(logits, targets).double()
    support = matrix.sum(1)
    present = support > 0
    return float((matrix.diagonal()[present] / support[present]).mean())


def macro_f1(logits: Tensor, targets: Tensor) -> float:
    """Mean of 2·tp / (2·tp + fp + fn) over the classes that have at least one image."""
    matrix = confusion_matrix(logits, targets).double()
    present = matrix.sum(1) > 0
    both = matrix.sum(0) + matrix.sum(1)  # 2·tp + fp + fn
    return float((2 * matrix.diagonal()[present] / both[present]).mean())


def micro_f1(logits: Tensor, targets: Tensor) -> float:
    """F1 of all decisions together. Where one class is chosen an error is one fp and one fn, so that this is top1."""
    return top1(logits, targets)


def auroc(logits: Tensor, targets: Tensor) -> float:
    """Each class's probability as a score against all others, then the mean over the classes that have images and are
    not all that there is ("one-vs-rest, macro"); NaN if there are none."""
    return _one_vs_rest(ranking.area_under_roc, logits, targets)


def average_precision(logits: Tensor, targets: Tensor) -> float:
    """Each class's probability as a score against all others, then the mean over the classes that have images."""
    return _one_vs_rest(ranking.average_precision, logits, targets)


def _one_vs_rest(measure: Callable[[Tensor, Tensor], float], logits: Tensor, targets: Tensor) -> float:
    present = targets.bincount().nonzero()[:, 0]
    scores = logits.double().softmax(1)[:, present]
    return ranking.nanmean_of(ranking.per_column(measure, scores, targets[:, None] == present))


def ece(logits: Tensor, targets: Tensor) -> float:
    """Expected calibration error: mean |accuracy − confidence| over bins of the top probability, weighted by size.

    15 bins (lower, upper] of equal width on 0..1, Guo et al. 2017, equation 3.
    """
    confidence, predicted = logits.double().softmax(1).max(1)
    return calibration_error(confidence, predicted == targets)
