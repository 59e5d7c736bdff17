"""Whether horizontally flipped images still show their class, measured with the features of a pretrained model.

A linear probe is fitted on unflipped images and evaluated on other images, unflipped and flipped. If the accuracy
drops on flipped images, left and right distinguish classes (letters, directions, left and right lungs), and random
flips would produce wrong training examples.
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

# Flips are harmful if the accuracy drops by more than this (ours): below, the additional images outweigh it.
HARMFUL_DROP = 0.02
_FOLDS = 5


@dataclass(frozen=True)
class FlipInvariance:
    """Accuracy on unflipped and on horizontally flipped images.

    Args:
        score: Accuracy on unflipped images.
        flipped_score: Accuracy on the same images, flipped.
        interval: 90 % interval of the difference.
    """

    score: float
    flipped_score: float
    interval: Interval

    @property
    def verdict(self) -> Literal["harmful", "harmless"]:
        """ "harmless" also if there are too few images to tell."""
        return "harmful" if self.interval.low > HARMFUL_DROP else "harmless"


def flip_invariance(
    features: NDArray[np.generic],
    flipped: NDArray[np.generic],
    targets: Targets,
    evaluated: Indices | None = None,
    *,
    seed: int = 0,
) -> FlipInvariance:
    """Accuracy on unflipped and flipped images, in five-fold cross-validation.

    Args:
        features: (N, D) features of the unflipped images.
        flipped: (M, D) features of the flipped images with the indices `evaluated`.
        targets: Targets of the N images.
        evaluated: (M,) indices without duplicates; None for all images.
        seed: Seed of the folds and of the bootstrap.

    Raises:
        DataError: There are too few images for five folds.
    """
    evaluated = np.arange(len(features)) if evaluated is None else evaluated
    test_features = np.array(features)
    test_features[evaluated] = flipped
    rows, (unflipped_predictions, flipped_predictions) = predict_held_out(
        features, targets, assign_folds(targets, _FOLDS, seed=seed), _FOLDS, (features, test_features)
    )
    rows = np.intersect1d(rows, evaluated)
    if not len(rows):
        raise DataError("no image is left to evaluate on", "add images")
    weights = targets.weights[rows]
    unflipped_scores = targets.evaluate(unflipped_predictions).values[rows]
    flipped_scores = targets.evaluate(flipped_predictions).values[rows]
    return FlipInvariance(
        float(np.average(unflipped_scores, weights=weights)),
        float(np.average(flipped_scores, weights=weights)),
        difference_interval(unflipped_scores, flipped_scores, weights, bounds=targets.bounds, seed=seed),
    )
