"""Ridge regression with every image left out once, without refitting: one decomposition for all penalties and columns.

For weights W and bias b that minimise Σ wᵢ ‖yᵢ − b − xᵢW‖² + λ‖W‖², the residual of image i in the fit that leaves it
out is (yᵢ − ŷᵢ) / (1 − hᵢ), hᵢ = the i-th diagonal entry of the matrix that takes y to ŷ, the bias's share wᵢ/Σw in it
(PRESS: Allen 1974, Technometrics 16; Golub, Heath and Wahba 1979, Technometrics 21). It is exact: the bias is fitted
anew each time. The standardising of the columns, which sees no targets, is that of all images, and so are the weights.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from zoo.strategy.scores.svd import FeatureSVD
from zoo.strategy.scores.targets import Floats, Outcome, Targets

__all__ = ["PENALTIES", "LeaveOneOut", "LinearHead", "ridge_head", "ridge_loo"]

# In units of the mean squared length of a row, so that they mean the same for every N and D (ours). From next to none
# to more than the largest eigenvalue of 5,000 rows, where only the mean is left.
PENALTIES = tuple(float(10 ** (e / 2)) for e in range(-12, 9))

# Numbers in the squares of the vectors that are held at a time: 32 MB.
_CHUNK = 4_000_000


@dataclass(frozen=True)
class LeaveOneOut:
    """predictions (N, K): for each image by a fit without it, in the units of the truth. outcome: of these predictions
    with the class shares of all images (see the functions). chosen: the penalty, or the number of neighbours. tried and
    losses: all of them, and the mean squared error (weighted) of the predictions of each."""

    predictions: Floats
    outcome: Outcome
    chosen: float
    tried: tuple[float, ...]
    losses: tuple[float, ...]


@dataclass(frozen=True)
class LinearHead:
    """Features (n, D) as the model gives them → weight (K, D), bias (K,): numbers in the units of `Truth.matrix`."""

    weight: Floats
    bias: Floats

    def predict(self, features: NDArray[np.generic]) -> Floats:
        return np.asarray(np.asarray(features, np.float64) @ self.weight.T + self.bias)


def ridge_loo(svd: FeatureSVD, targets: Targets, penalties: tuple[float, ...] = PENALTIES) -> LeaveOneOut:
    """Predictions left out with the penalty of the least squared error left out: choosing by accuracy is optimistic
    (0.512 against 0.477 on fresh images at N = 500, facts/transfer.md).

    `svd` is of features weighted by `truth.weights`. penalties: in units of the mean squared length of a row.

    Without an image its class has a smaller share in what is left than it has in all, so that weak features are right
    less often than by chance (64 images, 2 classes, noise: .18). Classes are told apart after adding what leaving the
    image out took from their means, as if it had been drawn within its class: .50 there, and never more than .02 above
    nor .04 below the accuracy on fresh images for features of any strength (computed; 11 settings, 15 seeds).
    """
    y, _ = svd.centred(targets.matrix)
    coordinates = svd.vectors.T @ y
    # What the features cannot reach at any penalty; in exact arithmetic nothing if the spectrum is complete.
    unreachable = np.zeros_like(y) if svd.complete else y - svd.vectors @ coordinates
    nonconstant = _residual_shares(svd, penalties)
    one_minus_leverage = _one_minus_leverage(svd, nonconstant)
    share = np.sqrt(svd.weights)[:, None]
    score_weights = targets.score_weights / targets.score_weights.sum()

    losses: list[float] = []
    best = targets.matrix
    for p in range(len(penalties)):
        residual = unreachable + svd.vectors @ (nonconstant[:, p, None] * coordinates)
        residual /= one_minus_leverage[:, p, None] * share
        losses.append(float(score_weights @ (residual**2).sum(1)))
        if losses[-1] == min(losses):
            best = targets.matrix - residual
    outcome = targets.evaluate(best + _leave_one_out_correction(targets) if targets.one_class_per_image else best)
    return LeaveOneOut(best, outcome, penalties[int(np.argmin(losses))], penalties, tuple(losses))


def ridge_head(svd: FeatureSVD, targets: Targets, penalty: float) -> LinearHead:
    """The fit to all images with a penalty in the same units: a layer for the model's own features."""
    y, mean = svd.centred(targets.matrix)
    shrunk = (svd.vectors.T @ y) / (svd.values + penalty * _mean_squared_row(svd))[:, None]
    inside = svd.rows.T @ (svd.vectors @ shrunk)  # (D′, K)
    scaling = svd.scaling
    weight = np.zeros((y.shape[1], len(scaling.nonconstant)))
    weight[:, scaling.nonconstant] = (inside / scaling.std[:, None]).T
    return LinearHead(weight, mean - (svd.centre + scaling.mean / scaling.std) @ inside)


def _leave_one_out_correction(targets: Targets) -> Floats:
    """(N, K): the weighted mean of the matrix less the same without image i."""
    weights = targets.weights[:, None]
    mean = np.average(targets.matrix, axis=0, weights=targets.weights)
    return np.asarray(weights * (targets.matrix - mean) / (weights.sum() - weights))


def _mean_squared_row(svd: FeatureSVD) -> float:
    """The mean squared length of a row; 1 if there is nothing but rows of length 0."""
    return float(svd.values.sum()) / len(svd.weights) or 1.0


def _residual_shares(svd: FeatureSVD, penalties: tuple[float, ...]) -> Floats:
    """(r, P): the share of each coordinate that stays in the residual, λ / (s + λ)."""
    strength = np.asarray(penalties) * _mean_squared_row(svd)
    return np.asarray(strength / (svd.values[:, None] + strength))


def _one_minus_leverage(svd: FeatureSVD, nonconstant: Floats) -> Floats:
    """(N, P): 1 − h, as a sum of what stays and not as a difference, which would lose the digits of a small one."""
    vectors, weights = svd.vectors, svd.weights
    one_minus_leverage = np.empty((len(vectors), nonconstant.shape[1]))
    step = max(_CHUNK // max(vectors.shape[1], 1), 1)
    for start in range(0, len(vectors), step):
        part = slice(start, start + step)
        squares = vectors[part] ** 2
        one_minus_leverage[part] = squares @ nonconstant
        if not svd.complete:
            one_minus_leverage[part] += np.maximum(1 - weights[part] / weights.sum() - squares.sum(1), 0)[:, None]
    return one_minus_leverage
