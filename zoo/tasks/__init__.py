"""Tasks: what the targets of an image are, and everything that follows from it.

    task = get_task("multi-label")
    task.loss, task.monitor                  # "bce_with_logits", "average_precision"
    task.activate(outputs)                   # (N, K) logits → (N, K) probabilities

| task | targets | outputs (N, K) become |
|---|---|---|
| single-label | (N,) int64, the index of the class | probabilities that sum to 1 (softmax) |
| multi-label | (N, K) float32, 0 or 1 for each label | a probability for each label (sigmoid) |
| regression | (N, K) float32, values in the user's units | the values themselves |

K is the number of classes, labels or target columns; their names are called `classes` throughout. Adding a task: one
file here, one line in TASKS, one module of metrics. Importing this package imports no torch.
"""

from __future__ import annotations

from zoo.errors import UsageError, did_you_mean, nearest
from zoo.tasks.base import Prediction, TargetKind, Task, TaskName
from zoo.tasks.multi_label import MultiLabel
from zoo.tasks.regression import Regression
from zoo.tasks.single_label import SingleLabel

__all__ = ["DEFAULT_TASK", "TASKS", "Prediction", "TargetKind", "Task", "TaskName", "get_task", "target_kind"]

TASKS: dict[str, Task] = {task.name: task for task in (SingleLabel(), MultiLabel(), Regression())}

# The task of class folders, and of data that do not say more.
DEFAULT_TASK = TASKS[SingleLabel.name]


def get_task(name: str) -> Task:
    """The task `name`.

    Raises:
        UsageError: there is no such task.
    """
    if name not in TASKS:
        hint = did_you_mean(nearest(name, TASKS, n=1), more=f"known: {', '.join(TASKS)}")
        raise UsageError(f"no task named {name!r}", hint)
    return TASKS[name]


def target_kind(name: str) -> TargetKind | None:
    """The kind of targets of the task `name`; None for "auto"."""
    return TASKS[name].targets if name in TASKS else None
