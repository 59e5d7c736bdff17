"""Learning curve of a linear probe: its leave-one-out error with a quarter, a half and all of the images."""

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

# Exponents b of error ~ N^−b (ours). Doubling the images reduces the error by 19 % or more (steep), by 7 % or less
# (flat).
STEEP, FLAT = 0.3, 0.1

# Also flat if doubling the images would reduce the error by less than one point (ours): a tiny error cannot fall by
# much.
_ONE_POINT = 0.01

# Up to so many images all four quarters and both halves are used; above, the first of each (ours).
_MAX_IMAGES_ALL_PARTS = 2000


@dataclass(frozen=True)
class LearningCurve:
    """Error by number of images.

    Args:
        images: Number of images of a quarter, a half and all.
        errors: 1 − score for each of them.
        slope: Exponent b of error ~ N^−b, by least squares of the logarithms.
        interval: 90 % interval of the slope.
        gain: Predicted reduction of the error with twice the images.
        shape: "flat" or "steep" if the whole interval of the slope is; "flat" also if the whole interval of the gain is
            below one point; otherwise "unclear".
    """

    images: tuple[int, int, int]
    errors: tuple[float, float, float]
    slope: float
    interval: Interval
    gain: float
    shape: Literal["steep", "unclear", "flat"]


def learning_curve(
    features: NDArray[np.generic], targets: Targets, full_outcome: Outcome, *, level: float = LEVEL, seed: int = 0
) -> LearningCurve | None:
    """The learning curve; None with fewer than 16 images, or if a quarter has fewer than two classes of two images.

    Quarters and halves are disjoint and stratified. An image that is the only one of its class in a part has no weight.

    Args:
        features: (N, D) features of the images.
        targets: Their targets.
        full_outcome: Leave-one-out outcome (`ridge_loo`) with all images.
        level: Level of the intervals.
        seed: Seed of the parts and of the bootstrap.
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

    images = [size for size, _, _ in points]
    errors = np.array([_error(np.average(v, weights=w), len(v)) for _, v, w in points])
    # Each point independently: their images overlap, so the interval is wider than necessary.
    draws = np.stack(
        [
            _error(resample(v[:, None], w, bounds=targets.bounds, seed=seed + i)[:, 0], len(v))
            for i, (_, v, w) in enumerate(points)
        ]
    )
    slope, slopes = float(_slope(images, errors[:, None])[0]), _slope(images, draws)
    interval = Interval.of(slopes, level)
    gains = Interval.of(draws[2] * (1 - 2.0**-slopes), level)
    shape: Literal["steep", "unclear", "flat"] = "unclear"
    if interval.high < FLAT or gains.high < _ONE_POINT:
        shape = "flat"
    elif interval.low > STEEP:
        shape = "steep"
    return LearningCurve(
        images=(images[0], images[1], images[2]),
        errors=(float(errors[0]), float(errors[1]), float(errors[2])),
        slope=slope,
        interval=interval,
        gain=float(errors[2]) * (1 - 2.0**-slope),
        shape=shape,
    )


def _error(score: Floats | float, n: int) -> Floats:
    """1 − score, at least half an image, because the logarithm of 0 is infinite."""
    return np.maximum(1 - np.asarray(score, np.float64), 0.5 / n)


def _slope(sizes: list[int], errors: Floats) -> Floats:
    """b (B,) of errors (3, B) ~ sizes^−b."""
    x = np.log(sizes)
    x = x - x.mean()
    return np.asarray(-(x @ np.log(errors)) / (x @ x))
