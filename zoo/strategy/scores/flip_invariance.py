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

from zoo.arrays import Indices
from zoo.errors import DataError
from zoo.strategy.scores.bootstrap import Interval, difference_interval
from zoo.strategy.scores.holdout import assign_folds, predict_held_out
from zoo.strategy.scores.targets import Targets

__all__ = ["HARMFUL_DROP", "FlipInvariance", "flip_invariance"]

# Of the accuracy that mirroring must surely cost to be called harmful (ours): less is paid back by more images to see.
HARMFUL_DROP = 0.02
_FOLDS = 5


@dataclass(frozen=True)
class FlipInvariance:
    """score, mirrored: accuracy of the images as they are and mirrored. interval: of the difference."""

    score: float
    mirrored: float
    interval: Interval

    @property
    def verdict(self) -> Literal["breaks", "keeps"]:
        """ "keeps" also where there are too few images to say otherwise."""
        return "breaks" if self.interval.low > HARMFUL_DROP else "keeps"


def flip_invariance(
    features: NDArray[np.generic],
    mirrored: NDArray[np.generic],
    targets: Targets,
    evaluated: Indices | None = None,
    *,
    seed: int = 0,
) -> FlipInvariance:
    """features (N, D); mirrored (m, D): of the images `evaluated` (m,), without repeats, by default of all. The head
    learns from the others of all N images. Raises DataError if these are too few for five folds."""
    evaluated = np.arange(len(features)) if evaluated is None else evaluated
    seen = np.array(features)
    seen[evaluated] = mirrored
    rows, (plain, other) = predict_held_out(
        features, targets, assign_folds(targets, _FOLDS, seed=seed), _FOLDS, (features, seen)
    )
    rows = np.intersect1d(rows, evaluated)
    if not len(rows):
        raise DataError("no image to be judged was left out of the fit", "add images")
    ours, theirs, weights = (
        targets.evaluate(plain).values[rows],
        targets.evaluate(other).values[rows],
        targets.weights[rows],
    )
    return FlipInvariance(
        float(np.average(ours, weights=weights)),
        float(np.average(theirs, weights=weights)),
        difference_interval(ours, theirs, weights, bounds=targets.bounds, seed=seed),
    )
