"""Whether mirroring is found to mix classes up."""

from __future__ import annotations

import numpy as np
import pytest

from zoo.errors import DataError
from zoo.strategy.scores import Targets, flip_invariance


def _features(labels: np.ndarray, rng: np.random.Generator, *, turned: bool = False) -> np.ndarray:
    """Class 0 on the left of the first column, class 1 on the right; turned: the other way round."""
    side = (2 * labels - 1) * (-1 if turned else 1)
    features = rng.normal(size=(len(labels), 6))
    features[:, 0] += 3 * side
    return features


def test_classes_that_change_sides_break_and_more_of_the_same_keeps() -> None:
    rng = np.random.default_rng(0)
    labels = np.arange(200) % 2
    targets = Targets.of(labels, "single-label", balanced=True)
    features = _features(labels, rng)
    broken = flip_invariance(features, _features(labels, rng, turned=True), targets)
    assert broken.verdict == "breaks"
    assert broken.score > 0.95
    assert broken.mirrored < 0.05
    assert broken.interval.low > 0.8
    kept = flip_invariance(features, _features(labels, rng), targets)
    assert kept.verdict == "keeps"
    assert kept.interval.contains(0)


def test_a_quarter_of_the_images_is_judged_by_a_head_that_learns_from_all() -> None:
    rng = np.random.default_rng(0)
    labels = np.arange(400) % 2
    targets = Targets.of(labels, "single-label", balanced=True)
    features = _features(labels, rng)
    judged = np.linspace(0, 399, 100).astype(np.int64)
    turned = _features(labels, rng, turned=True)
    some = flip_invariance(features, turned[judged], targets, judged)
    every = flip_invariance(features, turned, targets)
    assert some.verdict == every.verdict == "breaks"
    assert some.mirrored == pytest.approx(every.mirrored, abs=0.05)
    assert some.interval.high - some.interval.low > every.interval.high - every.interval.low
    with pytest.raises(DataError):
        flip_invariance(features, turned[:0], targets, judged[:0])


def test_a_loss_that_may_be_chance_does_not_break() -> None:
    labels = np.arange(24) % 2
    targets = Targets.of(labels, "single-label", balanced=True)
    for seed in range(10):  # as many images as a beginner has, features that say nothing
        rng = np.random.default_rng(seed)
        found = flip_invariance(rng.normal(size=(24, 6)), rng.normal(size=(24, 6)), targets)
        assert found.verdict == "keeps"


def test_labels_are_judged_one_by_one() -> None:
    rng = np.random.default_rng(1)
    labels = rng.integers(0, 2, (150, 2))
    features = np.concatenate([_features(labels[:, 0], rng), _features(labels[:, 1], rng)], 1)
    mirrored = np.concatenate([_features(labels[:, 0], rng, turned=True), _features(labels[:, 1], rng)], 1)
    found = flip_invariance(features, mirrored, Targets.of(labels, "multi-label"))
    assert found.verdict == "breaks"
    assert found.mirrored == pytest.approx(0.5, abs=0.05)


def test_too_few_images_are_an_error() -> None:
    targets = Targets.of(np.array([0, 0, 1, 1]), "single-label")
    with pytest.raises(DataError):
        flip_invariance(np.zeros((4, 2)), np.zeros((4, 2)), targets)
