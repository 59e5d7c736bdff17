"""Whether a mirrored image still shows its class, as far as the features of a pretrained model can tell.

A head learns from images as they are and judges others, as they are and mirrored. If mirroring changes nothing about
the classes, mirrored images are but more of the same, and it judges them as well. If it judges them worse, mirroring
takes images of one class to where another one's lie: letters, directions, left and right lungs. To mirror at random
while training would then teach what is wrong.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from zoo.errors import DataError
from zoo.strategy.scores.bootstrap import Interval, difference_interval
from zoo.strategy.scores.holdout import deal, left_out
from zoo.strategy.scores.targets import Indices, Truth

__all__ = ["BREAKS", "Mirroring", "mirroring"]

# Of the accuracy that mirroring must surely cost to be called harmful (ours): less is paid back by more images to see.
BREAKS = 0.02
_FOLDS = 5


@dataclass(frozen=True)
class Mirroring:
    """score, mirrored: accuracy of the images as they are and mirrored. interval: of the difference."""

    score: float
    mirrored: float
    interval: Interval

    @property
    def verdict(self) -> Literal["breaks", "keeps"]:
        """ "keeps" also where there are too few images to say otherwise."""
        return "breaks" if self.interval.low > BREAKS else "keeps"


def mirroring(
    features: NDArray[np.generic],
    mirrored: NDArray[np.generic],
    truth: Truth,
    judged: Indices | None = None,
    *,
    seed: int = 0,
) -> Mirroring:
    """features (N, D); mirrored (m, D): of the images `judged` (m,), without repeats, by default of all. The head
    learns from the others of all N images. Raises DataError if these are too few for five folds."""
    judged = np.arange(len(features)) if judged is None else judged
    seen = np.array(features)
    seen[judged] = mirrored
    rows, (plain, other) = left_out(features, truth, deal(truth, _FOLDS, seed=seed), _FOLDS, (features, seen))
    rows = np.intersect1d(rows, judged)
    if not len(rows):
        raise DataError("no image to be judged was left out of the fit", "add images")
    ours, theirs, weights = truth.judge(plain).values[rows], truth.judge(other).values[rows], truth.weights[rows]
    return Mirroring(
        float(np.average(ours, weights=weights)),
        float(np.average(theirs, weights=weights)),
        difference_interval(ours, theirs, weights, bounds=truth.bounds, seed=seed),
    )
