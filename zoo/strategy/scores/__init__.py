"""What features of a frozen model say of data and model, in closed form: plain arrays in and out.

    truth = Truth.of(labels, "single-label")
    scores = measure(features, truth)                      # ridge and kNN left out, LogME
    scores.ridge.outcome.score                             # accuracy, every image left out once
    random = ridge_loo(decompose(features_at_random_init, truth.weights), truth)
    similarity(
        scores.ridge.outcome.values, random.outcome.values, truth.naive(), truth.score_weights, bounds=truth.bounds
    )
    held_out(features, truth)                              # accuracy on images not seen, with an interval

Columns are standardised and constant ones dropped first: no score depends on the scale of a feature, nor on the
order of the images.
"""

from zoo.strategy.scores.bootstrap import Interval, RankedCandidate, difference_interval, mean_interval, rank
from zoo.strategy.scores.flip_invariance import FlipInvariance, flip_invariance
from zoo.strategy.scores.holdout import HoldoutScore, held_out
from zoo.strategy.scores.knn import knn_loo
from zoo.strategy.scores.learning_curve import LearningCurve, learning_curve
from zoo.strategy.scores.logme import Evidence, logme
from zoo.strategy.scores.measure import Scores, measure
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
