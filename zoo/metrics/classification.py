"""The metrics of single-label classification.

Shapes: logits (N, K) float32, targets (N,) int64 in 0..K-1, N ≥ 1. All results are Python floats.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

__all__ = ["balanced_accuracy", "confusion_matrix", "ece", "loss", "macro_f1", "top1", "top5"]

BINS = 15  # Guo et al. 2017, "On Calibration of Modern Neural Networks", section 5: M = 15


def top1(logits: Tensor, targets: Tensor) -> float:
    return _top(logits, targets, 1)


def top5(logits: Tensor, targets: Tensor) -> float:
    """With K < 5 classes this is top-K, which is 1 by construction."""
    return _top(logits, targets, min(5, logits.shape[1]))


def _top(logits: Tensor, targets: Tensor, k: int) -> float:
    chosen = logits.topk(k, dim=1).indices
    return float((chosen == targets[:, None]).any(1).double().mean())


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


def ece(logits: Tensor, targets: Tensor) -> float:
    """Expected calibration error: mean |accuracy − confidence| over bins of the top probability, weighted by size.

    15 bins (lower, upper] of equal width on 0..1, Guo et al. 2017, equation 3.
    """
    confidence, predicted = logits.double().softmax(1).max(1)
    if confidence.isnan().any():
        return float("nan")
    correct = (predicted == targets).double()
    bin_of = (confidence * BINS).ceil().long().clamp(1, BINS) - 1
    gap = torch.zeros(BINS, dtype=torch.float64).index_add_(0, bin_of, correct - confidence)
    return float(gap.abs().sum() / len(targets))
