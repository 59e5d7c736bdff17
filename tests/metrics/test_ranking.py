"""Average precision and ROC AUC compared with scikit-learn, with ties and edge cases."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from sklearn import metrics as sk

from zoo.metrics.ranking import area_under_roc, average_precision


@pytest.mark.parametrize("levels", [2, 5, 1000])
@pytest.mark.parametrize("share", [0.02, 0.5, 0.9])
def test_agrees_with_scikit_learn_for_any_ties(levels: int, share: float) -> None:
    """With few levels, hundreds of scores are equal."""
    rng = np.random.default_rng(levels)
    for _ in range(5):
        positive = rng.random(400) < share
        positive[0], positive[1] = True, False
        scores = (rng.integers(0, levels, 400) + positive * (levels // 4)) / levels
        pair = torch.from_numpy(scores), torch.from_numpy(positive)
        assert average_precision(*pair) == pytest.approx(sk.average_precision_score(positive, scores), abs=1e-12)
        assert area_under_roc(*pair) == pytest.approx(sk.roc_auc_score(positive, scores), abs=1e-12)


def test_equal_scores_give_chance_level() -> None:
    scores, positive = torch.zeros(10), torch.arange(10) < 3
    assert average_precision(scores, positive) == pytest.approx(0.3)
    assert area_under_roc(scores, positive) == 0.5


def test_infinite_scores_are_ranked() -> None:
    scores = torch.tensor([math.inf, 0.0, -math.inf, math.inf])
    positive = torch.tensor([True, True, False, False])
    assert area_under_roc(scores, positive) == pytest.approx((0.5 + 1 + 0 + 1) / 4)


@pytest.mark.parametrize("positive", [[True, True], [False, False]])
def test_auroc_without_positives_or_negatives_is_nan(positive: list[bool]) -> None:
    assert math.isnan(area_under_roc(torch.tensor([0.1, 0.2]), torch.tensor(positive)))


def test_average_precision_without_positives_is_nan() -> None:
    assert math.isnan(average_precision(torch.tensor([0.1, 0.2]), torch.tensor([False, False])))
    assert average_precision(torch.tensor([0.1, 0.2]), torch.tensor([True, True])) == 1


def test_a_nan_score_gives_nan() -> None:
    scores, positive = torch.tensor([0.1, math.nan]), torch.tensor([True, False])
    assert math.isnan(average_precision(scores, positive))
    assert math.isnan(area_under_roc(scores, positive))
