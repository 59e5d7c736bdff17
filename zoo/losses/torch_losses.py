"""The losses of torch.nn that fit an image task, on logits and the task's targets.

Differences from torch's classes: computed in float32 under autocast; BCE, NLL and KLDiv take logits and are stable;
targets have the task's form; outputs may have any shape (N, C, …). `reduction` is "mean" or "sum". Values are torch's
otherwise, and the formulas are documented with the torch.nn class named in each.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional as F

from zoo.losses.base import (
    LogitsLoss,
    Weights,
    broadcast_weights,
    has_classes,
    labels,
    number,
    one_of,
    ratio,
    same_shape,
    whole,
)


class _Reduced(LogitsLoss):
    def __init__(self, reduction: str = "mean") -> None:
        super().__init__()
        self.reduction = one_of("reduction", reduction, ("mean", "sum"))


def _checked(weight: Tensor | None, output: Tensor) -> Tensor | None:
    broadcast_weights(weight, output, "weight")  # checks the length
    return None if weight is None else weight.to(output)


def _rows(values: Tensor) -> Tensor:
    """(N, C, …) → (positions, C), for torch functions without further dimensions."""
    return values.movedim(1, -1).reshape(-1, values.shape[1])


class CrossEntropy(_Reduced):
    """-log softmax(x)[y], averaged with the weights w[y] (torch.nn.CrossEntropyLoss).

    weight: (C,) factors. ignore_index: class number to ignore; if all are ignored the loss is 0 (torch: NaN).
    label_smoothing: share of the target spread evenly over the classes (Szegedy et al. 2016).

    Shape: output (N, C, …); target (N, …) class numbers, or (N, C, …) probabilities, averaged over the positions.
    """

    weight: Tensor | None

    def __init__(
        self, weight: Weights = None, ignore_index: int = -100, label_smoothing: float = 0.0, reduction: str = "mean"
    ) -> None:
        super().__init__(reduction)
        self.register_weights("weight", weight)
        self.ignore_index = whole("ignore_index", ignore_index)
        self.label_smoothing = number("label_smoothing", label_smoothing, least=0, most=1)

    def compute(self, output: Tensor, target: Tensor) -> Tensor:
        weight = _checked(self.weight, output)
        smoothing = self.label_smoothing
        if not has_classes(output, target):
            probabilities = target.to(output.dtype)
            return F.cross_entropy(output, probabilities, weight, label_smoothing=smoothing, reduction=self.reduction)
        target = target.long()
        total = F.cross_entropy(
            output, target, weight, ignore_index=self.ignore_index, label_smoothing=smoothing, reduction="sum"
        )
        if self.reduction == "sum":
            return total
        counts = target != self.ignore_index
        shares = counts.to(output.dtype)
        if weight is not None:
            shares = shares * weight[target.where(counts, 0)]
        return ratio(total, shares.sum())


class NLL(CrossEntropy):
    """Cross entropy without smoothing: torch.nn.NLLLoss of log-softmax. Parameters and shapes: `CrossEntropy`."""

    def __init__(self, weight: Weights = None, ignore_index: int = -100, reduction: str = "mean") -> None:
        super().__init__(weight, ignore_index, 0.0, reduction)


class MultiMargin(_Reduced):
    """Σ_{i≠y} w[y]·max(0, margin - x[y] + x[i])^p / C, the multi-class hinge (torch.nn.MultiMarginLoss; Crammer and
    Singer 2001).

    p: 1 or 2. weight: (C,) factors. Shape: output (N, C, …); target (N, …) class numbers.
    """

    weight: Tensor | None

    def __init__(self, p: int = 1, margin: float = 1.0, weight: Weights = None, reduction: str = "mean") -> None:
        super().__init__(reduction)
        if p not in (1, 2):
            raise ValueError(f"p is 1 or 2, not {p!r}")
        self.p = int(p)
        self.margin = number("margin", margin)
        self.register_weights("weight", weight)

    def compute(self, output: Tensor, target: Tensor) -> Tensor:
        if not has_classes(output, target):
            raise ValueError("multi_margin takes class numbers, not a number for every output")
        weight = _checked(self.weight, output)
        return F.multi_margin_loss(
            _rows(output), target.long().reshape(-1), self.p, self.margin, weight, reduction=self.reduction
        )


class KLDiv(_Reduced):
    """Σ_c q[c]·(log q[c] - log softmax(x)[c]), 0·log 0 = 0 (torch.nn.KLDivLoss of log-softmax).

    reduction: "batchmean" averages over the positions, as the divergence is defined; "mean" over positions and classes,
    torch's default. Shape: output (N, C, …); target (N, C, …) probabilities q, or (N, …) class numbers, for which it
    equals the cross entropy.
    """

    def __init__(self, reduction: str = "batchmean") -> None:
        super().__init__("sum")
        self.over = one_of("reduction", reduction, ("batchmean", "mean", "sum"))

    def compute(self, output: Tensor, target: Tensor) -> Tensor:
        probabilities, _ = labels(output, target)
        total = F.kl_div(F.log_softmax(output, 1), probabilities, reduction="sum")
        parts = {"sum": 1, "mean": output.numel(), "batchmean": output.numel() // output.shape[1]}
        return total / parts[self.over]


class BCEWithLogits(_Reduced):
    """-w·(pos_weight·t·log σ(x) + (1 - t)·log(1 - σ(x))) (torch.nn.BCEWithLogitsLoss).

    weight: (C,) factors of the whole term; pos_weight: (C,) factors of the positives. Shape: output (N, C, …); target
    (N, C, …) from 0 to 1, or (N, …) class numbers: each class against the others (Wightman et al. 2021).
    """

    weight: Tensor | None
    pos_weight: Tensor | None

    def __init__(self, weight: Weights = None, pos_weight: Weights = None, reduction: str = "mean") -> None:
        super().__init__(reduction)
        self.register_weights("weight", weight)
        self.register_weights("pos_weight", pos_weight)

    def compute(self, output: Tensor, target: Tensor) -> Tensor:
        wanted, _ = labels(output, target)
        return F.binary_cross_entropy_with_logits(
            output,
            wanted,
            weight=broadcast_weights(self.weight, output, "weight"),
            pos_weight=broadcast_weights(self.pos_weight, output, "pos_weight"),
            reduction=self.reduction,
        )


class BCE(BCEWithLogits):
    """torch.nn.BCELoss of σ(x), computed from the logits: `BCEWithLogits` without pos_weight."""

    def __init__(self, weight: Weights = None, reduction: str = "mean") -> None:
        super().__init__(weight, None, reduction)


class MultiLabelMargin(_Reduced):
    """Σ_{j in labels, i not in labels} max(0, 1 - (x[j] - x[i])) / C (torch.nn.MultiLabelMarginLoss).

    It ranks an image's labels above the others; its outputs have no threshold.
    Shape: output (N, C, …); target (N, C, …), a label where it is above 0.5.
    """

    def compute(self, output: Tensor, target: Tensor) -> Tensor:
        present = _rows(same_shape(output, target)) > 0.5
        # torch takes the indices of the labels, padded with -1; sorting puts the labels first.
        first = present.int().argsort(dim=1, descending=True)
        positions = torch.arange(first.shape[1], device=first.device)
        indices = first.where(positions < present.sum(1, keepdim=True), -1)
        return F.multilabel_margin_loss(_rows(output), indices, reduction=self.reduction)


class MultiLabelSoftMargin(_Reduced):
    """-Σ_c w[c]·(t·log σ(x) + (1 - t)·log σ(-x)) / C (torch.nn.MultiLabelSoftMarginLoss); without weights equal to the
    binary cross entropy.

    weight: (C,) factors of the whole term. Shape: output and target (N, C, …), targets from 0 to 1.
    """

    weight: Tensor | None

    def __init__(self, weight: Weights = None, reduction: str = "mean") -> None:
        super().__init__(reduction)
        self.register_weights("weight", weight)

    def compute(self, output: Tensor, target: Tensor) -> Tensor:
        wanted = same_shape(output, target)
        weight = _checked(self.weight, output)
        return F.multilabel_soft_margin_loss(_rows(output), _rows(wanted), weight, reduction=self.reduction)


class SoftMargin(_Reduced):
    """log(1 + exp(-y·x)) with y = 2t - 1 (torch.nn.SoftMarginLoss, which overflows for |x| > 88; this does not).

    For targets 0 and 1 equal to the binary cross entropy. Shape: output and target (N, C, …), targets from 0 to 1.
    """

    def compute(self, output: Tensor, target: Tensor) -> Tensor:
        values = F.softplus((1 - 2 * same_shape(output, target)) * output)
        return values.sum() if self.reduction == "sum" else values.mean()


class _Distance(_Reduced):
    """A distance of outputs and targets of the same shape (N, C, …)."""

    def __init__(self, function: Callable[..., Tensor], reduction: str, **fixed: float) -> None:
        super().__init__(reduction)
        self.function, self.fixed = function, fixed

    def compute(self, output: Tensor, target: Tensor) -> Tensor:
        return self.function(output, same_shape(output, target), reduction=self.reduction, **self.fixed)


class L1(_Distance):
    """|x - y| (torch.nn.L1Loss). Shape: output and target (N, C, …)."""

    def __init__(self, reduction: str = "mean") -> None:
        super().__init__(F.l1_loss, reduction)


class MSE(_Distance):
    """(x - y)² (torch.nn.MSELoss). Shape: output and target (N, C, …)."""

    def __init__(self, reduction: str = "mean") -> None:
        super().__init__(F.mse_loss, reduction)


class SmoothL1(_Distance):
    """(x - y)² / 2·beta where |x - y| < beta, else |x - y| - beta/2 (torch.nn.SmoothL1Loss; Girshick 2015).

    Shape: output and target (N, C, …).
    """

    def __init__(self, beta: float = 1.0, reduction: str = "mean") -> None:
        super().__init__(F.smooth_l1_loss, reduction, beta=number("beta", beta, least=0))


class Huber(_Distance):
    """(x - y)²/2 where |x - y| < delta, else delta·(|x - y| - delta/2) (torch.nn.HuberLoss; Huber 1964).

    Shape: output and target (N, C, …).
    """

    def __init__(self, delta: float = 1.0, reduction: str = "mean") -> None:
        super().__init__(F.huber_loss, reduction, delta=number("delta", delta, above=0))
