"""Pictures of a run, one file each. matplotlib is imported with the first picture."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from zoo.imports import lazy_exports
from zoo.registry import import_object
from zoo.tasks import Task

if TYPE_CHECKING:
    from zoo.metrics import MetricAccumulator
    from zoo.reports.confusion_matrix import confusion
    from zoo.reports.label_chart import labels
    from zoo.reports.scatter_plot import scatter
    from zoo.reports.training_curves import curves

__all__ = ["confusion", "curves", "draw_evaluation", "labels", "scatter"]

__getattr__ = lazy_exports(
    __name__,
    {
        "zoo.reports.confusion_matrix": ("confusion",),
        "zoo.reports.label_chart": ("labels",),
        "zoo.reports.scatter_plot": ("scatter",),
        "zoo.reports.training_curves": ("curves",),
    },
)


def draw_evaluation(accumulator: MetricAccumulator, classes: Sequence[str], folder: Path, task: Task) -> Path:
    """Write confusion.png, labels.png or scatter.png into `folder`, and return its path.

    accumulator: of `MetricAccumulator.of` for the task. Raises TrainingError if the file cannot be written.
    """
    path = folder / task.picture
    import_object(task.draw, "picture")(accumulator, classes, path)
    return path
