"""Similarity of the data to a model's pretraining data: what pretraining adds to a linear probe.

    S_probe = clip((a_pre − a0) / (1 − a0), 0, 1)

a_pre: leave-one-out score of a linear probe on the pretrained features. a0: the larger of the score of the best
constant prediction and the score of a linear probe on the features of the same network at random init, with batch-norm
statistics re-estimated on these images. In a first experiment of ours (7 data sets, one network) the rank correlation
of S_probe with the gain of fine-tuning over training from scratch was .82, and .07 without the random network in a0.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

from zoo.strategy.scores.bootstrap import LEVEL, SUBSAMPLE_FRACTION, Bounds, Interval, resample
from zoo.strategy.scores.targets import Floats

# Ours, calibrated on 45 cells of our study (seed 100; docs/strategy.md): with 6 to 32 images per class a linear probe
# was as good as training all layers from .7, and a high learning rate was best below .25.
SIMILAR, DISSIMILAR = 0.6, 0.25

# Baseline score above which the task is easy without pretraining (ours).
EASY = 0.9

Verdict = Literal["similar", "medium", "dissimilar"]


@dataclass(frozen=True)
class Similarity:
    """Similarity of a data set to the pretraining data of a model.

    Args:
        value: S_probe, from 0 to 1.
        interval: 90 % interval of S_probe.
        verdict: Class of the similarity; "medium" also if the interval includes a threshold.
        pretrained: Score of the linear probe on the pretrained features, a_pre.
        baseline: Score of the baseline, a0.
        baseline_kind: "random" for the network with random weights, "constant" for a constant prediction.
        easy: Whether a0 is above 0.9.
    """

    value: float
    interval: Interval
    verdict: Verdict
    pretrained: float
    baseline: float
    baseline_kind: Literal["constant", "random"]
    easy: bool


def similarity(
    pretrained: Floats,
    random: Floats,
    constant: Floats,
    weights: Floats | None = None,
    *,
    bounds: Bounds = (0, 1),
    level: float = LEVEL,
    seed: int = 0,
) -> Similarity:
    """S_probe with a bootstrap interval.

    Each draw resamples the same images for both scores. All images together decide which baseline is larger, because
    the maximum of two noisy means is biased upwards. S_probe is 0 for a perfect baseline.

    Args:
        pretrained: (N,) score of each image (`Outcome.values`) with the pretrained features.
        random: (N,) with the features of the same network at random init.
        constant: (N,) with the best constant prediction (`Targets.constant_baseline`).
        weights: (N,) weight of each image; None for equal weights.
        bounds: Lowest and highest possible score of an image; None if unbounded.
        level: Level of the interval.
        seed: Seed of the bootstrap.
    """
    scores = {name: float(np.average(v, weights=weights)) for name, v in (("random", random), ("constant", constant))}
    kind: Literal["constant", "random"] = "random" if scores["random"] > scores["constant"] else "constant"
    a_pre, a0 = float(np.average(pretrained, weights=weights)), scores[kind]
    pair = np.stack([pretrained, random if kind == "random" else constant], 1)
    draws = resample(pair, weights, bounds=bounds, share=SUBSAMPLE_FRACTION, seed=seed)
    interval = Interval.of(_skill(draws[:, 0], draws[:, 1]), level)
    value = float(_skill(np.array([a_pre]), np.array([a0]))[0])
    return Similarity(value, interval, verdict(interval), a_pre, a0, kind, a0 > EASY)


def verdict(interval: Interval) -> Verdict:
    """The class that contains the whole interval, else "medium"."""
    if interval.low >= SIMILAR:
        return "similar"
    return "dissimilar" if interval.high < DISSIMILAR else "medium"


def _skill(score: Floats, baseline: Floats) -> Floats:
    possible_gain = 1 - baseline
    return np.clip(np.where(possible_gain > 1e-12, (score - baseline) / np.maximum(possible_gain, 1e-12), 0), 0, 1)
