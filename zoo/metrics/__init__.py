"""Numbers that judge a model: a table of names for each task, and one call that computes several of them.

    compute(["top1", "loss"], outputs, targets)      # {"top1": 0.93, "loss": 0.21}
    better("loss", 0.20, 0.21)                       # True: lower is better

A metric is a function `(outputs (N, K) float32, targets) -> float`: outputs as the model gives them (logits, or numbers
in the user's units for regression), targets as `zoo.tasks` says. The functions of a task lie in one file and are called
as the metric is: `zoo.metrics.single_label`, `multi_label`, `regression`. "top<k>" is a name for any k. A user's own,
named "module:attribute", may carry an attribute `higher_is_better = False`; without it higher counts as better.

`report` gives the whole of an evaluation, class by class; it is imported, with torch, when first asked for.
"""

from __future__ import annotations

import math
import numbers
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from importlib import import_module
from typing import TYPE_CHECKING, Any

from zoo.errors import DataError, UsageError, nearest
from zoo.registry import import_object
from zoo.tasks import TaskName, get_task

if TYPE_CHECKING:
    from torch import Tensor

    from zoo.metrics.evaluation import (
        ClassScore,
        Evaluation,
        LabelScore,
        MultiLabelEvaluation,
        RegressionEvaluation,
        SingleLabelEvaluation,
        TargetScore,
        report,
    )

__all__ = [
    "METRICS",
    "ClassScore",
    "Evaluation",
    "LabelScore",
    "Metric",
    "MultiLabelEvaluation",
    "RegressionEvaluation",
    "SingleLabelEvaluation",
    "TargetScore",
    "better",
    "compute",
    "higher_is_better",
    "is_fraction",
    "problems",
    "report",
]

MetricFunction = Callable[["Tensor", "Tensor"], Any]


@dataclass(frozen=True)
class Metric:
    """tasks: where it has a meaning. share: a number from 0 to 1 that is read as a percentage."""

    description: str
    tasks: tuple[TaskName, ...]
    higher_is_better: bool = True
    share: bool = True


_SINGLE: tuple[TaskName, ...] = ("single-label",)
_MULTI: tuple[TaskName, ...] = ("multi-label",)
_BOTH: tuple[TaskName, ...] = ("single-label", "multi-label")
_NUMBERS: tuple[TaskName, ...] = ("regression",)
_ALL: tuple[TaskName, ...] = ("single-label", "multi-label", "regression")

METRICS: dict[str, Metric] = {
    "top1": Metric("share of images whose most probable class is the right one", _SINGLE),
    "top5": Metric("share of images with the right class among the 5 most probable (or all, if fewer)", _SINGLE),
    "loss": Metric(
        "mean cross entropy of the classes or the labels in nats; mean squared error of numbers", _ALL, False, False
    ),
    "balanced_accuracy": Metric("mean recall over the classes that have images", _SINGLE),
    "macro_f1": Metric("mean F1 over the classes or labels that have images; labels from probability 0.5", _BOTH),
    "micro_f1": Metric("F1 of all decisions together; equals top1 where one class is chosen", _BOTH),
    "auroc": Metric("mean area under the ROC curve of each class or label against the others", _BOTH),
    "average_precision": Metric("mean average precision of each class or label against the others (mAP)", _BOTH),
    "micro_average_precision": Metric("average precision of all decisions ranked together", _MULTI),
    "subset_accuracy": Metric("share of images with every label right, from probability 0.5", _MULTI),
    "hamming_loss": Metric("share of wrong decisions, from probability 0.5", _MULTI, False),
    "ece": Metric("expected calibration error, 15 bins of equal width", _BOTH, False),
    "mae": Metric("mean absolute error, in the targets' units", _NUMBERS, False, False),
    "mse": Metric("mean squared error, in the targets' units squared", _NUMBERS, False, False),
    "rmse": Metric("root of the mean squared error, in the targets' units", _NUMBERS, False, False),
    "r2": Metric(
        "share of the targets' variance that is explained (1 is perfect, 0 is the mean)", _NUMBERS, True, False
    ),
}

_TOP = re.compile(r"top([1-9][0-9]*)")
# What a wrong metric of the user's raises; anything else is a fault that its traceback explains best.
_CALL_ERRORS = (RuntimeError, ValueError, TypeError, IndexError, AttributeError, KeyError, ArithmeticError)


def compute(
    names: Iterable[str], outputs: Tensor, targets: Tensor, *, task: TaskName | None = None
) -> dict[str, float]:
    """Name → value for each of `names`; NaN where a metric is not defined on these targets.

    outputs: (N, K) float32; targets: (N,) int64 or (N, K) float32; both on the CPU. task: what the targets mean; left
    out, integers are classes and floats are whatever the metric takes ("loss" takes them for labels).

    Raises UsageError for an unknown name, a metric of another task, and a user's metric that fails or returns anything
    but a number; DataError if N is 0.
    """
    if len(targets) == 0:
        raise DataError("no image to measure", "give at least one labelled image")
    # Masks, outputs (N, C, H, W), would be flattened here: the metrics then take a pixel for a sample.
    found = {}
    for name in names:
        if ":" in name:
            found[name] = _call_custom_metric(name, outputs, targets)
        else:
            found[name] = float(_function(name, task or _infer_task(name, targets))(outputs, targets))
    return found


def problems(name: str, task: TaskName) -> list[str]:
    """What is wrong with judging a model of `task` by the metric `name`; empty if nothing is.

    An own metric "module:attribute" is imported and must be callable.
    """
    try:
        if ":" in name:
            _custom_metric(name)
        else:
            _metric_of_task(name, task)
    except UsageError as e:
        return [f"{e.message}; {e.hint}"]
    return []


def higher_is_better(name: str) -> bool:
    """The direction of a metric: of the table, or of the user's own. Raises UsageError for an unknown name."""
    if ":" in name:
        return bool(getattr(_custom_metric(name), "higher_is_better", True))
    return _metric(name).higher_is_better


def is_fraction(name: str) -> bool:
    """True if the metric is a number from 0 to 1 to be shown in percent; False for the user's own and unknown names."""
    return (name in METRICS and METRICS[name].share) or _TOP.fullmatch(name) is not None


def better(name: str, new: float, old: float | None) -> bool:
    """True if `new` is strictly better than `old` in the metric `name`. NaN is worse than any number, as None is."""
    if math.isnan(new):
        return False
    if old is None or math.isnan(old):
        return True
    return new > old if higher_is_better(name) else new < old


def _metric(name: str) -> Metric:
    if name in METRICS:
        return METRICS[name]
    if found := _TOP.fullmatch(name):
        return Metric(f"share of images with the right class among the {found[1]} most probable", _SINGLE)
    close = nearest(name, METRICS)
    raise UsageError(
        f"no metric named {name!r}",
        f"did you mean {' or '.join(close)}?"
        if close
        else f"known: {', '.join(sorted(METRICS))}, top<k>; or your own as module:attribute",
    )


def _metric_of_task(name: str, task: TaskName) -> Metric:
    """Raises UsageError if there is no such metric, or if it is none of the task's."""
    metric = _metric(name)
    if task not in metric.tasks:
        own = [known for known, other in METRICS.items() if task in other.tasks]
        raise UsageError(f"the metric {name!r} is of {' and '.join(metric.tasks)}", f"of {task}: {', '.join(own)}")
    return metric


def _infer_task(name: str, targets: Tensor) -> TaskName:
    if not targets.is_floating_point():
        return "single-label"
    return next((task for task in _metric(name).tasks if task != "single-label"), "multi-label")


def _function(name: str, task: TaskName) -> MetricFunction:
    _metric_of_task(name, get_task(task).name)
    module = import_module(f"zoo.metrics.{task.replace('-', '_')}")
    if name not in METRICS:
        top: MetricFunction = module.top_k(int(name.removeprefix("top")))
        return top
    function: MetricFunction = getattr(module, name)
    return function


def _custom_metric(name: str) -> MetricFunction:
    found: MetricFunction = import_object(name, "metric")
    if not callable(found):
        raise UsageError(
            f"the metric {name} is a {type(found).__name__}, not a function",
            "a metric takes (outputs, targets) and returns a number",
        )
    return found


def _call_custom_metric(name: str, outputs: Tensor, targets: Tensor) -> float:
    """A Python number, or an array or tensor without dimensions. NaN is refused: it would never be the best."""
    function = _custom_metric(name)
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
        raise UsageError(f"the metric {name} returned NaN", "decide in it what it is where it is not defined")
    return float(value)


_REPORT = (
    "ClassScore",
    "Evaluation",
    "LabelScore",
    "MultiLabelEvaluation",
    "RegressionEvaluation",
    "SingleLabelEvaluation",
    "TargetScore",
    "report",
)


def __getattr__(name: str) -> Any:
    if name not in _REPORT:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module("zoo.metrics.evaluation"), name)
