"""Targets of any task as a matrix, and the score of a prediction of each image.

    targets = Targets.of(labels, "single-label", balanced=True)
    outcome = targets.evaluate(predictions)     # predictions (N, K) → correct, margins, scores

The score of an image has the mean `Outcome.score` and is at most 1, in all tasks:

| task | score of image i | mean |
|---|---|---|
| single-label | 1 if its class has the highest output, alone; else 0 | accuracy |
| multi-label | share of the labels on the correct side of ½ | label accuracy |
| regression | 1 − mean over columns of squared error / variance of the column | R², mean of the columns |
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from zoo.arrays import Indices
from zoo.errors import DataError, UsageError
from zoo.tasks import TaskName, get_task

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]

# Outputs closer than this are a tie, which counts as wrong: rounding must not decide.
_TIE = 1e-9


@dataclass(frozen=True)
class Outcome:
    """Evaluated predictions.

    Args:
        correct: (N,) whether the class or all labels are right; None for regression.
        margins: (N,) output of the right class minus the highest other; for labels twice the smallest distance to ½,
            negative on the wrong side; None for regression.
        values: (N,) score of each image (see the table above).
        score: Mean of the values, weighted by `Targets.score_weights`.
    """

    correct: Bools | None
    margins: Floats | None
    values: Floats
    score: float


@dataclass(frozen=True)
class Targets:
    """Targets of N images.

    Args:
        task: The task.
        matrix: (N, K) one-hot classes, labels 0 or 1, or numbers of mean 0 and variance 1.
        labels: (N,) class of each image; empty for other tasks.
        nonconstant: (K,) columns that are not constant.
        offset: (K,) `matrix · scale + offset` has the user's units.
        scale: (K,) see `offset`.
        weights: (N,) weight of each image in a fit, with mean 1: inversely proportional to the size of its class if
            balanced, else 1.
        score_weights: (N,) weight of each image in a score: as `weights`, but 0 for the only image of a class, which a
            leave-one-out fit cannot predict.
        balanced: Whether all classes have the same total weight.
    """

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
        """Targets from arrays.

        Args:
            targets: (N,) class indices, or (N, K) labels or numbers (see `zoo.tasks`).
            task: The task.
            outputs: K, if larger than the highest class index + 1.
            balanced: Weight classes equally.

        Raises:
            UsageError: `balanced` without classes.
            DataError: Fewer than two classes have two images, or all columns are constant.
        """
        owner = get_task(task)
        if owner.has_one_class_per_image:
            labels = np.asarray(targets).astype(np.int64)
            columns = max(int(labels.max(initial=-1)) + 1, outputs or 0)
            matrix = np.zeros((len(labels), columns))
            matrix[np.arange(len(labels)), labels] = 1
            weights, has_pair = _class_weights(labels, balanced)
            plain = np.zeros(columns), np.ones(columns)
            return Targets(task, matrix, labels, _nonconstant(matrix), *plain, weights, weights * has_pair, balanced)
        if balanced:
            raise UsageError(f"classes cannot be balanced: the task {task} has no classes", "leave out balanced")
        matrix = np.asarray(targets, np.float64)
        nonconstant = _nonconstant(matrix)
        if not nonconstant.any():
            raise DataError(
                f"all {len(matrix)} images have the same {owner.outputs}",
                "a model needs images with different targets",
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
        """Lowest and highest possible score of an image; None if unbounded."""
        return (0.0, 1.0) if get_task(self.task).has_classes else None

    def take(self, rows: Indices) -> Targets:
        """The targets of some images, in the same units, reweighted. Raises DataError as `of` does."""
        labels, weights = self.labels, np.ones(len(rows))
        score_weights = weights
        if self.one_class_per_image:
            labels = labels[rows]
            weights, has_pair = _class_weights(labels, self.balanced)
            score_weights = weights * has_pair
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
        """Evaluate predictions (N, K) in the units of `matrix`."""
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
        """(N,) scores of the best constant prediction: the most frequent class, the more frequent value of each label,
        the mean of each number."""
        constant = self.matrix.mean(0)
        if self.one_class_per_image:
            return np.asarray(self.labels == constant.argmax(), np.float64)
        if get_task(self.task).has_classes:
            constant = (constant >= 0.5).astype(np.float64)
        return self.evaluate(np.broadcast_to(constant, self.matrix.shape)).values


def _class_weights(labels: Indices, balanced: bool) -> tuple[Floats, Bools]:
    """(Weight of each image, whether its class has another image). Raises DataError without two such classes."""
    counts = np.bincount(labels)
    with_pair = int((counts >= 2).sum())
    if with_pair < 2:
        raise DataError(
            f"{with_pair} of {np.count_nonzero(counts)} classes have two or more images",
            "add images: at least two classes need two images each",
        )
    own = counts[labels]
    weights = len(labels) / (np.count_nonzero(counts) * own) if balanced else np.ones(len(labels))
    return weights, own >= 2


def _nonconstant(matrix: Floats) -> Bools:
    return np.asarray(np.ptp(matrix, axis=0) > 0) if len(matrix) else np.zeros(matrix.shape[1], bool)
