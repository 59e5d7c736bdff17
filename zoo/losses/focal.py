"""Focal loss: a lower weight for easy examples."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from zoo.losses.base import LogitsLoss, Weights, broadcast_weights, has_classes, labels, mean_of, number, ratio, whole


class Focal(LogitsLoss):
    """Classes: -w[y]·(1 - p[y])^gamma·log p[y] with p = softmax(x), averaged with the weights w[y]: with gamma = 0 the
    cross entropy. Labels: -alpha·w·t·(1 - p)^gamma·log p - (1 - alpha)·(1 - t)·p^gamma·log(1 - p) with p = σ(x), the
    mean over all outputs.

    Source: Lin et al. 2017, equations 4 and 5, gamma = 2 from its table 1b. Their alpha = 0.25 is for the many empty
    boxes of object detection, so here the default is no alpha.

    alpha: from 0 to 1, weight of the positives; labels only. weight: (C,) factors of a class's examples or a label's
    positives. ignore_index: class number to ignore; if all are ignored the loss is 0.

    Shape: output (N, C, …) logits; target (N, …) class numbers, or (N, C, …) labels from 0 to 1.
    """

    weight: Tensor | None

    def __init__(
        self, gamma: float = 2.0, alpha: float | None = None, weight: Weights = None, ignore_index: int = -100
    ) -> None:
        super().__init__()
        self.gamma = number("gamma", gamma, least=0)
        if isinstance(alpha, (list, tuple)):
            raise ValueError("alpha is one number, the weight of the positives; use weight for the classes")
        self.alpha = None if alpha is None else number("alpha", alpha, least=0, most=1)
        self.register_weights("weight", weight)
        self.ignore_index = whole("ignore_index", ignore_index)

    def compute(self, output: Tensor, target: Tensor) -> Tensor:
        weight = broadcast_weights(self.weight, output, "weight")
        if output.shape[1] > 1 and has_classes(output, target):
            if self.alpha is not None:
                raise ValueError("focal: alpha is for labels; use weight for classes")
            return self._classes(output, target.long().unsqueeze(1), weight)
        return self._labels(output, *labels(output, target, self.ignore_index), weight)

    def _classes(self, x: Tensor, y: Tensor, weight: Tensor | None) -> Tensor:
        counts = y != self.ignore_index
        y = y.where(counts, 0)
        log_p = x.log_softmax(1).gather(1, y)
        # Avoids 0^(gamma - 1), infinite for gamma < 1; below the clamp p rounds to 1.
        wrong = (-torch.expm1(log_p)).clamp(min=1e-12)
        shares = counts.to(x.dtype)
        if weight is not None:
            shares = shares * weight.expand_as(x).gather(1, y)
        return ratio((-(wrong**self.gamma) * log_p * shares).sum(), shares.sum())

    def _labels(self, x: Tensor, t: Tensor, counts: Tensor | None, weight: Tensor | None) -> Tensor:
        # exp(gamma·log p), because powers of a saturated sigmoid have vanishing or exploding gradients.
        positive = t * (self.gamma * F.logsigmoid(-x)).exp() * F.softplus(-x)
        negative = (1 - t) * (self.gamma * F.logsigmoid(x)).exp() * F.softplus(x)
        if weight is not None:
            positive = positive * weight
        if self.alpha is not None:
            positive, negative = self.alpha * positive, (1 - self.alpha) * negative
        return mean_of(positive + negative, counts)
