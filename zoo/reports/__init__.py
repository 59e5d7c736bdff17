"""Pictures of a run, one file each: `curves` of a training; of an evaluation the `confusion` matrix of its classes, the
`labels` with their average precision, or the `scatter` of its numbers. `outcome` draws the one that fits a task.

matplotlib is imported when the first picture is asked for, not before.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from zoo.lazy_exports import lazy_exports

if TYPE_CHECKING:
    from zoo.reports.confusion_matrix import confusion
    from zoo.reports.label_chart import labels
    from zoo.reports.outcome_picture import outcome
    from zoo.reports.scatter_plot import scatter
    from zoo.reports.training_curves import curves

__all__ = ["confusion", "curves", "labels", "outcome", "scatter"]

__getattr__ = lazy_exports(
    __name__,
    {
        "confusion": "zoo.reports.confusion_matrix",
        "curves": "zoo.reports.training_curves",
        "labels": "zoo.reports.label_chart",
        "outcome": "zoo.reports.outcome_picture",
        "scatter": "zoo.reports.scatter_plot",
    },
)
