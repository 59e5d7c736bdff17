"""How sure a mean over images is: bootstrap intervals, intervals of paired differences, and a ranking that has ties.

Percentiles of means over images drawn with replacement (Efron and Tibshirani 1993, chapter 13). Values between bounds,
such as right or wrong, get two more images in the pool, one at each bound, because few images drawn from few mistakes
are too sure of themselves: 60 of 60 right would have the interval [1, 1]. One success and one failure more is the
correction of Agresti and Caffo 2000 (The American Statistician 54) and, for pairs, half an image in each of the four
cells that of Agresti and Min 2005 (Statistics in Medicine 24). Equal images are drawn together, so the order of the
images does not matter, nor does it take long.

What varies is the images that are judged. Where what was judged was learned from the same images, or from others of the
same set, that is not all that is uncertain: draw LEARNED, a share of the images.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import product

import numpy as np

from zoo.strategy.scores.targets import Floats

__all__ = [
    "LEVEL",
    "SUBSAMPLE_FRACTION",
    "Bounds",
    "Interval",
    "RankedCandidate",
    "difference_interval",
    "mean_interval",
    "rank",
    "rank_with_ties",
    "resample",
]

Bounds = tuple[float, float] | None

LEVEL = 0.9

# Ours, computed: with it 90 % intervals of S_probe hold the S of fresh images 86 to 100 times in 100 (6 settings of
# 64 to 600 images), with all images 80 to 94 times.
SUBSAMPLE_FRACTION = 0.7

_DRAWS = 2000
_CHUNK = 4_000_000  # numbers drawn at a time: 32 MB


@dataclass(frozen=True)
class Interval:
    low: float
    high: float
    level: float = LEVEL

    def contains(self, value: float) -> bool:
        return self.low <= value <= self.high

    @staticmethod
    def of(draws: Floats, level: float = LEVEL) -> Interval:
        """The middle `level` of draws (B,)."""
        low, high = np.quantile(draws, [(1 - level) / 2, (1 + level) / 2])
        return Interval(float(low), float(high), level)


@dataclass(frozen=True)
class RankedCandidate:
    """One candidate of a ranking. index: its number as given. place: from 1; candidates of the same place are tied."""

    index: int
    score: float
    interval: Interval
    place: int
    tied: bool


def mean_interval(
    values: Floats,
    weights: Floats | None = None,
    *,
    bounds: Bounds = (0, 1),
    share: float = 1,
    level: float = LEVEL,
    seed: int = 0,
) -> Interval:
    """Of the weighted mean of values (N,); images of weight 0 are left out. bounds: the least and most a value can be,
    None if there are none. share: of the images in a draw; LEARNED, or all."""
    return Interval.of(resample(values[:, None], weights, bounds=bounds, share=share, seed=seed)[:, 0], level)


def difference_interval(
    ours: Floats,
    theirs: Floats,
    weights: Floats | None = None,
    *,
    bounds: Bounds = (0, 1),
    share: float = 1,
    level: float = LEVEL,
    seed: int = 0,
) -> Interval:
    """Of mean(ours) − mean(theirs), values (N,) of the same images, drawn together."""
    draws = resample(np.stack([ours, theirs], 1), weights, bounds=bounds, share=share, seed=seed)
    return Interval.of(draws[:, 0] - draws[:, 1], level)


def rank(
    candidates: Sequence[Floats],
    weights: Floats | None = None,
    *,
    bounds: Bounds = (0, 1),
    share: float = SUBSAMPLE_FRACTION,
    level: float = LEVEL,
    seed: int = 0,
) -> list[RankedCandidate]:
    """Candidates, each the values (N,) of the same images, best mean first, with `rank_with_ties`."""

    def difference(one: int, other: int) -> Interval:
        return difference_interval(
            candidates[one], candidates[other], weights, bounds=bounds, share=share, level=level, seed=seed
        )

    def interval_of(one: int) -> Interval:
        return mean_interval(candidates[one], weights, bounds=bounds, share=share, level=level, seed=seed)

    return rank_with_ties(
        [float(np.average(values, weights=weights)) for values in candidates], difference, interval_of
    )


def rank_with_ties(
    scores: Sequence[float], difference: Callable[[int, int], Interval], interval_of: Callable[[int], Interval]
) -> list[RankedCandidate]:
    """Candidates by their numbers, best score first.

    apart(i, j): of the score of i less that of j. around(i): of the score of i. A candidate shares the place of the
    best one above it whose difference from it has an interval that holds 0; otherwise it begins a place. Ties are with
    the first of a place, not along a chain of neighbours.
    """
    order = sorted(range(len(scores)), key=lambda i: -scores[i])
    ranks: list[int] = []
    leader = -1
    for position, i in enumerate(order):
        if position and difference(leader, i).contains(0):
            ranks.append(ranks[-1])
        else:
            leader = i
            ranks.append(position + 1)
    return [
        RankedCandidate(i, scores[i], interval_of(i), place, ranks.count(place) > 1)
        for i, place in zip(order, ranks, strict=True)
    ]


def resample(
    columns: Floats,
    weights: Floats | None = None,
    *,
    bounds: Bounds = (0, 1),
    share: float = 1,
    draws: int = _DRAWS,
    seed: int = 0,
) -> Floats:
    """(draws, M): weighted means of columns (N, M) over share · N images drawn with replacement, the same for every
    column."""
    weights = np.ones(len(columns)) if weights is None else weights
    counting = weights > 0
    rows = np.column_stack([columns[counting], weights[counting]])
    pool, counts = np.unique(rows, axis=0, return_counts=True)
    shares = counts.astype(np.float64)
    if bounds is not None:
        corners = np.array(list(product(bounds, repeat=columns.shape[1])), dtype=np.float64)
        heavy = np.full((len(corners), 1), weights[counting].mean())
        pool = np.vstack([pool, np.hstack([corners, heavy])])
        shares = np.append(shares, np.full(len(corners), 2 / len(corners)))
    values, weight = pool[:, :-1] * pool[:, -1:], pool[:, -1]
    shares /= shares.sum()
    rng = np.random.default_rng(seed)
    means = np.empty((draws, columns.shape[1]))
    number = max(round(share * len(rows)), 1)
    step = max(_CHUNK // len(pool), 1)
    for start in range(0, draws, step):
        part = means[start : start + step]
        drawn = rng.multinomial(number, shares, size=len(part)).astype(np.float64)
        part[:] = (drawn @ values) / (drawn @ weight)[:, None]
    return means
