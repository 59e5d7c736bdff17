"""Binary cross entropy (each pixel) plus Dice (the whole mask)."""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional as F

from zoo.losses.base import LogitsLoss, Weights, broadcast_weights, labels, mean_of, number, whole
from zoo.losses.dice import Dice


class BCEDice(LogitsLoss):
    """(1 - dice_share)·BCE(x, t) + dice_share·Dice(σ(x), t).

    BCE is the mean over all outputs, Dice that of `zoo.losses.dice`; class numbers become one-hot labels. pos_weight:
    (C,) factors of the BCE's positives. ignore_index: class number to ignore; if all are ignored the loss is 0. Source:
    nnU-Net (Isensee et al. 2021, Methods), with sigmoids.

    Shape: output (N, C, …) logits; target (N, C, …) labels from 0 to 1, or (N, …) class numbers.
    """

    pos_weight: Tensor | None

    def __init__(
        self, dice_share: float = 0.5, smooth: float = 1.0, pos_weight: Weights = None, ignore_index: int = -100
    ) -> None:
        super().__init__()
        self.dice_share = number("dice_share", dice_share, least=0, most=1)
        self.dice = Dice(smooth)
        self.register_weights("pos_weight", pos_weight)
        self.ignore_index = whole("ignore_index", ignore_index)

    def compute(self, output: Tensor, target: Tensor) -> Tensor:
        t, counts = labels(output, target, self.ignore_index)
        pos_weight = broadcast_weights(self.pos_weight, output, "pos_weight")
        bce = F.binary_cross_entropy_with_logits(output, t, pos_weight=pos_weight, reduction="none")
        p = output.sigmoid() if counts is None else output.sigmoid() * counts
        return (1 - self.dice_share) * mean_of(bce, counts) + self.dice_share * (1 - self.dice.index(p, t))
