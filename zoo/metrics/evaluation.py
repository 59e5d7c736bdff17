"""The whole report of an evaluation: overall numbers, one line a class, the confusion matrix."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from zoo.errors import DataError
from zoo.metrics import compute
from zoo.metrics.classification import confusion_matrix

__all__ = ["SUMMARY", "ClassScore", "Evaluation", "report"]

SUMMARY = ("top1", "top5", "loss", "ece", "balanced_accuracy", "macro_f1")


@dataclass(frozen=True)
class ClassScore:
    """One class. Where a number does not exist it is None, never a made-up 0.

    support: images of this class. recall and f1 are None without images; precision is None without images, and where
    the class was never predicted (then f1 is 0).
    """

    name: str
    support: int
    precision: float | None
    recall: float | None
    f1: float | None


@dataclass(frozen=True)
class Evaluation:
    """What `report` found. Rates are shares of 1; the loss is in nats.

    top5 counts the first `top5_k` classes: 5, or all of them if there are fewer. balanced_accuracy and macro_f1 are
    means over the classes that have images. confusion[true][predicted] counts images.
    """

    images: int
    classes: tuple[str, ...]
    top1: float
    top5: float
    top5_k: int
    loss: float
    ece: float
    balanced_accuracy: float
    macro_f1: float
    per_class: tuple[ClassScore, ...]
    confusion: tuple[tuple[int, ...], ...]

    def summary(self) -> dict[str, float]:
        """Name → value of the overall metrics, in the order to print them."""
        return {name: getattr(self, name) for name in SUMMARY}

    def to_dict(self) -> dict[str, Any]:
        """JSON-able; a number that is not finite becomes None."""
        return {
            "images": self.images,
            **{name: value if math.isfinite(value) else None for name, value in self.summary().items()},
            "top5_k": self.top5_k,
            "per_class": [
                {"class": c.name, "support": c.support, "precision": c.precision, "recall": c.recall, "f1": c.f1}
                for c in self.per_class
            ],
            "classes": list(self.classes),
            "confusion": [list(row) for row in self.confusion],
        }


def report(logits: Tensor, targets: Tensor, classes: Sequence[str]) -> Evaluation:
    """Judge logits (N, K) float32 against targets (N,) int64; `classes` holds the K names in the order of the logits.

    Raises DataError if N is 0.
    """
    if len(targets) == 0:
        raise DataError("no image to evaluate", "give at least one labelled image")
    values = compute(SUMMARY, logits, targets)
    matrix = confusion_matrix(logits, targets)
    rows: list[list[int]] = matrix.tolist()
    predicted: list[int] = matrix.sum(0).tolist()
    scores = []
    for i, name in enumerate(classes):
        hits, support = rows[i][i], sum(rows[i])
        scores.append(
            ClassScore(
                name=name,
                support=support,
                precision=hits / predicted[i] if support and predicted[i] else None,
                recall=hits / support if support else None,
                f1=2 * hits / (support + predicted[i]) if support else None,
            )
        )
    return Evaluation(
        images=len(targets),
        classes=tuple(classes),
        top5_k=min(5, logits.shape[1]),
        per_class=tuple(scores),
        confusion=tuple(tuple(row) for row in rows),
        **values,
    )
