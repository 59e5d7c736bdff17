"""The metrics of regression: numbers against numbers, in the user's units.

Shapes: outputs and targets (N, K) float32, N ≥ 1. Each metric is the mean of its values over the K target columns, as
scikit-learn's `multioutput="uniform_average"`; computed in float64. All results are Python floats.
"""

from __future__ import annotations

from torch import Tensor

__all__ = ["each_mae", "each_r2", "each_rmse", "loss", "mae", "mse", "r2", "rmse"]


def each_mae(outputs: Tensor, targets: Tensor) -> Tensor:
    """(K,) float64, as the other two."""
    return (outputs.double() - targets.double()).abs().mean(0)


def each_rmse(outputs: Tensor, targets: Tensor) -> Tensor:
    return _squared(outputs, targets).mean(0).sqrt()


def each_r2(outputs: Tensor, targets: Tensor) -> Tensor:
    """1 − Σ(y − ŷ)² / Σ(y − mean y)². A column whose targets are all equal has no variance to explain: NaN there."""
    y = targets.double()
    around = (y - y.mean(0)).square().sum(0)
    constant = (targets == targets[:1]).all(0)  # compared as given: the mean of equal numbers may be off by a rounding
    return (1 - _squared(outputs, targets).sum(0) / around).masked_fill(constant, float("nan"))


def mae(outputs: Tensor, targets: Tensor) -> float:
    return float(each_mae(outputs, targets).mean())


def mse(outputs: Tensor, targets: Tensor) -> float:
    return float(_squared(outputs, targets).mean())


loss = mse  # the task's own loss, in the targets' units


def rmse(outputs: Tensor, targets: Tensor) -> float:
    """The mean over the columns of each column's root."""
    return float(each_rmse(outputs, targets).mean())


def r2(outputs: Tensor, targets: Tensor) -> float:
    """The mean over the columns whose targets vary; NaN if none does, or if an output is NaN."""
    if bool(outputs.isnan().any()):
        return float("nan")
    return float(each_r2(outputs, targets).nanmean())


def _squared(outputs: Tensor, targets: Tensor) -> Tensor:
    return (outputs.double() - targets.double()).square()
