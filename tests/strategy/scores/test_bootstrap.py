from __future__ import annotations

import numpy as np
import pytest

from zoo.strategy.scores import difference_interval, mean_interval, rank
from zoo.strategy.scores.bootstrap import resample


@pytest.mark.parametrize("share", [0.5, 0.8, 0.95])
def test_coverage_of_intervals_of_a_share(share):
    rng = np.random.default_rng(0)
    covered = [mean_interval((rng.random(80) < share).astype(float), seed=i).contains(share) for i in range(600)]
    assert 0.85 <= np.mean(covered) <= 0.96


def test_coverage_with_weights_and_without_bounds():
    rng = np.random.default_rng(1)
    covered = []
    for i in range(300):
        rare = rng.random(150) < 0.2
        right = rng.random(150) < np.where(rare, 0.4, 0.9)
        covered.append(mean_interval(right.astype(float), np.where(rare, 4.0, 1.0), seed=i).contains(0.65))
    assert 0.84 <= np.mean(covered) <= 0.96
    covered = [mean_interval(rng.normal(size=60) * 5 - 2, bounds=None, seed=i).contains(-2) for i in range(300)]
    assert 0.84 <= np.mean(covered) <= 0.96


@pytest.mark.parametrize("both", [0.0, 0.9])
def test_coverage_of_intervals_of_a_paired_difference(both):
    """`both`: share of the images on which the candidates agree."""
    rng = np.random.default_rng(2)
    covered = []
    for i in range(500):
        easy = rng.random(200) < both
        ours, theirs = (np.where(easy, 1.0, rng.random(200) < p) for p in (0.7, 0.5))
        covered.append(difference_interval(ours, theirs, seed=i).contains(0.2 * (1 - both)))
    assert 0.85 <= np.mean(covered) <= 0.96


def test_paired_differences_have_narrower_intervals():
    rng = np.random.default_rng(0)
    ours = (rng.random(300) < 0.6).astype(float)
    theirs = ours.copy()
    theirs[np.flatnonzero(ours)[:20]] = 0
    difference = difference_interval(ours, theirs)
    assert 0 < difference.low < 20 / 300 < difference.high
    assert mean_interval(theirs).high > mean_interval(ours).low


def test_three_images_are_not_significant():
    ours = np.ones(60)
    theirs = ours.copy()
    theirs[:3] = 0
    assert difference_interval(ours, theirs).contains(0)  # McNemar's exact test: p = 0.25
    theirs[:8] = 0
    assert not difference_interval(ours, theirs).contains(0)  # p = 0.008


def test_all_right_is_not_certain():
    interval = mean_interval(np.ones(60))
    assert interval.high == 1
    assert 0.94 < interval.low < 0.98


def test_order_does_not_matter_and_weight_zero_is_ignored():
    rng = np.random.default_rng(0)
    values, weights, order = rng.random(50), rng.random(50), rng.permutation(50)
    here = mean_interval(values, weights)
    assert mean_interval(values[order], weights[order]) == here
    assert mean_interval(np.append(values, 0.0), np.append(weights, 0.0)) == here


def test_smaller_draws_give_wider_intervals():
    values = (np.arange(1000) < 700).astype(float)
    widths = [i.high - i.low for i in (mean_interval(values), mean_interval(values, share=0.25))]
    assert widths[1] / widths[0] == pytest.approx(2, rel=0.1)


def test_columns_are_resampled_together():
    values = np.random.default_rng(0).random(50)
    draws = resample(np.stack([values, values + 1], 1), bounds=None)
    np.testing.assert_allclose(draws[:, 1] - draws[:, 0], 1)


def test_a_ranking_finds_ties():
    rng = np.random.default_rng(0)
    shares = (0.50, 0.90, 0.91, 0.70, 0.71)
    candidates = [(rng.permutation(400) < 400 * share).astype(float) for share in shares]
    ranked = rank(candidates)
    assert [r.index for r in ranked] == [2, 1, 4, 3, 0]
    assert [r.rank for r in ranked] == [1, 1, 3, 3, 5]
    assert [r.tied for r in ranked] == [True, True, True, True, False]
    assert ranked[0].score == 0.91
    assert ranked[0].interval.contains(0.91)
