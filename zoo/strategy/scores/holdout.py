"""Cross-validated accuracy of a linear probe, with an interval."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from zoo.arrays import Indices
from zoo.data.split.kfold import fold_numbers
from zoo.strategy.scores.bootstrap import LEVEL, SUBSAMPLE_FRACTION, Interval, mean_interval
from zoo.strategy.scores.ridge import ridge_head, ridge_loo
from zoo.strategy.scores.svd import decompose
from zoo.strategy.scores.targets import Floats, Targets

# Number of held-out images to evaluate on (ours): an accuracy of .9 then has an interval of ± .02.
_MIN_HELD_OUT = 1000


@dataclass(frozen=True)
class HoldoutScore:
    """Score on held-out images.

    Args:
        rows: (M,) held-out images whose class also has training images.
        values: (M,) score of each of them.
        weights: (M,) weight of each of them.
        score: Weighted mean of the values.
        interval: Interval of the score.
    """

    rows: Indices
    values: Floats
    weights: Floats
    score: float
    interval: Interval


def held_out(
    features: NDArray[np.generic],
    targets: Targets,
    *,
    folds: int = 10,
    rounds: int | None = None,
    seed: int = 0,
    groups: Indices | None = None,
    level: float = LEVEL,
) -> HoldoutScore:
    """Cross-validation: scaling, penalty (by leave-one-out) and linear probe are fitted on the other folds.

    Args:
        features: (N, D) features of the images.
        targets: Their targets.
        folds: Number of folds.
        rounds: Number of folds to evaluate on; None for as many as hold 1,000 images, or all.
        seed: Seed of the folds, which are the same for all models, and of the bootstrap.
        groups: (N,) group of each image; a group stays in one fold.
        level: Level of the interval.

    Raises:
        DataError: There are too few images for the folds.
    """
    fold = assign_folds(targets, folds, seed=seed, groups=groups)
    rounds = min(rounds or math.ceil(_MIN_HELD_OUT * folds / len(fold)), folds)
    rows, (predictions,) = predict_held_out(features, targets, fold, rounds, (features,))
    values, weights = targets.evaluate(predictions).values[rows], targets.weights[rows]
    return HoldoutScore(
        rows=rows,
        values=values,
        weights=weights,
        score=float(np.average(values, weights=weights)),
        interval=mean_interval(
            values, weights, bounds=targets.bounds, share=SUBSAMPLE_FRACTION, level=level, seed=seed
        ),
    )


def predict_held_out(
    features: NDArray[np.generic],
    targets: Targets,
    fold: Indices,
    rounds: int,
    test_features: Sequence[NDArray[np.generic]],
) -> tuple[Indices, list[Floats]]:
    """Held-out rows of the first `rounds` folds whose class has training images, and the predictions (N, K) for each of
    `test_features` (N, D), other features of the same images."""
    predictions = [np.zeros_like(targets.matrix) for _ in test_features]
    evaluated = np.zeros(len(fold), bool)
    for number in range(rounds):
        train, test = np.flatnonzero(fold != number), np.flatnonzero(fold == number)
        train_targets = targets.take(train)
        svd = decompose(features[train], train_targets.weights)
        head = ridge_head(svd, train_targets, ridge_loo(svd, train_targets).chosen)
        for predicted, inputs in zip(predictions, test_features, strict=True):
            predicted[test] = head.predict(inputs[test])
        evaluated[test] = np.isin(targets.labels[test], train_targets.labels) if targets.one_class_per_image else True
    return np.flatnonzero(evaluated), predictions


def assign_folds(targets: Targets, folds: int, *, seed: int, groups: Indices | None = None) -> Indices:
    """(N,) fold of each image, from 0, as `zoo.data.split.kfold` assigns them; classes with fewer images than folds are
    pooled with the largest class. Raises DataError if there are fewer images or groups than folds."""
    matrix = targets.matrix.astype(np.float32)
    if not targets.one_class_per_image:
        return fold_numbers(matrix, _output_names(targets), targets.task, folds=folds, seed=seed, groups=groups) - 1
    counts = np.bincount(targets.labels, minlength=matrix.shape[1])
    pooled = np.where(counts[targets.labels] < folds, int(counts.argmax()), targets.labels)
    return fold_numbers(pooled, _output_names(targets), targets.task, folds=folds, seed=seed, groups=groups) - 1


def _output_names(targets: Targets) -> list[str]:
    return [f"output {k}" for k in range(targets.matrix.shape[1])]
