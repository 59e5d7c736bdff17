"""The Dice coefficient of masks or labels as a loss."""

from __future__ import annotations

from zoo.losses.base import Weights, number
from zoo.losses.tversky import Tversky


class Dice(Tversky):
    """1 - mean_c (2·Σ p·t + smooth) / (Σ p + Σ t + smooth), the sums over the batch's images and pixels.

    The Tversky loss with alpha = beta = 1/2; see there for p, empty masks, weight and ignore_index. Source: Milletari,
    Navab and Ahmadi 2016, with sums instead of squares in the denominator (Drozdzal et al. 2016).

    Shape: output (N, C, …) logits; target (N, …) class numbers, or (N, C, …) labels from 0 to 1.
    """

    def __init__(self, smooth: float = 1.0, weight: Weights = None, ignore_index: int = -100) -> None:
        # Numerator and denominator are halved to match Tversky's.
        super().__init__(0.5, 0.5, number("smooth", smooth, least=0) / 2, weight, ignore_index)
