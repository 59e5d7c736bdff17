"""Batch-norm shift: how far our images move the statistics that a model's batch norms keep from its own.

D_BN = mean over layers of the median over channels of KL(ours ‖ kept)
     = ½ [log(σ²/v) + (v + (m − μ)²)/σ² − 1],  kept: mean μ, variance σ²; ours: m, v         (facts/transfer.md)
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from zoo.strategy.scores.bootstrap import LEVEL, Interval
from zoo.strategy.scores.targets import Floats

__all__ = ["MILD", "STRONG", "LayerMoments", "NormShift", "norm_shift"]

# First thresholds, ours, of facts/transfer.md: below .1 none, above 1 strong.
MILD, STRONG = 0.1, 1.0

_DRAWS = 1000


@dataclass(frozen=True)
class LayerMoments:
    """What one batch norm keeps and what it sees of our images. kept_mean, kept_variance (C,); means, variances (G, C):
    of its inputs in each of G batches, population variances, over images and pixels; eps: the layer's."""

    stored_mean: Floats
    stored_variance: Floats
    means: Floats
    variances: Floats
    eps: float = 1e-5


@dataclass(frozen=True)
class NormShift:
    """value: D_BN, in nats. layers: of each layer. interval and verdict: None and by the value alone if there is only
    one batch; "between" if the interval straddles a cut."""

    value: float
    layers: tuple[float, ...]
    interval: Interval | None
    verdict: Literal["none", "mild", "strong", "between"]


def norm_shift(
    layers: Sequence[LayerMoments], counts: Sequence[int], *, level: float = LEVEL, seed: int = 0
) -> NormShift | None:
    """D_BN of a model's batch norms; None if it has none.

    counts (G,): images in each batch, the same batches for all layers. The interval draws batches with replacement.
    Variances get the layer's eps on both sides, so that a dead channel (0 and 0) has not moved.
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
    # Around the kept mean, so that the difference of squares loses no digits.
    moved = layer.means - layer.stored_mean
    mean = shares @ moved
    # Clipped because rounding may leave less than nothing of a dead channel.
    variance = np.maximum(shares @ (layer.variances + moved**2) - mean**2, 0) + layer.eps
    stored = layer.stored_variance + layer.eps
    kl = 0.5 * (np.log(stored / variance) + (variance + mean**2) / stored - 1)
    return np.asarray(np.median(kl, axis=1))


def _verdict(low: float, high: float) -> Literal["none", "mild", "strong", "between"]:
    if high < MILD:
        return "none"
    if low > STRONG:
        return "strong"
    return "mild" if low >= MILD and high <= STRONG else "between"
