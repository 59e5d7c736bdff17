"""Which of several pretrained models to take: what they show on the data and what they are known for, together.

The score of a model is the mean of up to three log-odds, each less its mean over the models that have it:

    probe    accuracy of a ridge head on its features, every image left out once
    kNN      accuracy of its nearest neighbours by cosine, left out
    prior    published top-1 accuracy on ImageNet-1k (prior.csv); absent: neutral

Why three: no estimator wins everywhere (2204.01403); on SFDA's table a static prior has a weighted τ of .83 with the
accuracies after fine-tuning, LogME .51 (facts/transfer.md); kNN beat 23 others over 42,000 experiments (2503.18528); a
prior beside a probe beats each alone (2010.06402). Why log-odds: those of the accuracy after transfer are near linear
in those on ImageNet (Kornblith et al. 2019, 1805.08974, figure 2).
"""

from __future__ import annotations

import csv
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from importlib import resources

import numpy as np

from zoo.strategy.scores.bootstrap import (
    LEVEL,
    SUBSAMPLE_FRACTION,
    Bounds,
    Interval,
    RankedCandidate,
    rank_with_ties,
    resample,
)
from zoo.strategy.scores.targets import Floats

__all__ = ["Candidate", "prior_for", "rank_models"]


@dataclass(frozen=True)
class Candidate:
    """probe, knn (N,): what the predictions of each image, left out, are worth (`Outcome.values`), for the same images
    in every candidate. prior: a share from 0 to 1, or None."""

    probe: Floats
    knn: Floats
    prior: float | None


@cache
def _table() -> dict[str, float]:
    text = resources.files("zoo.strategy").joinpath("prior.csv").read_text(encoding="utf-8")
    rows = csv.reader(line for line in text.splitlines() if not line.startswith("#"))
    next(rows)
    return {name: float(top1) / 100 for name, top1 in rows}


def prior_for(weights: str) -> float | None:
    """Published top-1 accuracy on ImageNet-1k, from 0 to 1, of weights called as "resnet34.a1_in1k"; None if absent."""
    return _table().get(weights)


def rank_models(
    candidates: Sequence[Candidate], weights: Floats, *, bounds: Bounds = (0, 1), level: float = LEVEL, seed: int = 0
) -> list[RankedCandidate]:
    """Best first; scores in log-odds over the mean of the candidates, in the units of the values where these have no
    bounds. weights (N,): of the images in a score. bounds: of what a prediction is worth (`Truth.bounds`).

    Intervals and ties come from drawing images again, two candidates at a time; the prior is taken as it is.
    """
    if not candidates:
        return []
    images = int(np.count_nonzero(weights))
    prior = _prior(candidates, bounded=bounds is not None)

    def parts(means: Floats) -> Floats:
        return _log_odds(means, images) if bounds is not None else means

    def drawn(*numbers: int) -> Floats:
        """(B, M): what each of these scores before the mean of all is taken off, the same images drawn for all."""
        columns = np.stack([c for i in numbers for c in (candidates[i].probe, candidates[i].knn)], 1)
        draws = parts(resample(columns, weights, bounds=bounds, share=SUBSAMPLE_FRACTION, seed=seed))
        return np.asarray((draws[:, 0::2] + draws[:, 1::2] + prior[list(numbers)]) / 3)

    def score_difference(one: int, other: int) -> Interval:
        both = drawn(one, other)
        return Interval.of(both[:, 0] - both[:, 1], level)

    means = np.array([[np.average(v, weights=weights) for v in (c.probe, c.knn)] for c in candidates])
    shown = parts(means).sum(1)
    scores = (shown - shown.mean() + prior) / 3
    centre = float(shown.mean()) / 3
    return rank_with_ties(scores.tolist(), score_difference, lambda i: Interval.of(drawn(i)[:, 0] - centre, level))


def _prior(candidates: Sequence[Candidate], *, bounded: bool) -> Floats:
    """(M,) log-odds less the mean of those there are; 0 where there is none, or where the others have no log-odds."""
    known = np.array([c.prior is not None for c in candidates])
    if not bounded or not known.any():
        return np.zeros(len(candidates))
    odds = np.array([_log_odds(np.array(c.prior), 50_000) if c.prior is not None else 0.0 for c in candidates])
    return np.asarray(np.where(known, odds - odds[known].mean(), 0.0), np.float64)


def _log_odds(share: Floats, images: int) -> Floats:
    """Half an image right and half an image wrong added (Haldane 1956, Anscombe 1956): finite at 0 and 1."""
    right = share * images
    return np.asarray(np.log((right + 0.5) / (images - right + 0.5)))
