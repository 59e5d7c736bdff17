"""Similarity of a pretrained model's images and ours, without the former: what pretraining adds to a linear head.

    S_probe = clip((a_pre − a0) / (1 − a0), 0, 1)

a_pre: score of a ridge head on the pretrained model's features, left out. a0: the larger of the best constant answer's
score and the same with the same architecture at random init, its batch-norm statistics re-estimated on these images
(facts/transfer.md; rank correlation with the real gain .82 on 7 targets, the same without the random model .07).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

from zoo.strategy.scores.bootstrap import LEVEL, SUBSAMPLE_FRACTION, Bounds, Interval, resample
from zoo.strategy.scores.targets import Floats

__all__ = ["DISSIMILAR", "SIMILAR", "Similarity", "Verdict", "similarity", "verdict"]

# Ours. Calibrated on 45 cells of the study (seed 100; docs/strategy.md): with 6 to 32 images a class a head alone was
# as good as training everything from .7 on. .25 is the first value of facts/transfer.md: below it a high rate was best.
SIMILAR, DISSIMILAR = 0.6, 0.25

# a0 beyond which the task is easy without any pretraining: a pilot must say whether it matters (facts/transfer.md).
EASY = 0.9

Verdict = Literal["similar", "between", "dissimilar"]


@dataclass(frozen=True)
class Similarity:
    """value: S_probe. pretrained: a_pre. baseline: a0, and `by` which of the two it is. easy: a0 is above .9."""

    value: float
    interval: Interval
    verdict: Verdict
    pretrained: float
    baseline: float
    by: Literal["constant", "random"]
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
    """S_probe of values (N,), what each image's prediction is worth (`Outcome.values`), by the pretrained model's
    features, by those of the same model at random init, and by the best constant answer (`Truth.naive()`).

    The interval draws images together for both scores; which of the two baselines is the larger is settled by all
    images (the larger of two noisy means is too large on average, and would be twice so). No gain is possible over a
    perfect baseline: S is 0.
    """
    scores = {name: float(np.average(v, weights=weights)) for name, v in (("random", random), ("constant", constant))}
    by: Literal["constant", "random"] = "random" if scores["random"] > scores["constant"] else "constant"
    a_pre, a0 = float(np.average(pretrained, weights=weights)), scores[by]
    pair = np.stack([pretrained, random if by == "random" else constant], 1)
    draws = resample(pair, weights, bounds=bounds, share=SUBSAMPLE_FRACTION, seed=seed)
    interval = Interval.of(_skill(draws[:, 0], draws[:, 1]), level)
    value = float(_skill(np.array([a_pre]), np.array([a0]))[0])
    return Similarity(value, interval, verdict(interval), a_pre, a0, by, a0 > EASY)


def verdict(interval: Interval) -> Verdict:
    """Between, unless the whole interval lies on one side of both cuts."""
    if interval.low >= SIMILAR:
        return "similar"
    return "dissimilar" if interval.high < DISSIMILAR else "between"


def _skill(score: Floats, baseline: Floats) -> Floats:
    room = 1 - baseline
    return np.clip(np.where(room > 1e-12, (score - baseline) / np.maximum(room, 1e-12), 0), 0, 1)
