"""The accuracy of a ridge head on images that it has not seen in any way, with an interval."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from zoo.data.split.kfold import fold_numbers
from zoo.strategy.scores.bootstrap import LEARNED, LEVEL, Interval, mean_interval
from zoo.strategy.scores.ridge import ridge_head, ridge_loo
from zoo.strategy.scores.svd import decompose
from zoo.strategy.scores.targets import Floats, Indices, Truth

__all__ = ["HeldOut", "deal", "held_out", "left_out"]

# Images held out in turn, if there are as many (ours): the interval of .9 right is then .02 to either side.
_ENOUGH = 1000


@dataclass(frozen=True)
class HeldOut:
    """rows (n,): images that were held out and whose class was learned from others. values, weights (n,): the worth of
    their predictions and how much each counts. score: the mean."""

    rows: Indices
    values: Floats
    weights: Floats
    score: float
    interval: Interval


def held_out(
    features: NDArray[np.generic],
    truth: Truth,
    *,
    folds: int = 10,
    turns: int | None = None,
    seed: int = 0,
    groups: Indices | None = None,
    level: float = LEVEL,
) -> HeldOut:
    """Scaling, penalty (by leave-one-out) and head from the other folds, judged on the fold left out.

    turns: how many of the folds are held out, one after another; None: as many as hold 1,000 images, or all. Learning
    from nine tenths of the images is a little worse than from all. The same seed gives all models the same folds.
    groups (N,): images of the same number stay in one fold. Raises DataError if there are too few images for the folds.
    """
    fold = deal(truth, folds, seed=seed, groups=groups)
    turns = min(turns or math.ceil(_ENOUGH * folds / len(fold)), folds)
    rows, (predictions,) = left_out(features, truth, fold, turns, (features,))
    values, weights = truth.judge(predictions).values[rows], truth.weights[rows]
    return HeldOut(
        rows=rows,
        values=values,
        weights=weights,
        score=float(np.average(values, weights=weights)),
        interval=mean_interval(values, weights, bounds=truth.bounds, share=LEARNED, level=level, seed=seed),
    )


def left_out(
    features: NDArray[np.generic], truth: Truth, fold: Indices, turns: int, shown: Sequence[NDArray[np.generic]]
) -> tuple[Indices, list[Floats]]:
    """Rows of the images in the first `turns` folds whose class was learned from others, and for each of `shown`, other
    features (N, D) of the same images, what is predicted from them (N, K) by the fit to `features` of other folds."""
    predictions = [np.zeros_like(truth.matrix) for _ in shown]
    judged = np.zeros(len(fold), bool)
    for turn in range(turns):
        train, test = np.flatnonzero(fold != turn), np.flatnonzero(fold == turn)
        known = truth.take(train)
        spectrum = decompose(features[train], known.weights)
        head = ridge_head(spectrum, known, ridge_loo(spectrum, known).chosen)
        for predicted, seen in zip(predictions, shown, strict=True):
            predicted[test] = head.predict(seen[test])
        judged[test] = np.isin(truth.labels[test], known.labels) if truth.task == "single-label" else True
    return np.flatnonzero(judged), predictions


def deal(truth: Truth, folds: int, *, seed: int, groups: Indices | None = None) -> Indices:
    """(N,) the part of each image, from 0, by the rule of `zoo.data.split.kfold`; classes of fewer images than folds
    are dealt out among those of the largest class. Raises DataError if there are fewer images or groups than folds."""
    matrix = truth.matrix.astype(np.float32)
    if truth.task != "single-label":
        return fold_numbers(matrix, _names(truth), truth.task, folds=folds, seed=seed, groups=groups) - 1
    counts = np.bincount(truth.labels, minlength=matrix.shape[1])
    pooled = np.where(counts[truth.labels] < folds, int(counts.argmax()), truth.labels)
    return fold_numbers(pooled, _names(truth), truth.task, folds=folds, seed=seed, groups=groups) - 1


def _names(truth: Truth) -> list[str]:
    return [f"output {k}" for k in range(truth.matrix.shape[1])]
