"""The scores of one model's features."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from zoo.strategy.scores.knn import knn_loo
from zoo.strategy.scores.logme import Evidence, logme
from zoo.strategy.scores.ridge import LeaveOneOut, ridge_loo
from zoo.strategy.scores.svd import decompose
from zoo.strategy.scores.targets import Targets


@dataclass(frozen=True)
class Scores:
    """Leave-one-out linear probe (ridge), leave-one-out k-NN, and LogME."""

    ridge: LeaveOneOut
    knn: LeaveOneOut
    logme: Evidence


def measure(features: NDArray[np.generic], targets: Targets) -> Scores:
    """The scores of features (N, D) of any float type. Raises DataError if one of them is not finite."""
    svd = decompose(features, targets.weights)
    return Scores(
        ridge=ridge_loo(svd, targets),
        knn=knn_loo(features, targets, scaling=svd.scaling),
        logme=logme(svd, targets),
    )
