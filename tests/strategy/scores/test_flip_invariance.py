"""Detection of harmful horizontal flips."""

from __future__ import annotations

import numpy as np
import pytest

from zoo.errors import DataError
from zoo.strategy.scores import Targets, flip_invariance


def _features(labels: np.ndarray, rng: np.random.Generator, *, flipped: bool = False) -> np.ndarray:
    """Class 0 on the left of the first column, class 1 on the right; flipped: the other way round."""
    side = (2 * labels - 1) * (-1 if flipped else 1)
    features = rng.normal(size=(len(labels), 6))
    features[:, 0] += 3 * side
    return features


def test_flips_are_harmful_only_if_they_change_the_class() -> None:
    rng = np.random.default_rng(0)
    labels = np.arange(200) % 2
    targets = Targets.of(labels, "single-label", balanced=True)
    features = _features(labels, rng)
    harmful = flip_invariance(features, _features(labels, rng, flipped=True), targets)
    assert harmful.verdict == "harmful"
    assert harmful.score > 0.95
    assert harmful.flipped_score < 0.05
    assert harmful.interval.low > 0.8
    harmless = flip_invariance(features, _features(labels, rng), targets)
    assert harmless.verdict == "harmless"
    assert harmless.interval.contains(0)


def test_a_subset_is_evaluated_with_a_probe_fitted_on_all_images() -> None:
    rng = np.random.default_rng(0)
    labels = np.arange(400) % 2
    targets = Targets.of(labels, "single-label", balanced=True)
    features = _features(labels, rng)
    evaluated = np.linspace(0, 399, 100).astype(np.int64)
    flipped = _features(labels, rng, flipped=True)
    some = flip_invariance(features, flipped[evaluated], targets, evaluated)
    every = flip_invariance(features, flipped, targets)
    assert some.verdict == every.verdict == "harmful"
    assert some.flipped_score == pytest.approx(every.flipped_score, abs=0.05)
    assert some.interval.high - some.interval.low > every.interval.high - every.interval.low
    with pytest.raises(DataError):
        flip_invariance(features, flipped[:0], targets, evaluated[:0])


def test_a_drop_that_may_be_chance_is_harmless() -> None:
    labels = np.arange(24) % 2
    targets = Targets.of(labels, "single-label", balanced=True)
    for seed in range(10):  # few images, random features
        rng = np.random.default_rng(seed)
        found = flip_invariance(rng.normal(size=(24, 6)), rng.normal(size=(24, 6)), targets)
        assert found.verdict == "harmless"


def test_labels_are_evaluated_separately() -> None:
    rng = np.random.default_rng(1)
    labels = rng.integers(0, 2, (150, 2))
    features = np.concatenate([_features(labels[:, 0], rng), _features(labels[:, 1], rng)], 1)
    flipped = np.concatenate([_features(labels[:, 0], rng, flipped=True), _features(labels[:, 1], rng)], 1)
    found = flip_invariance(features, flipped, Targets.of(labels, "multi-label"))
    assert found.verdict == "harmful"
    assert found.flipped_score == pytest.approx(0.5, abs=0.05)


def test_too_few_images_are_an_error() -> None:
    targets = Targets.of(np.array([0, 0, 1, 1]), "single-label")
    with pytest.raises(DataError):
        flip_invariance(np.zeros((4, 2)), np.zeros((4, 2)), targets)
