from __future__ import annotations

import numpy as np
import pytest

from zoo.strategy.scores import Interval, Targets, decompose, measure, ridge_head, ridge_loo, similarity
from zoo.strategy.scores.similarity import verdict


def share(n: int, right: float) -> np.ndarray:
    return (np.arange(n) < n * right).astype(float)


def test_it_is_the_gain_relative_to_the_possible_gain():
    found = similarity(share(1000, 0.9), share(1000, 0.6), share(1000, 0.25))
    assert found.value == pytest.approx(0.3 / 0.4)
    assert (found.pretrained, found.baseline, found.baseline_kind) == (0.9, 0.6, "random")
    assert found.interval.low < 0.75 < found.interval.high
    assert found.verdict == "similar"
    assert similarity(share(1000, 0.9), share(1000, 0.2), share(1000, 0.8)).baseline_kind == "constant"


def test_an_easy_task_is_not_similar():
    found = similarity(share(200, 0.95), share(200, 0.95), share(200, 0.2))
    assert (found.value, found.easy) == (0, True)
    perfect = similarity(share(200, 1), share(200, 1), share(200, 0.2))
    assert perfect.value == 0


def test_few_images_give_a_wide_interval():
    few, many = (similarity(share(n, 0.8), share(n, 0.6), share(n, 0.5)) for n in (40, 40_000))
    assert few.value == many.value == pytest.approx(0.5)
    assert few.verdict == "medium"
    assert few.interval.high - few.interval.low > 10 * (many.interval.high - many.interval.low)


@pytest.mark.parametrize(
    ("low", "high", "name"),
    [
        (0.6, 0.7, "similar"),
        (0.59, 0.9, "medium"),
        (0.3, 0.4, "medium"),
        (0.2, 0.25, "medium"),
        (0, 0.24, "dissimilar"),
    ],
)
def test_thresholds(low, high, name):
    assert verdict(Interval(low, high)) == name


@pytest.mark.parametrize("d", [30, 500])
def test_permuted_labels_have_no_similarity(clusters, d):
    values = []
    for seed in range(6):
        features, labels = clusters(200, d, apart=1, seed=seed)
        rng = np.random.default_rng(seed)
        noise = rng.normal(size=features.shape)
        found = []
        for y in (labels, rng.permutation(labels)):
            targets = Targets.of(y, "single-label")
            random = ridge_loo(decompose(noise), targets).outcome.values
            found.append(
                similarity(measure(features, targets).ridge.outcome.values, random, targets.constant_baseline())
            )
        assert found[0].verdict == "similar"
        assert found[1].verdict == "dissimilar"
        assert found[1].interval.low == 0
        values.append(found[1].value)
    assert np.mean(values) < 0.03
    assert max(values) < 0.1


def test_the_interval_covers_the_value_on_fresh_images():
    """S_probe on fresh images, with probes fitted on 100 images and weaker features as the random network."""
    covered = []
    fresh_labels = np.arange(1500) % 4
    for seed in range(120):
        rng = np.random.default_rng(seed)
        labels = rng.permutation(np.arange(100) % 4)
        targets = Targets.of(labels, "single-label")
        values, scores = [], []
        for apart in (0.35, 0.15):
            centres = rng.normal(size=(4, 40)) * apart
            features, fresh = (centres[y] + rng.normal(size=(len(y), 40)) for y in (labels, fresh_labels))
            svd = decompose(features)
            found = ridge_loo(svd, targets)
            head = ridge_head(svd, targets, found.chosen)
            values.append(found.outcome.values)
            scores.append((head.predict(fresh).argmax(1) == fresh_labels).mean())
        gain = (scores[0] - scores[1]) / (1 - scores[1])
        covered.append(similarity(*values, targets.constant_baseline(), seed=seed).interval.contains(gain))
    assert 0.85 <= np.mean(covered) <= 0.97
