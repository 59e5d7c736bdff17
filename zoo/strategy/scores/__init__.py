"""Scores of a frozen model's features on a data set, in closed form: NumPy arrays in and out.

    targets = Targets.of(labels, "single-label")
    scores = measure(features, targets)                    # leave-one-out linear probe and k-NN, LogME
    scores.ridge.outcome.score                             # accuracy of the linear probe
    random = ridge_loo(decompose(random_features, targets.weights), targets)
    similarity(
        scores.ridge.outcome.values, random.outcome.values, targets.constant_baseline(), targets.score_weights,
        bounds=targets.bounds,
    )
    held_out(features, targets)                            # cross-validated accuracy with an interval

Features are standardised first and constant ones dropped: no score depends on the scale of a feature or on the order of
the images.
"""

from zoo.strategy.scores.bootstrap import Interval, RankedCandidate, difference_interval, mean_interval, rank
from zoo.strategy.scores.flip_invariance import FlipInvariance, flip_invariance
from zoo.strategy.scores.holdout import HoldoutScore, held_out
from zoo.strategy.scores.knn import knn_loo
from zoo.strategy.scores.learning_curve import LearningCurve, learning_curve
from zoo.strategy.scores.logme import Evidence, logme
from zoo.strategy.scores.measure import HeadName, Scores, measure
from zoo.strategy.scores.norm_shift import LayerMoments, NormShift, norm_shift
from zoo.strategy.scores.ridge import LeaveOneOut, LinearHead, ridge_head, ridge_loo
from zoo.strategy.scores.similarity import Similarity, similarity
from zoo.strategy.scores.size import DataSize, size_class
from zoo.strategy.scores.svd import FeatureSVD, decompose
from zoo.strategy.scores.targets import Outcome, Targets

__all__ = [
    "DataSize",
    "Evidence",
    "FeatureSVD",
    "FlipInvariance",
    "HeadName",
    "HoldoutScore",
    "Interval",
    "LayerMoments",
    "LearningCurve",
    "LeaveOneOut",
    "LinearHead",
    "NormShift",
    "Outcome",
    "RankedCandidate",
    "Scores",
    "Similarity",
    "Targets",
    "decompose",
    "difference_interval",
    "flip_invariance",
    "held_out",
    "knn_loo",
    "learning_curve",
    "logme",
    "mean_interval",
    "measure",
    "norm_shift",
    "rank",
    "ridge_head",
    "ridge_loo",
    "similarity",
    "size_class",
]
