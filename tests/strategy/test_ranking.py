"""The ranking of models: scores, ties and missing priors."""

from __future__ import annotations

import numpy as np
import pytest

from zoo.strategy.ranking import Candidate, prior_for, rank_models


def right(share: float, n: int = 400, *, shift: int = 0) -> np.ndarray:
    """(n,) of 0 and 1 with mean `share`; all candidates fail on the same images, except for `shift`."""
    return np.roll((np.arange(n) < round(share * n)).astype(np.float64), shift)


def test_the_better_probe_comes_first_and_equal_ones_tie() -> None:
    ones = np.ones(400)
    candidates = [
        Candidate(right(0.6), right(0.55), None),
        Candidate(right(0.9), right(0.85), None),
        Candidate(right(0.6, shift=7), right(0.55, shift=7), None),
    ]
    ranked = rank_models(candidates, ones)
    assert ranked[0].index == 1
    assert [r.rank for r in ranked] == [1, 2, 2]
    assert [r.tied for r in ranked] == [False, True, True]
    assert all(r.interval.low <= r.score <= r.interval.high for r in ranked)


def test_the_prior_orders_equal_models_and_a_missing_one_is_the_lowest() -> None:
    same = (right(0.8), right(0.7))
    ranked = rank_models([Candidate(*same, 0.65), Candidate(*same, None), Candidate(*same, 0.85)], np.ones(400))
    assert ranked[0].index == 2
    assert ranked[1].score == pytest.approx(ranked[2].score)
    assert sum(r.score for r in ranked) == pytest.approx(0)


def test_a_missing_prior_lifts_no_model_above_another() -> None:
    """Whatever the others have published, a model without a prior is never ahead of one with the same scores."""
    same = (right(0.6), right(0.5))
    for others in ([0.72], [0.72, 0.73, 0.85], [0.85, 0.4]):
        ranked = rank_models([Candidate(*same, None), *(Candidate(*same, p) for p in others)], np.ones(400))
        scores = {r.index: r.score for r in ranked}
        assert scores[0] == pytest.approx(min(scores.values()))
    unknown = rank_models([Candidate(*same, None), Candidate(right(0.7), right(0.6), None)], np.ones(400))
    assert [r.index for r in unknown] == [1, 0]


def test_a_model_of_which_nothing_shows_that_its_pretraining_is_of_use_comes_last() -> None:
    good, fair = (right(0.8), right(0.7)), (right(0.5), right(0.4))
    candidates = [
        Candidate(*good, None, dissimilar=True),
        Candidate(*fair, 0.7, dissimilar=True),  # published
        Candidate(*fair, None),  # similar
        Candidate(*fair, None, dissimilar=True),
    ]
    ranked = rank_models(candidates, np.ones(400))
    assert [(r.index, r.rank, r.tied) for r in ranked] == [
        (1, 1, True), (2, 1, True), (0, 3, False), (3, 4, False)
    ]  # fmt: skip
    alone = rank_models(candidates[::3], np.ones(400))
    assert [(r.index, r.rank) for r in alone] == [(0, 1), (1, 2)]


def test_the_order_of_candidates_and_of_images_does_not_matter() -> None:
    rng = np.random.default_rng(0)
    candidates = [Candidate(right(p), right(p - 0.1), None) for p in (0.7, 0.9, 0.5)]
    mixed = rng.permutation(400)
    again = [Candidate(c.probe[mixed], c.knn[mixed], None) for c in candidates[::-1]]
    one, other = rank_models(candidates, np.ones(400)), rank_models(again, np.ones(400))
    assert [r.index for r in one] == [2 - r.index for r in other]
    np.testing.assert_allclose([r.score for r in one], [r.score for r in other])


def test_unbounded_scores_are_compared_directly() -> None:
    rng = np.random.default_rng(1)
    errors = rng.normal(0, 0.1, 300)
    ranked = rank_models(
        [Candidate(0.2 + errors, 0.1 + errors, 0.9), Candidate(0.6 + errors, 0.5 + errors, 0.1)],
        np.ones(300),
        bounds=None,
    )
    assert [r.index for r in ranked] == [1, 0]


def test_published_accuracies() -> None:
    assert prior_for("resnet34.a1_in1k") == pytest.approx(0.77918, abs=0.003)
    assert prior_for("torchvision/resnet18.IMAGENET1K_V1") == pytest.approx(0.69758)
    assert prior_for("zoo_tiny.strokes") is None
    assert rank_models([], np.ones(3)) == []


def test_many_candidates_take_no_more_memory_than_two() -> None:
    """The bootstrap adds an image per corner of the drawn columns: 4^16 for all candidates together."""
    ranked = rank_models([Candidate(right(0.5 + k / 40), right(0.5), 0.7) for k in range(16)], np.ones(400))
    assert [r.index for r in ranked] == list(range(15, -1, -1))
    assert ranked[0].rank == 1
    assert ranked[-1].rank > 1
