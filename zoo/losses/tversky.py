"""The Tversky index of masks or labels as a loss; Dice and Jaccard are special cases."""

from __future__ import annotations

import torch
from torch import Tensor

from zoo.losses.base import LogitsLoss, Weights, broadcast_weights, has_classes, labels, number, whole


class Tversky(LogitsLoss):
    """1 - mean_c (TP + s) / (TP + alpha·FP + beta·FN + s): alpha weights false positives, beta false negatives.

    For each class c, TP = Σ p·t, FP = Σ p·(1 - t) and FN = Σ (1 - p)·t run over the images of the batch and their
    pixels. p is softmax(x) for class numbers and σ(x) for labels. Source: Salehi, Erdogmus and Gholipour 2017, equation
    4, whose best alpha and beta (section 3.3) are the defaults.

    smooth: s. For a class without targets in the batch (an empty mask) the index is s / (s + alpha·FP): loss 0 if
    nothing is predicted, with a useful gradient otherwise; with smooth=0 it has no gradient. weight: (C,) weights of
    the classes in the mean. ignore_index: class number to ignore; if all are ignored the loss is 0.

    Shape: output (N, C, …) logits; target (N, …) class numbers, or (N, C, …) labels from 0 to 1.
    """

    weight: Tensor | None

    def __init__(
        self,
        alpha: float = 0.3,
        beta: float = 0.7,
        smooth: float = 1.0,
        weight: Weights = None,
        ignore_index: int = -100,
    ) -> None:
        super().__init__()
        self.alpha = number("alpha", alpha, least=0)
        self.beta = number("beta", beta, least=0)
        self.smooth = number("smooth", smooth, least=0)
        if self.alpha == self.beta == 0:
            raise ValueError("alpha and beta are both 0: the index would always be 1")
        self.register_weights("weight", weight)
        self.ignore_index = whole("ignore_index", ignore_index)

    def compute(self, output: Tensor, target: Tensor) -> Tensor:
        one_class_each = output.shape[1] > 1 and has_classes(output, target)
        p = output.softmax(1) if one_class_each else output.sigmoid()
        t, counts = labels(output, target, self.ignore_index)
        if counts is not None:
            p = p * counts
        weight = broadcast_weights(self.weight, output, "weight")
        return 1 - self.index(p, t, None if weight is None else weight.flatten())

    def index(self, p: Tensor, t: Tensor, weight: Tensor | None = None) -> Tensor:
        """The index of probabilities and labels (N, C, …), averaged over the classes with the weights (C,)."""
        over = [d for d in range(p.ndim) if d != 1]
        tp, fp, fn = (p * t).sum(over), (p * (1 - t)).sum(over), ((1 - p) * t).sum(over)
        whole = tp + self.alpha * fp + self.beta * fn + self.smooth
        nothing = whole == 0  # only if smooth is 0: no prediction and no target
        each = (tp + self.smooth).where(~nothing, torch.ones_like(tp)) / whole.where(~nothing, torch.ones_like(whole))
        return each.mean() if weight is None else (each * weight).sum() / weight.sum()
