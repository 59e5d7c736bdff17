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

from zoo.strategy.scores.svd import Spectrum
from zoo.strategy.scores.targets import Floats, Outcome, Truth

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


def ridge_loo(spectrum: Spectrum, truth: Truth, penalties: tuple[float, ...] = PENALTIES) -> LeaveOneOut:
    """Predictions left out with the penalty of the least squared error left out: choosing by accuracy is optimistic
    (0.512 against 0.477 on fresh images at N = 500, facts/transfer.md).

    `spectrum` is of features weighted by `truth.weights`. penalties: in units of the mean squared length of a row.

    Without an image its class has a smaller share in what is left than it has in all, so that weak features are right
    less often than by chance (64 images, 2 classes, noise: .18). Classes are told apart after adding what leaving the
    image out took from their means, as if it had been drawn within its class: .50 there, and never more than .02 above
    nor .04 below the accuracy on fresh images for features of any strength (computed; 11 settings, 15 seeds).
    """
    y, _ = spectrum.centred(truth.matrix)
    coordinates = spectrum.vectors.T @ y
    # What the features cannot reach at any penalty; in exact arithmetic nothing if the spectrum is complete.
    beyond = np.zeros_like(y) if spectrum.complete else y - spectrum.vectors @ coordinates
    kept = _kept(spectrum, penalties)
    slack = _slack(spectrum, kept)
    share = np.sqrt(spectrum.weights)[:, None]
    score_weights = truth.score_weights / truth.score_weights.sum()

    losses: list[float] = []
    best = truth.matrix
    for p in range(len(penalties)):
        residual = beyond + spectrum.vectors @ (kept[:, p, None] * coordinates)
        residual /= slack[:, p, None] * share
        losses.append(float(score_weights @ (residual**2).sum(1)))
        if losses[-1] == min(losses):
            best = truth.matrix - residual
    outcome = truth.judge(best + _taken(truth) if truth.task == "single-label" else best)
    return LeaveOneOut(best, outcome, penalties[int(np.argmin(losses))], penalties, tuple(losses))


def ridge_head(spectrum: Spectrum, truth: Truth, penalty: float) -> LinearHead:
    """The fit to all images with a penalty in the same units: a layer for the model's own features."""
    y, mean = spectrum.centred(truth.matrix)
    shrunk = (spectrum.vectors.T @ y) / (spectrum.values + penalty * _unit(spectrum))[:, None]
    inside = spectrum.rows.T @ (spectrum.vectors @ shrunk)  # (D′, K)
    scaling = spectrum.scaling
    weight = np.zeros((y.shape[1], len(scaling.kept)))
    weight[:, scaling.kept] = (inside / scaling.std[:, None]).T
    return LinearHead(weight, mean - (spectrum.centre + scaling.mean / scaling.std) @ inside)


def _taken(truth: Truth) -> Floats:
    """(N, K): the weighted mean of the matrix less the same without image i."""
    weights = truth.weights[:, None]
    mean = np.average(truth.matrix, axis=0, weights=truth.weights)
    return np.asarray(weights * (truth.matrix - mean) / (weights.sum() - weights))


def _unit(spectrum: Spectrum) -> float:
    """The mean squared length of a row; 1 if there is nothing but rows of length 0."""
    return float(spectrum.values.sum()) / len(spectrum.weights) or 1.0


def _kept(spectrum: Spectrum, penalties: tuple[float, ...]) -> Floats:
    """(r, P): the share of each coordinate that stays in the residual, λ / (s + λ)."""
    strength = np.asarray(penalties) * _unit(spectrum)
    return np.asarray(strength / (spectrum.values[:, None] + strength))


def _slack(spectrum: Spectrum, kept: Floats) -> Floats:
    """(N, P): 1 − h, as a sum of what stays and not as a difference, which would lose the digits of a small one."""
    vectors, weights = spectrum.vectors, spectrum.weights
    slack = np.empty((len(vectors), kept.shape[1]))
    step = max(_CHUNK // max(vectors.shape[1], 1), 1)
    for start in range(0, len(vectors), step):
        part = slice(start, start + step)
        squares = vectors[part] ** 2
        slack[part] = squares @ kept
        if not spectrum.complete:
            slack[part] += np.maximum(1 - weights[part] / weights.sum() - squares.sum(1), 0)[:, None]
    return slack
