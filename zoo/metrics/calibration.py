"""Expected calibration error."""

from __future__ import annotations

import torch
from torch import Tensor

__all__ = ["calibration_error"]

NUM_BINS = 15  # Guo et al. 2017, "On Calibration of Modern Neural Networks", section 5: M = 15


def calibration_error(probability: Tensor, correct: Tensor) -> float:
    """Mean |frequency − mean probability| over bins of the probability, weighted by size; NaN if a probability is.

    Args:
        probability: (N,) float64, put into 15 bins (lower, upper] of equal width (Guo et al. 2017, equation 3).
        correct: (N,) bool, whether the event happened.
    """
    if bool(probability.isnan().any()):
        return float("nan")
    bin_index = (probability * NUM_BINS).ceil().long().clamp(1, NUM_BINS) - 1
    gap = torch.zeros(NUM_BINS, dtype=torch.float64).index_add_(0, bin_index, correct.double() - probability)
    return float(gap.abs().sum() / len(probability))
