"""Pictures of a run, one file each: training curves, confusion matrix, labels by average precision, scatter plot.

`draw_evaluation` draws the picture of a task. matplotlib is imported with the first picture.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from zoo.lazy_exports import lazy_exports

if TYPE_CHECKING:
    from zoo.reports.confusion_matrix import confusion
    from zoo.reports.evaluation_picture import draw_evaluation
    from zoo.reports.label_chart import labels
    from zoo.reports.scatter_plot import scatter
    from zoo.reports.training_curves import curves

__all__ = ["confusion", "curves", "draw_evaluation", "labels", "scatter"]

__getattr__ = lazy_exports(
    __name__,
    {
        "confusion": "zoo.reports.confusion_matrix",
        "curves": "zoo.reports.training_curves",
        "labels": "zoo.reports.label_chart",
        "draw_evaluation": "zoo.reports.evaluation_picture",
        "scatter": "zoo.reports.scatter_plot",
    },
)
