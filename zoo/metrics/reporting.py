"""A full evaluation of any task from outputs and targets."""

from __future__ import annotations

from collections.abc import Sequence
from importlib import import_module
from typing import Literal, cast, overload

from torch import Tensor

from zoo.errors import DataError
from zoo.metrics.accumulator import MetricAccumulator
from zoo.metrics.evaluation import Evaluation
from zoo.metrics.multi_label import MultiLabelEvaluation
from zoo.metrics.regression import RegressionEvaluation
from zoo.metrics.single_label import SingleLabelEvaluation
from zoo.tasks import TaskName, get_task


@overload
def report(
    outputs: Tensor, targets: Tensor, classes: Sequence[str], task: Literal["single-label"] = "single-label"
) -> SingleLabelEvaluation: ...
@overload
def report(
    outputs: Tensor, targets: Tensor, classes: Sequence[str], task: Literal["multi-label"]
) -> MultiLabelEvaluation: ...
@overload
def report(
    outputs: Tensor, targets: Tensor, classes: Sequence[str], task: Literal["regression"]
) -> RegressionEvaluation: ...
@overload
def report(outputs: Tensor, targets: Tensor, classes: Sequence[str], task: TaskName) -> Evaluation: ...
def report(outputs: Tensor, targets: Tensor, classes: Sequence[str], task: TaskName = "single-label") -> Evaluation:
    """Evaluate a model's outputs.

    Args:
        outputs: (N, K) float32.
        targets: (N,) int64 or (N, K) float32, as the task has them.
        classes: the K names in the order of the outputs.
        task: the task.

    Raises:
        DataError: N is 0.
        UsageError: there is no such task.
    """
    accumulator = evaluation_accumulator(task)
    accumulator.update(outputs, targets)
    return evaluation_of(accumulator, classes, task)


def evaluation_accumulator(task: TaskName) -> MetricAccumulator:
    """An accumulator of everything that the evaluation of a task needs. Raises UsageError if there is no such task."""
    return MetricAccumulator.of(_evaluation_class(task).SUMMARY, task)


def evaluation_of(accumulator: MetricAccumulator, classes: Sequence[str], task: TaskName) -> Evaluation:
    """The evaluation of what `evaluation_accumulator(task)` has accumulated. Raises DataError if that is no image."""
    if accumulator.images == 0:
        raise DataError("no image to evaluate", "give at least one labelled image")
    return _evaluation_class(task).of(accumulator, classes)


def _evaluation_class(task: TaskName) -> type[Evaluation]:
    return cast("type[Evaluation]", import_module(get_task(task).metrics_module).EVALUATION)
