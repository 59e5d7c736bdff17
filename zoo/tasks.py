"""What a model learns to say of an image: one class, several labels, or numbers.

    task = get_task("multi-label")
    task.activation, task.loss, task.monitor       # "sigmoid", "bce_with_logits", "average_precision"

| task | targets | a model's outputs (N, K) become |
|---|---|---|
| single-label | (N,) int64, the number of the class | probabilities that sum to 1 (softmax) |
| multi-label | (N, K) float32, 0 or 1 for each label | a probability for each label (sigmoid) |
| regression | (N, K) float32, numbers in the user's units | the numbers themselves |

K is the number of classes, labels or target columns; their names are called `classes` throughout.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from zoo.errors import UsageError, nearest

__all__ = ["TASKS", "Task", "TaskName", "get_task"]

TaskName = Literal["single-label", "multi-label", "regression"]


@dataclass(frozen=True)
class Task:
    """activation: what turns outputs into predictions. loss: the one used unless a recipe names another. metrics: what
    every epoch reports. monitor: the one of them that chooses the best weights unless a recipe names another. outputs:
    what a user calls the K columns."""

    name: TaskName
    activation: Literal["softmax", "sigmoid", "identity"]
    loss: str
    metrics: tuple[str, ...]
    monitor: str
    outputs: str


TASKS: dict[str, Task] = {
    "single-label": Task("single-label", "softmax", "cross_entropy", ("top1", "top5"), "top1", "classes"),
    "multi-label": Task(
        "multi-label", "sigmoid", "bce_with_logits", ("average_precision", "micro_f1"), "average_precision", "labels"
    ),
    "regression": Task("regression", "identity", "mse", ("mae", "rmse", "r2"), "rmse", "targets"),
}


def get_task(name: str) -> Task:
    """Raises UsageError if there is no task `name`."""
    if name not in TASKS:
        close = nearest(name, TASKS)
        raise UsageError(
            f"no task named {name!r}", (f"did you mean {close[0]}? " if close else "") + f"known: {', '.join(TASKS)}"
        )
    return TASKS[name]
