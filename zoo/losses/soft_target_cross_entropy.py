"""Cross entropy with class probabilities as targets, from mixup or a teacher."""

from __future__ import annotations

from torch import Tensor

from zoo.losses.base import LogitsLoss, Weights, broadcast_weights, labels, ratio, whole


class SoftTargetCrossEntropy(LogitsLoss):
    """-Σ_c w[c]·q[c]·log softmax(x)[c], summed over the positions and divided by Σ w·q.

    Without weights it equals timm's SoftTargetCrossEntropy; for class numbers torch's cross entropy. Source: Zhang et
    al. 2018 (mixup), section 2.

    weight: (C,) factors. ignore_index: class number to ignore; if all are ignored the loss is 0.

    Shape: output (N, C, …) logits; target (N, C, …) probabilities q that sum to 1 over C, or (N, …) class numbers.
    """

    weight: Tensor | None

    def __init__(self, weight: Weights = None, ignore_index: int = -100) -> None:
        super().__init__()
        self.register_weights("weight", weight)
        self.ignore_index = whole("ignore_index", ignore_index)

    def compute(self, output: Tensor, target: Tensor) -> Tensor:
        q, _ = labels(output, target, self.ignore_index)
        weight = broadcast_weights(self.weight, output, "weight")
        if weight is not None:
            q = q * weight
        return ratio(-(q * output.log_softmax(1)).sum(), q.sum())
