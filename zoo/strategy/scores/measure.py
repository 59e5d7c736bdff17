"""The scores of one model's features."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from zoo.strategy.scores.knn import knn_loo
from zoo.strategy.scores.logme import Evidence, logme
from zoo.strategy.scores.ridge import LeaveOneOut, ridge_loo
from zoo.strategy.scores.svd import decompose
from zoo.strategy.scores.targets import Targets

HeadName = Literal["linear", "multi-depth"]


@dataclass(frozen=True)
class Scores:
    """Leave-one-out linear probe (ridge), leave-one-out k-NN, LogME, and the linear probe on the features of all depths
    (None without them)."""

    ridge: LeaveOneOut
    knn: LeaveOneOut
    logme: Evidence
    depths: LeaveOneOut | None = None

    @property
    def head(self) -> HeadName:
        """The head whose linear probe has the lower leave-one-out squared error, each with its best penalty."""
        if self.depths is None or min(self.depths.losses) >= min(self.ridge.losses):
            return "linear"
        return "multi-depth"


def measure(features: NDArray[np.generic], targets: Targets, depths: NDArray[np.generic] | None = None) -> Scores:
    """The scores of features (N, D) of any float type, and of those of all depths (N, D′).

    Raises DataError if one of them is not finite.
    """
    svd = decompose(features, targets.weights)
    return Scores(
        ridge=ridge_loo(svd, targets),
        knn=knn_loo(features, targets, scaling=svd.scaling),
        logme=logme(svd, targets),
        depths=None if depths is None else ridge_loo(decompose(depths, targets.weights), targets),
    )
