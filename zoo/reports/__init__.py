"""Pictures of a run, one file each: `curves` of a training, the `confusion` matrix of an evaluation.

matplotlib is imported when the first picture is asked for, not before.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from zoo.reports.confusion_matrix import confusion
    from zoo.reports.training_curves import curves

__all__ = ["confusion", "curves"]

_WHERE = {"confusion": "zoo.reports.confusion_matrix", "curves": "zoo.reports.training_curves"}


def __getattr__(name: str) -> Any:
    if name not in _WHERE:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_WHERE[name]), name)
