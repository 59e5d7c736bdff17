"""The Dice coefficient of masks or labels as a loss."""

from __future__ import annotations

from zoo.losses.base import Weights, number
from zoo.losses.tversky import Tversky

__all__ = ["Dice"]


class Dice(Tversky):
    """1 - mean_c (2·Σ p·t + smooth) / (Σ p + Σ t + smooth), the sums over the batch's images and pixels.

    The Tversky loss with alpha = beta = 1/2; p, empty masks, weight and ignore_index as there: an empty mask has the
    loss 0 if nothing is predicted. Source: Milletari, Navab and Ahmadi 2016, with sums instead of squares below the
    line (Drozdzal et al. 2016).

    Shape: output (N, C, …) logits; target (N, …) class numbers, or (N, C, …) labels from 0 to 1.
    """

    def __init__(self, smooth: float = 1.0, weight: Weights = None, ignore_index: int = -100) -> None:
        # Both lines of the fraction are halved to become Tversky's.
        super().__init__(0.5, 0.5, number("smooth", smooth, least=0) / 2, weight, ignore_index)
