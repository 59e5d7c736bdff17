"""Leave-one-out ridge regression without refitting: one decomposition for all penalties and target columns.

For weights W and bias b that minimise Σ wᵢ ‖yᵢ − b − xᵢW‖² + λ‖W‖², the leave-one-out residual of image i is (yᵢ − ŷᵢ)
/ (1 − hᵢ), hᵢ = the i-th diagonal entry of the matrix that maps y to ŷ, including the share wᵢ/Σw of the bias (PRESS:
Allen 1974, Technometrics 16; Golub, Heath and Wahba 1979, Technometrics 21). This is exact, the bias is refitted each
time. Only the standardisation of the features, which does not use targets, and the weights are those of all images.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from zoo.strategy.scores.svd import FeatureSVD
from zoo.strategy.scores.targets import Floats, Outcome, Targets

# In units of the mean squared norm of a row, comparable for every N and D (ours). From almost no penalty to more than
# the largest eigenvalue of 5,000 rows, where the prediction is the mean.
PENALTIES = tuple(float(10 ** (e / 2)) for e in range(-12, 9))

# Number of float64 values of the squared vectors in memory: 32 MB.
_CHUNK = 4_000_000


@dataclass(frozen=True)
class LeaveOneOut:
    """Leave-one-out predictions and their score.

    Args:
        predictions: (N, K) prediction for each image from a fit without it, in the units of `Targets.matrix`.
        outcome: Their score, corrected for the left-out image (see `ridge_loo`, `knn_loo`).
        chosen: The chosen penalty, or number of neighbours.
        tried: All penalties, or numbers of neighbours.
        losses: Weighted mean squared error of each of them.
    """

    predictions: Floats
    outcome: Outcome
    chosen: float
    tried: tuple[float, ...]
    losses: tuple[float, ...]


@dataclass(frozen=True)
class LinearHead:
    """Weight (K, D) and bias (K,) for unscaled features, with outputs in the units of `Targets.matrix`."""

    weight: Floats
    bias: Floats

    def predict(self, features: NDArray[np.generic]) -> Floats:
        return np.asarray(np.asarray(features, np.float64) @ self.weight.T + self.bias)


def ridge_loo(svd: FeatureSVD, targets: Targets, penalties: tuple[float, ...] = PENALTIES) -> LeaveOneOut:
    """Leave-one-out predictions with the penalty of the lowest leave-one-out squared error.

    The accuracy is not used to choose the penalty because that is optimistic (0.512 against 0.477 on fresh images at
    N = 500, computed).

    Without an image, its class has a smaller share of the remaining images than of all, so that weak features would be
    right less often than by chance (.18 for 64 images of noise in 2 classes). For classes, the change of the class
    means is added back, as if the image had been replaced by one of its class: .50 in that case, and at most .02 above
    and .04 below the accuracy on fresh images for features of any strength (computed; 11 settings, 15 seeds).

    Args:
        svd: Features decomposed with `targets.weights`.
        targets: Targets of the images.
        penalties: Candidates, in units of the mean squared norm of a row.
    """
    y, _ = svd.centred(targets.matrix)
    coordinates = svd.vectors.T @ y
    # The part of the targets outside the span of the features; exactly 0 if the decomposition is complete.
    unreachable = np.zeros_like(y) if svd.complete else y - svd.vectors @ coordinates
    residual_shares = _residual_shares(svd, penalties)
    one_minus_leverage = _one_minus_leverage(svd, residual_shares)
    root_weights = np.sqrt(svd.weights)[:, None]
    score_weights = targets.score_weights / targets.score_weights.sum()

    losses: list[float] = []
    best = targets.matrix
    for p in range(len(penalties)):
        residual = unreachable + svd.vectors @ (residual_shares[:, p, None] * coordinates)
        residual /= one_minus_leverage[:, p, None] * root_weights
        losses.append(float(score_weights @ (residual**2).sum(1)))
        if losses[-1] == min(losses):
            best = targets.matrix - residual
    outcome = targets.evaluate(best + _leave_one_out_correction(targets) if targets.one_class_per_image else best)
    return LeaveOneOut(best, outcome, penalties[int(np.argmin(losses))], penalties, tuple(losses))


def ridge_head(svd: FeatureSVD, targets: Targets, penalty: float) -> LinearHead:
    """The fit on all images, as a linear layer for unscaled features; `penalty` as in `ridge_loo`."""
    y, mean = svd.centred(targets.matrix)
    shrunk = (svd.vectors.T @ y) / (svd.values + penalty * _mean_squared_row(svd))[:, None]
    weight_std = svd.rows.T @ (svd.vectors @ shrunk)  # (D′, K)
    scaling = svd.scaling
    weight = np.zeros((y.shape[1], len(scaling.nonconstant)))
    weight[:, scaling.nonconstant] = (weight_std / scaling.std[:, None]).T
    return LinearHead(weight, mean - (svd.centre + scaling.mean / scaling.std) @ weight_std)


def _leave_one_out_correction(targets: Targets) -> Floats:
    """(N, K): weighted mean of the matrix minus the same without image i."""
    weights = targets.weights[:, None]
    mean = np.average(targets.matrix, axis=0, weights=targets.weights)
    return np.asarray(weights * (targets.matrix - mean) / (weights.sum() - weights))


def _mean_squared_row(svd: FeatureSVD) -> float:
    """The mean squared norm of a row; 1 if all are 0."""
    return float(svd.values.sum()) / len(svd.weights) or 1.0


def _residual_shares(svd: FeatureSVD, penalties: tuple[float, ...]) -> Floats:
    """(r, P): share of each coordinate that remains in the residual, λ / (s + λ)."""
    scaled = np.asarray(penalties) * _mean_squared_row(svd)
    return np.asarray(scaled / (svd.values[:, None] + scaled))


def _one_minus_leverage(svd: FeatureSVD, residual_shares: Floats) -> Floats:
    """(N, P): 1 − h, computed as a sum because the difference would lose digits."""
    vectors, weights = svd.vectors, svd.weights
    one_minus_leverage = np.empty((len(vectors), residual_shares.shape[1]))
    step = max(_CHUNK // max(vectors.shape[1], 1), 1)
    for start in range(0, len(vectors), step):
        part = slice(start, start + step)
        squares = vectors[part] ** 2
        one_minus_leverage[part] = squares @ residual_shares
        if not svd.complete:
            one_minus_leverage[part] += np.maximum(1 - weights[part] / weights.sum() - squares.sum(1), 0)[:, None]
    return one_minus_leverage
