"""Asymmetric loss for multi-label targets: easy negatives are ignored."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from zoo.losses.base import LogitsLoss, Weights, broadcast_weights, labels, mean_of, number, whole


class Asymmetric(LogitsLoss):
    """-t·(1 - p)^gamma_pos·log p - (1 - t)·q^gamma_neg·log(1 - q) with p = σ(x) and q = max(p - clip, 0).

    The mean over all outputs (the authors sum over the labels). A negative with probability below clip has no loss, and
    one near 1, which may be a missing label, almost no gradient. Source: Ridnik et al. 2021, equations 4 to 7; defaults
    of its section 3 and the authors' code (github.com/Alibaba-MIIL/ASL).

    pos_weight: (C,) factors of the positives. ignore_index: class number to ignore; if all are ignored the loss is 0.

    Shape: output (N, C, …) logits; target (N, C, …) labels from 0 to 1, or (N, …) class numbers.
    """

    pos_weight: Tensor | None

    def __init__(
        self,
        gamma_neg: float = 4.0,
        gamma_pos: float = 1.0,
        clip: float = 0.05,
        pos_weight: Weights = None,
        ignore_index: int = -100,
    ) -> None:
        super().__init__()
        self.gamma_neg = number("gamma_neg", gamma_neg, least=0)
        self.gamma_pos = number("gamma_pos", gamma_pos, least=0)
        self.clip = number("clip", clip, least=0, most=0.5)
        self.register_weights("pos_weight", pos_weight)
        self.ignore_index = whole("ignore_index", ignore_index)

    def compute(self, output: Tensor, target: Tensor) -> Tensor:
        x = output
        t, counts = labels(x, target, self.ignore_index)
        positive = t * (self.gamma_pos * F.logsigmoid(-x)).exp() * F.softplus(-x)
        pos_weight = broadcast_weights(self.pos_weight, x, "pos_weight")
        if pos_weight is not None:
            positive = positive * pos_weight
        if self.clip == 0:
            negative = (self.gamma_neg * F.logsigmoid(x)).exp() * F.softplus(x)
        else:
            # Avoids 0^(gamma - 1), infinite for gamma < 1.
            q = (x.sigmoid() - self.clip).clamp(min=1e-12)
            negative = -(q**self.gamma_neg) * torch.log1p(-q)
        return mean_of(positive + (1 - t) * negative, counts)
