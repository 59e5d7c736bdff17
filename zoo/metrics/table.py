"""The table of metrics: names, directions, and what is wrong with a name. Imports no torch."""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from zoo.errors import UsageError, did_you_mean, nearest
from zoo.registry import import_object
from zoo.tasks import TASKS, TaskName

if TYPE_CHECKING:
    from torch import Tensor

MetricFunction = Callable[["Tensor", "Tensor"], Any]


@dataclass(frozen=True)
class Metric:
    """One line of the table.

    Attributes:
        description: one line for `docs/`.
        tasks: the tasks that have this metric.
        higher_is_better: direction.
        fraction: a number from 0 to 1 that is shown in percent.
    """

    description: str
    tasks: tuple[TaskName, ...]
    higher_is_better: bool = True
    fraction: bool = True


_SINGLE: tuple[TaskName, ...] = ("single-label",)
_MULTI: tuple[TaskName, ...] = ("multi-label",)
_BOTH: tuple[TaskName, ...] = ("single-label", "multi-label")
_VALUES: tuple[TaskName, ...] = ("regression",)
_ALL: tuple[TaskName, ...] = ("single-label", "multi-label", "regression")

METRICS: dict[str, Metric] = {
    "top1": Metric("fraction of images whose most probable class is correct", _SINGLE),
    "top5": Metric("fraction of images with the correct class among the 5 most probable (or all, if fewer)", _SINGLE),
    "loss": Metric(
        "mean cross entropy of the classes or labels in nats; mean squared error for regression", _ALL, False, False
    ),
    "balanced_accuracy": Metric("mean recall over the classes that have images", _SINGLE),
    "macro_f1": Metric("mean F1 over the classes or labels that have images; labels at probability 0.5", _BOTH),
    "micro_f1": Metric("F1 of all decisions together; equals top1 for single-label", _BOTH),
    "auroc": Metric("mean area under the ROC curve of each class or label against the others", _BOTH),
    "average_precision": Metric("mean average precision of each class or label against the others (mAP)", _BOTH),
    "micro_average_precision": Metric("average precision of all decisions ranked together", _MULTI),
    "subset_accuracy": Metric("fraction of images with every label correct, at probability 0.5", _MULTI),
    "hamming_loss": Metric("fraction of wrong decisions, at probability 0.5", _MULTI, False),
    "ece": Metric("expected calibration error, 15 bins of equal width", _BOTH, False),
    "mae": Metric("mean absolute error, in the targets' units", _VALUES, False, False),
    "mse": Metric("mean squared error, in the targets' units squared", _VALUES, False, False),
    "rmse": Metric("root of the mean squared error, in the targets' units", _VALUES, False, False),
    "r2": Metric("fraction of the targets' variance explained (1 is perfect, 0 the mean)", _VALUES, True, False),
}

_TOP = re.compile(r"top([1-9][0-9]*)")


def problems(name: str, task: TaskName) -> list[str]:
    """Reasons why a model of `task` cannot be evaluated by the metric `name`; empty if there are none.

    A metric of the user, "module:attribute", is imported and must be callable.
    """
    try:
        if ":" in name:
            custom_metric(name)
        else:
            metric_of_task(name, task)
    except UsageError as e:
        return [f"{e.message}; {e.hint}"]
    return []


def higher_is_better(name: str) -> bool:
    """The direction of a metric of the table or of the user. Raises UsageError for an unknown name."""
    if ":" in name:
        return bool(getattr(custom_metric(name), "higher_is_better", True))
    return get_metric(name).higher_is_better


def is_fraction(name: str) -> bool:
    """True if the metric is a number from 0 to 1 shown in percent; False for the user's own and unknown names."""
    return (name in METRICS and METRICS[name].fraction) or _TOP.fullmatch(name) is not None


def better(name: str, new: float, old: float | None) -> bool:
    """True if `new` is strictly better than `old` in the metric `name`. NaN and None are worse than any number."""
    if math.isnan(new):
        return False
    if old is None or math.isnan(old):
        return True
    return new > old if higher_is_better(name) else new < old


def get_metric(name: str) -> Metric:
    """The entry of the table, or one for top<k>. Raises UsageError for an unknown name."""
    if name in METRICS:
        return METRICS[name]
    if found := _TOP.fullmatch(name):
        return Metric(f"fraction of images with the correct class among the {found[1]} most probable", _SINGLE)
    known = f"known: {', '.join(sorted(METRICS))}, top<k>; or your own as module:attribute"
    raise UsageError(f"no metric named {name!r}", did_you_mean(nearest(name, METRICS), known))


def metric_of_task(name: str, task: TaskName) -> Metric:
    """The entry of the table. Raises UsageError if there is no such metric, or if `task` does not have it."""
    metric = get_metric(name)
    if task not in metric.tasks:
        own = [known for known, other in METRICS.items() if task in other.tasks]
        what = f"{name!r} is a metric for {' and '.join(metric.tasks)}"
        raise UsageError(what, f"metrics for {task}: {', '.join(own)}")
    return metric


def infer_task(name: str, *, class_targets: bool) -> TaskName:
    """The task of the metric `name` with targets that are class indices, or floats."""
    tasks = [task for task in get_metric(name).tasks if TASKS[task].has_one_class_per_image == class_targets]
    return tasks[0] if tasks else next(t.name for t in TASKS.values() if t.has_one_class_per_image == class_targets)


def custom_metric(name: str) -> MetricFunction:
    """The user's metric "module:attribute". Raises UsageError if it cannot be imported or called."""
    found: MetricFunction = import_object(name, "metric")
    if not callable(found):
        raise UsageError(
            f"the metric {name} is a {type(found).__name__}, not a function",
            "a metric takes (outputs, targets) and returns a number",
        )
    return found
