"""The picture of an evaluation that fits the task."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from zoo.metrics import MetricAccumulator
from zoo.registry import import_object
from zoo.tasks import Task

__all__ = ["draw_evaluation"]


def draw_evaluation(accumulator: MetricAccumulator, classes: Sequence[str], folder: Path, task: Task) -> Path:
    """Write confusion.png, labels.png or scatter.png into `folder`, and return its path.

    accumulator: of `MetricAccumulator.of` for the task. Raises TrainingError if the file cannot be written.
    """
    path = folder / task.picture
    import_object(task.draw, "picture")(accumulator, classes, path)
    return path
