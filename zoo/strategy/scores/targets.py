"""Targets of any task as a matrix to be predicted, and what a prediction of each image is worth.

    truth = Truth.of(labels, "single-label", balanced=True)
    outcome = truth.judge(predictions)         # predictions (N, K) → right or wrong, by how much, and the score

The worth of an image's prediction is a number whose mean is the score and whose best is 1, in all tasks:

| task | worth of image i | score |
|---|---|---|
| single-label | 1 if its class has the highest number, alone; else 0 | accuracy |
| multi-label | share of the labels on the right side of ½ | label accuracy |
| regression | 1 − mean over columns of squared error / variance of the column | R², mean of the columns |
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from zoo.arrays import Indices
from zoo.errors import DataError, UsageError
from zoo.tasks import TaskName, get_task

__all__ = ["Outcome", "Targets"]

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]

# Rounding must not break a tie: classes whose numbers are this near have none that is right.
_TIE = 1e-9


@dataclass(frozen=True)
class Outcome:
    """How good predictions (N, K), in the units of `Truth.matrix`, are.

    correct (N,): the class is right, or all labels are; None for regression. margins (N,): the number of the right
    class less that of the best other; for labels twice the least distance to ½, negative on the wrong side; None for
    regression. values (N,): the worth of each, as above. score: their mean by `Truth.score_weights`.
    """

    correct: Bools | None
    margins: Floats | None
    values: Floats
    score: float


@dataclass(frozen=True)
class Targets:
    """matrix (N, K): one-hot classes, labels 0 or 1, or numbers of mean 0 and variance 1 (`offset`, `scale` (K,) give
    the user's units back: matrix · scale + offset). labels (N,): the class; empty in other tasks. usable (K,): columns
    that are not constant. weights (N,), mean 1: how much each image counts in a fit, N / (K′ · images of its class) if
    balanced (K′ classes there are), else 1. score_weights (N,): the same in a score; 0 for the only image of a class,
    which cannot be right when it is left out."""

    task: TaskName
    matrix: Floats
    labels: Indices
    nonconstant: Bools
    offset: Floats
    scale: Floats
    weights: Floats
    score_weights: Floats
    balanced: bool

    @staticmethod
    def of(
        targets: NDArray[np.generic], task: TaskName, *, outputs: int | None = None, balanced: bool = False
    ) -> Targets:
        """targets: (N,) whole numbers from 0, or (N, K) as `zoo.tasks` says; outputs: K, if more than the highest + 1.

        Raises UsageError if `balanced` is asked for without classes; DataError if there is nothing to tell apart: fewer
        than two classes with two images, or no column with two different values.
        """
        owner = get_task(task)
        if owner.has_one_class_per_image:
            labels = np.asarray(targets).astype(np.int64)
            columns = max(int(labels.max(initial=-1)) + 1, outputs or 0)
            matrix = np.zeros((len(labels), columns))
            matrix[np.arange(len(labels)), labels] = 1
            weights, counting = _class_weights(labels, balanced)
            plain = np.zeros(columns), np.ones(columns)
            return Targets(task, matrix, labels, _nonconstant(matrix), *plain, weights, weights * counting, balanced)
        if balanced:
            raise UsageError(f"images are balanced by class; the task {task} has none", "leave balancing out")
        matrix = np.asarray(targets, np.float64)
        nonconstant = _nonconstant(matrix)
        if not nonconstant.any():
            raise DataError(
                f"all {len(matrix)} images have the same {owner.outputs}",
                "a model needs images that differ in what it is to learn",
            )
        offset, scale = np.zeros(matrix.shape[1]), np.ones(matrix.shape[1])
        if not owner.has_classes:
            offset, scale = matrix.mean(0), np.where(nonconstant, matrix.std(0), 1.0)
            matrix = (matrix - offset) / scale
        ones = np.ones(len(matrix))
        return Targets(task, matrix, np.empty(0, np.int64), nonconstant, offset, scale, ones, ones, False)

    @property
    def one_class_per_image(self) -> bool:
        return get_task(self.task).has_one_class_per_image

    @property
    def bounds(self) -> tuple[float, float] | None:
        """The least and the most that a prediction can be worth, where there is a least."""
        return (0.0, 1.0) if get_task(self.task).has_classes else None

    def take(self, rows: Indices) -> Targets:
        """The truth of some images, in the same units, with weights of their own. Raises DataError as `of` does."""
        labels, weights = self.labels, np.ones(len(rows))
        score_weights = weights
        if self.one_class_per_image:
            labels = labels[rows]
            weights, counting = _class_weights(labels, self.balanced)
            score_weights = weights * counting
        return Targets(
            self.task,
            self.matrix[rows],
            labels,
            self.nonconstant,
            self.offset,
            self.scale,
            weights,
            score_weights,
            self.balanced,
        )

    def evaluate(self, predictions: Floats) -> Outcome:
        """What predictions (N, K), in the units of `matrix`, are worth."""
        correct: Bools | None = None
        margins: Floats | None = None
        if self.one_class_per_image:
            rows = np.arange(len(self.labels))
            others = predictions.copy()
            others[rows, self.labels] = -np.inf
            margins = predictions[rows, self.labels] - others.max(1)
            correct = margins > _TIE
            values = correct.astype(np.float64)
        elif get_task(self.task).has_classes:
            sides = ((2 * self.matrix - 1) * (2 * predictions - 1))[:, self.nonconstant]
            margins = sides.min(1)
            correct = margins > 0
            values = (sides > 0).mean(1)
        else:
            values = 1 - ((self.matrix - predictions)[:, self.nonconstant] ** 2).mean(1)
        return Outcome(correct, margins, values, float(np.average(values, weights=self.score_weights)))

    def constant_baseline(self) -> Floats:
        """(N,) the worth of the best answer that does not look at the image: the most frequent class, the more frequent
        side of each label, the mean of each number."""
        constant = self.matrix.mean(0)
        if self.one_class_per_image:
            return np.asarray(self.labels == constant.argmax(), np.float64)
        if get_task(self.task).has_classes:
            constant = (constant >= 0.5).astype(np.float64)
        return self.evaluate(np.broadcast_to(constant, self.matrix.shape)).values


def _class_weights(labels: Indices, balanced: bool) -> tuple[Floats, Bools]:
    """(weight of each image, whether its class has another). Raises DataError if fewer than two classes have."""
    counts = np.bincount(labels)
    twice = int((counts >= 2).sum())
    if twice < 2:
        raise DataError(
            f"{len(labels)} images, {twice} of the classes with two or more",
            "to tell classes apart, two classes with two images each are the least; add images",
        )
    own = counts[labels]
    weights = len(labels) / (np.count_nonzero(counts) * own) if balanced else np.ones(len(labels))
    return weights, own >= 2


def _nonconstant(matrix: Floats) -> Bools:
    return np.asarray(np.ptp(matrix, axis=0) > 0) if len(matrix) else np.zeros(matrix.shape[1], bool)
