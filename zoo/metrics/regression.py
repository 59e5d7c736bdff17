"""Metrics and evaluation of regression, in the user's units.

Shapes: outputs and targets (N, K) float32, N ≥ 1. Each metric is the mean of its values over the K target columns, as
scikit-learn's `multioutput="uniform_average"`; computed in float64. All results are Python floats.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor

from zoo.metrics.accumulator import MetricAccumulator
from zoo.metrics.evaluation import Evaluation, finite_or_none
from zoo.metrics.statistics import Collected


def _mae_per_column(outputs: Tensor, targets: Tensor) -> Tensor:
    return (outputs.double() - targets.double()).abs().mean(0)


def _rmse_per_column(outputs: Tensor, targets: Tensor) -> Tensor:
    return _squared(outputs, targets).mean(0).sqrt()


def _r2_per_column(outputs: Tensor, targets: Tensor) -> Tensor:
    """1 − Σ(y − ŷ)² / Σ(y − mean y)². NaN for a column whose targets are all equal."""
    y = targets.double()
    total_squares = (y - y.mean(0)).square().sum(0)
    constant = (targets == targets[:1]).all(0)  # their mean may differ from equal numbers by a rounding error
    return (1 - _squared(outputs, targets).sum(0) / total_squares).masked_fill(constant, float("nan"))


def mae(outputs: Tensor, targets: Tensor) -> float:
    return float(_mae_per_column(outputs, targets).mean())


def mse(outputs: Tensor, targets: Tensor) -> float:
    return float(_squared(outputs, targets).mean())


loss = mse  # the task's own loss, in the targets' units


def rmse(outputs: Tensor, targets: Tensor) -> float:
    """The mean over the columns of each column's root."""
    return float(_rmse_per_column(outputs, targets).mean())


def r2(outputs: Tensor, targets: Tensor) -> float:
    """The mean over the columns whose targets vary; NaN if none does, or if an output is NaN."""
    if bool(outputs.isnan().any()):
        return float("nan")
    return float(_r2_per_column(outputs, targets).nanmean())


def _squared(outputs: Tensor, targets: Tensor) -> Tensor:
    return (outputs.double() - targets.double()).square()


@dataclass(frozen=True)
class TargetScore:
    """Scores of one target column, in its units.

    Attributes:
        mean: mean of the targets.
        r2: None if the targets are all equal.
    """

    name: str
    mean: float
    mae: float | None
    rmse: float | None
    r2: float | None


@dataclass(frozen=True)
class RegressionEvaluation(Evaluation):
    """Means over the target columns, in their units; r2 over the columns that vary, NaN if none does."""

    task = "regression"
    ROW_KIND = "target"
    SUMMARY = ("mae", "rmse", "r2")
    STATISTICS = (Collected,)

    mae: float
    rmse: float
    r2: float
    per_target: tuple[TargetScore, ...]

    @classmethod
    def of(cls, accumulator: MetricAccumulator, classes: Sequence[str]) -> RegressionEvaluation:
        collected = accumulator.statistic(Collected)
        outputs, targets = collected.outputs, collected.targets
        means = targets.double().mean(0).tolist()
        columns = [f(outputs, targets).tolist() for f in (_mae_per_column, _rmse_per_column, _r2_per_column)]
        return cls(
            images=accumulator.images,
            classes=tuple(classes),
            per_target=tuple(
                TargetScore(name, mean, finite_or_none(mae), finite_or_none(rmse), finite_or_none(r2))
                for name, mean, mae, rmse, r2 in zip(classes, means, *columns, strict=True)
            ),
            **accumulator.compute(),
        )


EVALUATION = RegressionEvaluation
