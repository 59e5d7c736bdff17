"""The learning curve of a ridge head: its error left out at a quarter, a half and all of the images."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from zoo.errors import DataError
from zoo.strategy.scores.bootstrap import LEVEL, Interval, resample
from zoo.strategy.scores.holdout import assign_folds
from zoo.strategy.scores.ridge import ridge_loo
from zoo.strategy.scores.svd import decompose
from zoo.strategy.scores.targets import Floats, Outcome, Targets

__all__ = ["LearningCurve", "learning_curve"]

# Exponents of error ~ N^−b, ours to calibrate. Twice the images take away 19 % of the error or more; 7 % or less.
STEEP, FLAT = 0.3, 0.1

# Flat too if twice the images would take away less than this of the error: one point, within which strategies count as
# equally good (issue 7's regret). An error of nearly nothing falls by nearly nothing, however steeply.
_ONE_POINT = 0.01

# Images up to which all four quarters and both halves are used (ours); one of each beyond, where one is enough.
_MAX_IMAGES_ALL_PARTS = 2000


@dataclass(frozen=True)
class LearningCurve:
    """images, errors: of a quarter, a half, all; errors are 1 − score. slope: b of error ~ N^−b, by least squares of
    the logarithms, and its interval. gain: what twice the images would take off the error by that law. shape: flat or
    steep if the whole interval of b is; flat too if the whole interval of the gain is below one point."""

    images: tuple[int, int, int]
    errors: tuple[float, float, float]
    slope: float
    interval: Interval
    gain: float
    shape: Literal["steep", "between", "flat"]


def learning_curve(
    features: NDArray[np.generic], targets: Targets, full_outcome: Outcome, *, level: float = LEVEL, seed: int = 0
) -> LearningCurve | None:
    """full_outcome: the outcome left out (`ridge_loo`) of all images. Quarters and halves are disjoint and stratified;
    up to 2,000 images all of them count, beyond the first of each.

    Images that are the only one of their class in a part are not counted there. None if a quarter is too small to tell
    two classes apart, or less than four images.
    """
    n = len(targets.matrix)
    if n < 16:
        return None
    part = assign_folds(targets, 4, seed=seed)
    parts = ([[0], [1], [2], [3]], [[0, 1], [2, 3]])
    points: list[tuple[int, Floats, Floats]] = []
    for chosen in parts:
        values, weights, sizes = [], [], []
        for numbers in chosen if n <= _MAX_IMAGES_ALL_PARTS else chosen[:1]:
            rows = np.flatnonzero(np.isin(part, numbers))
            try:
                some = targets.take(rows)
            except DataError:
                return None
            values.append(ridge_loo(decompose(features[rows], some.weights), some).outcome.values)
            weights.append(some.score_weights)
            sizes.append(len(rows))
        points.append((round(sum(sizes) / len(sizes)), np.concatenate(values), np.concatenate(weights)))
    points.append((n, full_outcome.values, targets.score_weights))

    sizes3 = [size for size, _, _ in points]
    errors = np.array([_error(np.average(v, weights=w), len(v)) for _, v, w in points])
    # Each point for itself: their images overlap, so this is wider than it need be.
    draws = np.stack(
        [
            _error(resample(v[:, None], w, bounds=targets.bounds, seed=seed + i)[:, 0], len(v))
            for i, (_, v, w) in enumerate(points)
        ]
    )
    slope, slopes = float(_slope(sizes3, errors[:, None])[0]), _slope(sizes3, draws)
    interval = Interval.of(slopes, level)
    gains = Interval.of(draws[2] * (1 - 2.0**-slopes), level)
    shape: Literal["steep", "between", "flat"] = "between"
    if interval.high < FLAT or gains.high < _ONE_POINT:
        shape = "flat"
    elif interval.low > STEEP:
        shape = "steep"
    return LearningCurve(
        images=(sizes3[0], sizes3[1], sizes3[2]),
        errors=(float(errors[0]), float(errors[1]), float(errors[2])),
        slope=slope,
        interval=interval,
        gain=float(errors[2]) * (1 - 2.0**-slope),
        shape=shape,
    )


def _error(score: Floats | float, n: int) -> Floats:
    """1 − score, half an image at least: the logarithm of no mistake is not a number."""
    return np.maximum(1 - np.asarray(score, np.float64), 0.5 / n)


def _slope(sizes: list[int], errors: Floats) -> Floats:
    """b (B,) of errors (3, B) ~ sizes^−b."""
    x = np.log(sizes)
    x = x - x.mean()
    return np.asarray(-(x @ np.log(errors)) / (x @ x))
