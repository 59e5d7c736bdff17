"""Metrics of a model, computed batch by batch or from all outputs at once.

    compute(["top1", "loss"], outputs, targets)      # {"top1": 0.93, "loss": 0.21}
    better("loss", 0.20, 0.21)                       # True: lower is better

    accumulator = MetricAccumulator.of(["top1", "macro_f1"], "single-label")
    for outputs, targets in batches:
        accumulator.update(outputs, targets)
    accumulator.compute()

`METRICS` lists the names; "top<k>" is one for any k. The functions of a task are in one module: `single_label`,
`multi_label`, `regression`. A metric of the user, "module:attribute", is a function `(outputs, targets) -> float` of
the model's outputs (N, K) float32 (logits, or values in the user's units) and the targets of the task (`zoo.tasks`); it
may have an attribute `higher_is_better = False`.

`report` evaluates a model in full, with scores per class. torch is imported with the first name that needs it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from zoo.imports import lazy_exports
from zoo.metrics.table import METRICS, Metric, better, higher_is_better, is_fraction, problems

if TYPE_CHECKING:
    from zoo.metrics.accumulator import MetricAccumulator, compute
    from zoo.metrics.evaluation import ClassScore, Evaluation
    from zoo.metrics.multi_label import LabelScore, MultiLabelEvaluation
    from zoo.metrics.regression import RegressionEvaluation, TargetScore
    from zoo.metrics.reporting import report
    from zoo.metrics.single_label import SingleLabelEvaluation

__all__ = [
    "METRICS",
    "ClassScore",
    "Evaluation",
    "LabelScore",
    "Metric",
    "MetricAccumulator",
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

__getattr__ = lazy_exports(
    __name__,
    {
        "zoo.metrics.accumulator": ("MetricAccumulator", "compute"),
        "zoo.metrics.evaluation": ("ClassScore", "Evaluation"),
        "zoo.metrics.multi_label": ("LabelScore", "MultiLabelEvaluation"),
        "zoo.metrics.regression": ("RegressionEvaluation", "TargetScore"),
        "zoo.metrics.reporting": ("report",),
        "zoo.metrics.single_label": ("SingleLabelEvaluation",),
    },
)
