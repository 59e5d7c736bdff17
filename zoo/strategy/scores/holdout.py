"""The accuracy of a ridge head on images that it has not seen in any way, with an interval."""

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

__all__ = ["HoldoutScore", "assign_folds", "held_out", "predict_held_out"]

# Images held out in turn, if there are as many (ours): the interval of .9 right is then .02 to either side.
_MIN_HELD_OUT = 1000


@dataclass(frozen=True)
class HoldoutScore:
    """rows (n,): images that were held out and whose class was learned from others. values, weights (n,): the worth of
    their predictions and how much each counts. score: the mean."""

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
    """Scaling, penalty (by leave-one-out) and head from the other folds, judged on the fold left out.

    rounds: how many of the folds are held out, one after another; None: as many as hold 1,000 images, or all. Learning
    from nine tenths of the images is a little worse than from all. The same seed gives all models the same folds.
    groups (N,): images of the same number stay in one fold. Raises DataError if there are too few images for the folds.
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
    """Rows of the images in the first `rounds` folds whose class was learned from others, and for each of
    `test_features`, other features (N, D) of the same images, what is predicted from them (N, K) by the fit to
    `features` of other folds."""
    predictions = [np.zeros_like(targets.matrix) for _ in test_features]
    evaluated = np.zeros(len(fold), bool)
    for turn in range(rounds):
        train, test = np.flatnonzero(fold != turn), np.flatnonzero(fold == turn)
        train_targets = targets.take(train)
        svd = decompose(features[train], train_targets.weights)
        head = ridge_head(svd, train_targets, ridge_loo(svd, train_targets).chosen)
        for predicted, seen in zip(predictions, test_features, strict=True):
            predicted[test] = head.predict(seen[test])
        evaluated[test] = np.isin(targets.labels[test], train_targets.labels) if targets.one_class_per_image else True
    return np.flatnonzero(evaluated), predictions


def assign_folds(targets: Targets, folds: int, *, seed: int, groups: Indices | None = None) -> Indices:
    """(N,) the part of each image, from 0, by the rule of `zoo.data.split.kfold`; classes of fewer images than folds
    are dealt out among those of the largest class. Raises DataError if there are fewer images or groups than folds."""
    matrix = targets.matrix.astype(np.float32)
    if not targets.one_class_per_image:
        return fold_numbers(matrix, _output_names(targets), targets.task, folds=folds, seed=seed, groups=groups) - 1
    counts = np.bincount(targets.labels, minlength=matrix.shape[1])
    pooled = np.where(counts[targets.labels] < folds, int(counts.argmax()), targets.labels)
    return fold_numbers(pooled, _output_names(targets), targets.task, folds=folds, seed=seed, groups=groups) - 1


def _output_names(targets: Targets) -> list[str]:
    return [f"output {k}" for k in range(targets.matrix.shape[1])]
