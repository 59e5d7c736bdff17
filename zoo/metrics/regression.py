"""The metrics of regression: numbers against numbers, in the user's units.

Shapes: outputs and targets (N, K) float32, N ≥ 1. Each metric is the mean of its values over the K target columns, as
scikit-learn's `multioutput="uniform_average"`; computed in float64. All results are Python floats.
"""

from __future__ import annotations

from torch import Tensor

__all__ = ["loss", "mae", "mae_per_column", "mse", "r2", "r2_per_column", "rmse", "rmse_per_column"]


def mae_per_column(outputs: Tensor, targets: Tensor) -> Tensor:
    """(K,) float64, as the other two."""
    return (outputs.double() - targets.double()).abs().mean(0)


def rmse_per_column(outputs: Tensor, targets: Tensor) -> Tensor:
    return _squared(outputs, targets).mean(0).sqrt()


def r2_per_column(outputs: Tensor, targets: Tensor) -> Tensor:
    """1 − Σ(y − ŷ)² / Σ(y − mean y)². A column whose targets are all equal has no variance to explain: NaN there."""
    y = targets.double()
    total_squares = (y - y.mean(0)).square().sum(0)
    constant = (targets == targets[:1]).all(0)  # compared as given: the mean of equal numbers may be off by a rounding
    return (1 - _squared(outputs, targets).sum(0) / total_squares).masked_fill(constant, float("nan"))


def mae(outputs: Tensor, targets: Tensor) -> float:
    return float(mae_per_column(outputs, targets).mean())


def mse(outputs: Tensor, targets: Tensor) -> float:
    return float(_squared(outputs, targets).mean())


loss = mse  # the task's own loss, in the targets' units


def rmse(outputs: Tensor, targets: Tensor) -> float:
    """The mean over the columns of each column's root."""
    return float(rmse_per_column(outputs, targets).mean())


def r2(outputs: Tensor, targets: Tensor) -> float:
    """The mean over the columns whose targets vary; NaN if none does, or if an output is NaN."""
    if bool(outputs.isnan().any()):
        return float("nan")
    return float(r2_per_column(outputs, targets).nanmean())


def _squared(outputs: Tensor, targets: Tensor) -> Tensor:
    return (outputs.double() - targets.double()).square()
