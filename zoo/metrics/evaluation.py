"""A full evaluation: overall metrics, and scores of each class, label or target column."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import astuple, dataclass, fields
from typing import Any, ClassVar

import torch
from torch import Tensor

from zoo.metrics.accumulator import MetricAccumulator
from zoo.metrics.statistics import Statistic
from zoo.tasks import TaskName

NUM_BINS = 15  # Guo et al. 2017, "On Calibration of Modern Neural Networks", section 5: M = 15


@dataclass(frozen=True)
class ClassScore:
    """Scores of one class. A score that is not defined is None.

    Attributes:
        name: the class.
        support: its number of images.
        precision: None without images, or if the class was never predicted.
        recall: None without images.
        f1: None without images; 0 if the class was never predicted.
    """

    name: str
    support: int
    precision: float | None
    recall: float | None
    f1: float | None


@dataclass(frozen=True)
class Evaluation(ABC):
    """The result of `report`; each task has a subclass.

    Attributes:
        images: number of images.
        classes: names of the model's outputs.
        ROW_KIND: "class", "label" or "target": what each row describes.
        SUMMARY: names of the overall metrics in the order to print them; each is an attribute.
        STATISTICS: what the rows and the picture are computed from.
    """

    task: ClassVar[TaskName]
    ROW_KIND: ClassVar[str]
    SUMMARY: ClassVar[tuple[str, ...]]
    STATISTICS: ClassVar[tuple[Callable[[], Statistic], ...]]

    images: int
    classes: tuple[str, ...]

    @classmethod
    @abstractmethod
    def of(cls, accumulator: MetricAccumulator, classes: Sequence[str]) -> Evaluation:
        """The evaluation of outputs that were accumulated for the metrics SUMMARY."""

    @property
    def scores(self) -> Sequence[Any]:
        """The attribute `per_class`, `per_label` or `per_target`: a dataclass for each, with the field `name` first."""
        found: Sequence[Any] = getattr(self, f"per_{self.ROW_KIND}")
        return found

    @property
    def header(self) -> tuple[str, ...]:
        """Names of the columns of `rows`."""
        return (self.ROW_KIND, *(f.name for f in fields(self.scores[0])[1:]))

    def rows(self) -> list[tuple[Any, ...]]:
        """A row for each class, label or target; an undefined score is None."""
        return [astuple(score) for score in self.scores]

    def tables(self) -> dict[str, list[Sequence[Any]]]:
        """File name → rows of the CSV files of the evaluation."""
        return {f"per_{self.ROW_KIND}.csv": [self.header, *self.rows()]}

    def summary(self) -> dict[str, float]:
        """Name → value of the overall metrics, in the order to print them."""
        return {name: getattr(self, name) for name in self.SUMMARY}

    def to_dict(self) -> dict[str, Any]:
        """JSON-able; a number that is not finite becomes None."""
        return {
            "task": self.task,
            "images": self.images,
            **{name: finite_or_none(value) for name, value in self.summary().items()},
            f"per_{self.ROW_KIND}": [dict(zip(self.header, row, strict=True)) for row in self.rows()],
            "classes": list(self.classes),
        }


def calibration_error(probability: Tensor, correct: Tensor) -> float:
    """Mean |frequency − mean probability| over bins of the probability, weighted by size; NaN if a probability is.

    Args:
        probability: (N,) float64, put into 15 bins (lower, upper] of equal width (Guo et al. 2017, equation 3).
        correct: (N,) bool, whether the event happened.
    """
    if bool(probability.isnan().any()):
        return float("nan")
    bin_index = (probability * NUM_BINS).ceil().long().clamp(1, NUM_BINS) - 1
    gap = torch.zeros(NUM_BINS, dtype=torch.float64).index_add_(0, bin_index, correct.double() - probability)
    return float(gap.abs().sum() / len(probability))


def precision_recall_f1(hits: int, support: int, predicted: int) -> tuple[float | None, float | None, float | None]:
    """Scores of a class with `support` images that was predicted `predicted` times, `hits` of them correctly."""
    if not support:
        return None, None, None
    return hits / predicted if predicted else None, hits / support, 2 * hits / (support + predicted)


def finite_or_none(value: float) -> float | None:
    return value if math.isfinite(value) else None
