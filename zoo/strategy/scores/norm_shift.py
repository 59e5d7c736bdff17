"""Batch-norm shift: distance between a model's running batch-norm statistics and those of the data.

D_BN = mean over layers of the median over channels of KL(data ‖ running)
     = ½ [log(σ²/v) + (v + (m − μ)²)/σ² − 1]      running: mean μ, variance σ²; data: mean m, variance v
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from zoo.strategy.scores.bootstrap import LEVEL, Interval
from zoo.strategy.scores.targets import Floats

# Ours: below .1 none, above 1 strong.
MILD, STRONG = 0.1, 1.0

_DRAWS = 1000


@dataclass(frozen=True)
class LayerMoments:
    """Statistics of one batch-norm layer.

    Args:
        running_mean: (C,) running mean of the layer.
        running_variance: (C,) running variance of the layer.
        means: (G, C) means of its inputs in each of G batches, over images and pixels.
        variances: (G, C) population variances of the same.
        eps: The layer's eps.
    """

    running_mean: Floats
    running_variance: Floats
    means: Floats
    variances: Floats
    eps: float = 1e-5


@dataclass(frozen=True)
class NormShift:
    """Batch-norm shift of a model on a data set.

    Args:
        value: D_BN in nats.
        layers: D_BN of each layer.
        interval: 90 % interval; None if there is only one batch.
        verdict: Class of the shift; "unclear" if the interval includes a threshold.
    """

    value: float
    layers: tuple[float, ...]
    interval: Interval | None
    verdict: Literal["none", "mild", "strong", "unclear"]


def norm_shift(
    layers: Sequence[LayerMoments], counts: Sequence[int], *, level: float = LEVEL, seed: int = 0
) -> NormShift | None:
    """D_BN of a model; None without batch norm.

    Args:
        layers: Statistics of each batch-norm layer.
        counts: (G,) images per batch, the same batches for all layers.
        level: Level of the interval, which resamples batches.
        seed: Seed of the bootstrap.
    """
    if not layers:
        return None
    weights = np.asarray(counts, np.float64)
    groups = len(weights)
    per_layer = [float(_divergence(layer, weights[None])[0]) for layer in layers]
    value = float(np.mean(per_layer))
    if groups < 2:
        return NormShift(value, tuple(per_layer), None, _verdict(value, value))
    drawn = np.random.default_rng(seed).multinomial(groups, np.full(groups, 1 / groups), size=_DRAWS)
    draws = np.mean([_divergence(layer, drawn * weights) for layer in layers], axis=0)
    interval = Interval.of(draws, level)
    return NormShift(value, tuple(per_layer), interval, _verdict(interval.low, interval.high))


def _divergence(layer: LayerMoments, weights: Floats) -> Floats:
    """(B,) the median over channels, for each of weights (B, G) of the batches."""
    shares = weights / weights.sum(1, keepdims=True)
    # Relative to the running mean: the difference of squares would lose digits otherwise.
    moved = layer.means - layer.running_mean
    mean = shares @ moved
    # Clipped because rounding may make the variance of a dead channel negative. eps on both sides gives it no shift.
    variance = np.maximum(shares @ (layer.variances + moved**2) - mean**2, 0) + layer.eps
    running = layer.running_variance + layer.eps
    kl = 0.5 * (np.log(running / variance) + (variance + mean**2) / running - 1)
    return np.asarray(np.median(kl, axis=1))


def _verdict(low: float, high: float) -> Literal["none", "mild", "strong", "unclear"]:
    if high < MILD:
        return "none"
    if low > STRONG:
        return "strong"
    return "mild" if low >= MILD and high <= STRONG else "unclear"
