"""Ranking of pretrained models by their scores on the data and their published accuracy.

The score of a model is the mean of three log-odds, each minus its mean over the models:

    probe    leave-one-out accuracy of a linear probe (ridge) on its features
    knn      leave-one-out k-NN accuracy by cosine similarity
    prior    published top-1 accuracy on ImageNet-1k (prior.csv); if unknown, the lowest of the other models, so that a
             missing one is no advantage

A model without a prior whose features are dissimilar (`zoo.strategy.scores.similarity`) is ranked after all others:
neither a publication nor these images show that its pretraining is of use, and random features of the same network
score as well. Small networks at the size of the images often do, above all by k-NN on near-duplicates.

Why three: no estimator wins everywhere (Agostinelli et al. 2022, arXiv 2204.01403); k-NN was better than 23 others in
42,000 experiments (arXiv 2503.18528); a prior combined with a probe beats each alone (arXiv 2010.06402); computed from
the table of SFDA (Shao et al. 2022, arXiv 2207.03036), a static prior has a weighted τ of .83 with the accuracies
after fine-tuning, LogME .51. Why log-odds: those of the accuracy after transfer are nearly linear in those of the
accuracy on ImageNet (Kornblith et al. 2019, arXiv 1805.08974, figure 2).
"""

from __future__ import annotations

import csv
from collections.abc import Sequence
from dataclasses import dataclass, replace
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


@dataclass(frozen=True)
class Candidate:
    """Scores of one model, on the same images for all candidates.

    Args:
        probe: (N,) leave-one-out score of each image (`Outcome.values`) with a linear probe.
        knn: (N,) the same with k-NN.
        prior: Published accuracy from 0 to 1; None if unknown.
        dissimilar: Whether the pretrained features are hardly better than random ones.
    """

    probe: Floats
    knn: Floats
    prior: float | None
    dissimilar: bool = False

    @property
    def unproven(self) -> bool:
        """Whether nothing shows that the pretraining is of use."""
        return self.prior is None and self.dissimilar


@cache
def _table() -> dict[str, float]:
    text = resources.files("zoo.strategy").joinpath("prior.csv").read_text(encoding="utf-8")
    rows = csv.reader(line for line in text.splitlines() if not line.startswith("#"))
    next(rows)
    return {name: float(top1) / 100 for name, top1 in rows}


def prior_for(weights: str) -> float | None:
    """Published ImageNet-1k top-1 accuracy, from 0 to 1, of weights such as "resnet34.a1_in1k"; None if unknown."""
    return _table().get(weights)


def rank_models(
    candidates: Sequence[Candidate], weights: Floats, *, bounds: Bounds = (0, 1), level: float = LEVEL, seed: int = 0
) -> list[RankedCandidate]:
    """Rank models, best first.

    Scores are log-odds relative to the mean of the candidates; for unbounded values they have the units of the values.
    Intervals and ties come from a paired bootstrap over images, with the prior fixed.

    Args:
        candidates: Scores of the models.
        weights: (N,) weight of each image.
        bounds: Lowest and highest possible score of an image (`Targets.bounds`).
        level: Level of the intervals.
        seed: Seed of the bootstrap.
    """
    if not candidates:
        return []
    images = int(np.count_nonzero(weights))
    prior = _prior(candidates, bounded=bounds is not None)

    def transform(means: Floats) -> Floats:
        return _log_odds(means, images) if bounds is not None else means

    def resampled(*numbers: int) -> Floats:
        """(B, M): bootstrap scores of these candidates before the mean of all is subtracted."""
        columns = np.stack([c for i in numbers for c in (candidates[i].probe, candidates[i].knn)], 1)
        draws = transform(resample(columns, weights, bounds=bounds, share=SUBSAMPLE_FRACTION, seed=seed))
        return np.asarray((draws[:, 0::2] + draws[:, 1::2] + prior[list(numbers)]) / 3)

    def score_difference(i: int, j: int) -> Interval:
        both = resampled(i, j)
        return Interval.of(both[:, 0] - both[:, 1], level)

    means = np.array([[np.average(v, weights=weights) for v in (c.probe, c.knn)] for c in candidates])
    measured = transform(means).sum(1)
    scores = (measured - measured.mean() + prior) / 3
    centre = float(measured.mean()) / 3
    ranked: list[RankedCandidate] = []
    for unproven in (False, True):
        group = [i for i, candidate in enumerate(candidates) if candidate.unproven is unproven]
        own = rank_with_ties(
            [float(scores[i]) for i in group],
            lambda i, j, group=group: score_difference(group[i], group[j]),  # type: ignore[misc]
            lambda i, group=group: Interval.of(resampled(group[i])[:, 0] - centre, level),  # type: ignore[misc]
        )
        ranked += [replace(r, index=group[r.index], rank=r.rank + len(ranked)) for r in own]
    return ranked


def _prior(candidates: Sequence[Candidate], *, bounded: bool) -> Floats:
    """(M,) log-odds of the priors minus their mean; a missing one is the lowest of the others. 0 for all models if no
    prior is known or scores are unbounded."""
    known = [c.prior for c in candidates if c.prior is not None]
    if not bounded or not known:
        return np.zeros(len(candidates))
    odds = _log_odds(np.array([min(known) if c.prior is None else c.prior for c in candidates]), 50_000)
    return np.asarray(odds - odds.mean(), np.float64)


def _log_odds(share: Floats, images: int) -> Floats:
    """Log-odds with half an image added on each side (Haldane 1956, Anscombe 1956): finite at 0 and 1."""
    right = share * images
    return np.asarray(np.log((right + 0.5) / (images - right + 0.5)))
