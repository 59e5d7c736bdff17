"""The Jaccard index (intersection over union) of masks or labels as a loss."""

from __future__ import annotations

from zoo.losses.base import Weights
from zoo.losses.tversky import Tversky


class Jaccard(Tversky):
    """1 - mean_c (Σ p·t + smooth) / (Σ p + Σ t - Σ p·t + smooth), the sums over the batch's images and pixels.

    The Tversky loss with alpha = beta = 1; see there for p, empty masks, weight and ignore_index. Source: Rahman and
    Wang 2016, equation 3.

    Shape: output (N, C, …) logits; target (N, …) class numbers, or (N, C, …) labels from 0 to 1.
    """

    def __init__(self, smooth: float = 1.0, weight: Weights = None, ignore_index: int = -100) -> None:
        super().__init__(1.0, 1.0, smooth, weight, ignore_index)
