"""What a model says of labelled images as one picture, whatever its task."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from zoo import metrics
from zoo.reports.confusion_matrix import confusion
from zoo.reports.label_chart import labels
from zoo.reports.scatter_plot import scatter
from zoo.tasks import TaskName

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["outcome"]


def outcome(
    outputs: Tensor, targets: Tensor, classes: Sequence[str], folder: Path, task: TaskName = "single-label"
) -> Path:
    """Write confusion.png, labels.png or scatter.png into `folder`, as the task demands; its path.

    outputs (N, K), targets and classes as for `zoo.metrics.report`. Raises DataError if N is 0, TrainingError if the
    disk refuses.
    """
    if task == "regression":
        path = folder / "scatter.png"
        scatter(outputs, targets, classes, path)
    elif task == "multi-label":
        path = folder / "labels.png"
        labels(metrics.report(outputs, targets, classes, task).per_label, len(targets), path)
    else:
        path = folder / "confusion.png"
        confusion(metrics.report(outputs, targets, classes).confusion, classes, path)
    return path
