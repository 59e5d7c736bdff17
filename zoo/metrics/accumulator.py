"""Several metrics of outputs that arrive batch by batch."""

from __future__ import annotations

import math
import numbers
from collections.abc import Callable, Iterable, Mapping
from importlib import import_module
from typing import Any, TypeVar, cast

from torch import Tensor

from zoo.errors import DataError, UsageError
from zoo.metrics.statistics import Collected, Gather, ImageCount, Statistic, StreamingMetric
from zoo.metrics.table import METRICS, MetricFunction, custom_metric, infer_task, metric_of_task
from zoo.tasks import TaskName, get_task

# Errors of a wrong metric of the user; any other is a bug whose traceback explains it best.
_CALL_ERRORS = (RuntimeError, ValueError, TypeError, IndexError, AttributeError, KeyError, ArithmeticError)

S = TypeVar("S", bound=Statistic)


class MetricAccumulator:
    """Metrics that are updated with batches. Statistics that several metrics need are accumulated once.

    Args:
        functions: name → metric.
        statistics: factories of further statistics to accumulate.
    """

    def __init__(
        self,
        functions: Mapping[str, MetricFunction | StreamingMetric[Any]],
        statistics: Iterable[Callable[[], Statistic]] = (),
    ) -> None:
        self._functions = dict(functions)
        needed = [f.statistic if isinstance(f, StreamingMetric) else Collected for f in functions.values()]
        self._statistics: dict[Callable[[], Statistic], Statistic] = {
            f: f() for f in [ImageCount, *needed, *statistics]
        }

    @classmethod
    def of(cls, names: Iterable[str], task: TaskName, *, collect: bool = False) -> MetricAccumulator:
        """The metrics `names` of a task, and the statistics that its evaluation and picture need. collect: keep all
        outputs.

        Raises:
            UsageError: an unknown name, or a metric of another task.
        """
        owner = get_task(task)
        extra = (Collected,) if owner.collects_outputs else import_module(owner.metrics_module).EVALUATION.STATISTICS
        extra = (*extra, Collected) if collect and Collected not in extra else extra
        return cls({name: _function(name, task) for name in names}, extra)

    @property
    def images(self) -> int:
        return int(self.statistic(ImageCount).counts)

    @property
    def collects(self) -> bool:
        return Collected in self._statistics

    def update(self, outputs: Tensor, targets: Tensor) -> None:
        """Add a batch: outputs (n, K) float32 and targets (n,) int64 or (n, K) float32, both on the CPU."""
        if len(targets) == 0:
            return
        for statistic in self._statistics.values():
            statistic.update(outputs, targets)

    def merge(self, gather: Gather) -> None:
        """Combine the batches of all processes; every process calls it."""
        for statistic in self._statistics.values():
            statistic.merge(gather)

    def compute(self) -> dict[str, float]:
        """Name → value; NaN where a metric is not defined on these targets.

        Raises:
            DataError: there was no image.
            UsageError: a metric of the user fails or does not return a number.
        """
        if self.images == 0:
            raise DataError("no image to measure", "give at least one labelled image")
        return {name: self._value(name, function) for name, function in self._functions.items()}

    def statistic(self, factory: Callable[[], S]) -> S:
        """The accumulated statistic, or the same computed from the collected outputs.

        Raises:
            KeyError: it was not accumulated, and outputs were not collected.
        """
        if factory in self._statistics:
            return cast(S, self._statistics[factory])
        collected = cast(Collected, self._statistics[Collected])
        computed = factory()
        computed.update(collected.outputs, collected.targets)
        return computed

    def _value(self, name: str, function: MetricFunction | StreamingMetric[Any]) -> float:
        if isinstance(function, StreamingMetric):
            return float(function(self.statistic(function.statistic)))
        collected = self.statistic(Collected)
        if ":" in name:
            return _call_custom_metric(name, function, collected.outputs, collected.targets)
        return float(function(collected.outputs, collected.targets))


def compute(
    names: Iterable[str], outputs: Tensor, targets: Tensor, *, task: TaskName | None = None
) -> dict[str, float]:
    """Name → value of each metric; NaN where it is not defined on these targets.

    Args:
        names: metrics of the table, or of the user as "module:attribute".
        outputs: (N, K) float32, on the CPU.
        targets: (N,) int64 or (N, K) float32, on the CPU.
        task: the task; by default single-label for int64 targets, for floats the task of each metric.

    Raises:
        UsageError: an unknown name, a metric of another task, or a metric of the user that fails or does not return a
            number.
        DataError: N is 0.
    """
    class_targets = not targets.is_floating_point()
    accumulator = MetricAccumulator(
        {
            name: _function(name, task or (infer_task(name, class_targets=class_targets) if ":" not in name else None))
            for name in names
        }
    )
    accumulator.update(outputs, targets)
    return accumulator.compute()


def _function(name: str, task: TaskName | None) -> MetricFunction | StreamingMetric[Any]:
    if ":" in name or task is None:
        return custom_metric(name)
    metric_of_task(name, task)
    module = import_module(get_task(task).metrics_module)
    if name in METRICS:
        return cast(MetricFunction, getattr(module, name))
    return cast("StreamingMetric[Any]", module.top_k(int(name.removeprefix("top"))))


def _call_custom_metric(name: str, function: MetricFunction, outputs: Tensor, targets: Tensor) -> float:
    """The value, a Python number or a tensor or array without dimensions. NaN is refused: it would never be best."""
    advice = "a metric takes (outputs, targets) and returns one number"
    try:
        value = function(outputs, targets)
    except _CALL_ERRORS as e:
        shapes = f"outputs {tuple(outputs.shape)} and targets {tuple(targets.shape)}"
        raise UsageError(f"the metric {name} failed on {shapes}: {type(e).__name__}: {e}", advice) from e
    shape = getattr(value, "shape", ())
    if tuple(shape):
        raise UsageError(f"the metric {name} returned shape {tuple(shape)}, not a number", advice)
    if hasattr(value, "item"):
        value = value.item()
    if not isinstance(value, numbers.Real):
        raise UsageError(f"the metric {name} returned a {type(value).__name__}, not a number", advice)
    if math.isnan(value):
        raise UsageError(f"the metric {name} returned NaN", "return a number where the metric is not defined")
    return float(value)
