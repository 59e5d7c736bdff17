"""Pictures of a run, one file each: `curves` of a training; of an evaluation the `confusion` matrix of its classes, the
`labels` with their average precision, or the `scatter` of its numbers. `outcome` draws the one that fits a task.

matplotlib is imported when the first picture is asked for, not before.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from zoo.reports.confusion_matrix import confusion
    from zoo.reports.label_chart import labels
    from zoo.reports.outcome_picture import outcome
    from zoo.reports.scatter_plot import scatter
    from zoo.reports.training_curves import curves

__all__ = ["confusion", "curves", "labels", "outcome", "scatter"]

_LAZY_IMPORTS = {
    "confusion": "zoo.reports.confusion_matrix",
    "curves": "zoo.reports.training_curves",
    "labels": "zoo.reports.label_chart",
    "outcome": "zoo.reports.outcome_picture",
    "scatter": "zoo.reports.scatter_plot",
}


def __getattr__(name: str) -> Any:
    if name not in _LAZY_IMPORTS:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_LAZY_IMPORTS[name]), name)
