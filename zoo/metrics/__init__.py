"""Numbers that judge a classifier: a table of names, and one call that computes several of them.

    compute(["top1", "loss"], logits, targets)      # {"top1": 0.93, "loss": 0.21}
    better("loss", 0.20, 0.21)                       # True: lower is better

Every metric is a function `(logits (N, K) float32, targets (N,) int64) -> float`. A user's own, named
"module:attribute", may carry an attribute `higher_is_better = False`; without it higher counts as better.
`report` gives the whole of an evaluation, class by class; it is imported, with torch, when first asked for.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from importlib import import_module
from typing import TYPE_CHECKING, Any

from zoo.components import Component, resolve
from zoo.errors import DataError

if TYPE_CHECKING:
    from torch import Tensor

    from zoo.metrics.evaluation import ClassScore, Evaluation, report

__all__ = ["METRICS", "ClassScore", "Evaluation", "Metric", "better", "compute", "higher_is_better", "report"]


@dataclass(frozen=True)
class Metric(Component):
    """A `Component` that knows its direction."""

    higher_is_better: bool = True


_HERE = "zoo.metrics.classification"

METRICS: dict[str, Metric] = {
    "top1": Metric(f"{_HERE}:top1", "share of images whose most probable class is the right one"),
    "top5": Metric(
        f"{_HERE}:top5", "share of images with the right class among the 5 most probable (or all, if fewer)"
    ),
    "loss": Metric(f"{_HERE}:loss", "mean cross entropy, in nats", higher_is_better=False),
    "balanced_accuracy": Metric(f"{_HERE}:balanced_accuracy", "mean recall over the classes that have images"),
    "macro_f1": Metric(f"{_HERE}:macro_f1", "mean F1 over the classes that have images"),
    "ece": Metric(f"{_HERE}:ece", "expected calibration error, 15 bins of equal width", higher_is_better=False),
}


def compute(names: Iterable[str], logits: Tensor, targets: Tensor) -> dict[str, float]:
    """Name → value for each of `names`. logits: (N, K) float32; targets: (N,) int64; both on the CPU.

    Raises UsageError for an unknown name and DataError if N is 0.
    """
    if len(targets) == 0:
        raise DataError("no image to measure", "give at least one labelled image")
    return {name: float(resolve(name, METRICS, "metric")(logits, targets)) for name in names}


def higher_is_better(name: str) -> bool:
    """The direction of a metric: of the table, or of the user's own. Raises UsageError for an unknown name."""
    entry = METRICS.get(name)
    if entry is not None:
        return entry.higher_is_better
    return bool(getattr(resolve(name, METRICS, "metric"), "higher_is_better", True))


def better(name: str, new: float, old: float | None) -> bool:
    """True if `new` is strictly better than `old` in the metric `name`. NaN is worse than any number, as None is."""
    if math.isnan(new):
        return False
    if old is None or math.isnan(old):
        return True
    return new > old if higher_is_better(name) else new < old


def __getattr__(name: str) -> Any:
    if name not in ("ClassScore", "Evaluation", "report"):
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module("zoo.metrics.evaluation"), name)
