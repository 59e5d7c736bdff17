from __future__ import annotations

import numpy as np
import pytest

from zoo.strategy.scores import Targets, knn_loo
from zoo.strategy.scores import knn as module


def one_by_one(features: np.ndarray, matrix: np.ndarray, weights: np.ndarray, k: int) -> np.ndarray:
    x = (features - features.mean(0)) / features.std(0)
    x /= np.linalg.norm(x, axis=1, keepdims=True)
    found = []
    for i in range(len(x)):
        cosines = x @ x[i]
        cosines[i] = -np.inf
        near = np.argsort(-cosines)[:k]
        votes = np.exp(cosines[near] / 0.07) * weights[near]
        found.append(votes @ matrix[near] / votes.sum())
    return np.array(found)


@pytest.mark.parametrize("balanced", [False, True])
def test_it_equals_leave_one_out(clusters, balanced, monkeypatch):
    monkeypatch.setattr(module, "_CHUNK", 600)  # ten rows at a time
    features, labels = clusters(63, 12)
    labels[:20] = 0
    targets = Targets.of(labels, "single-label", balanced=balanced)
    for k in (1, 5, 20):
        found = knn_loo(features, targets, (k,))
        np.testing.assert_allclose(
            found.predictions, one_by_one(features, targets.matrix, targets.weights, k), atol=1e-4
        )


def test_k_has_the_best_score(clusters):
    features, labels = clusters(100, 12, apart=0.5)
    targets = Targets.of(labels, "single-label")
    found = knn_loo(features, targets)
    scores = [knn_loo(features, targets, (k,)).outcome.score for k in found.tried]
    assert found.tried == (1, 3, 5, 10, 20, 50)
    assert found.outcome.score == max(scores)
    assert scores[found.tried.index(int(found.chosen))] == max(scores)


def test_regression_averages_the_neighbours(clusters):
    features, _ = clusters(200, 3)
    targets = Targets.of((features / features.std(0)).sum(1, keepdims=True), "regression")
    assert knn_loo(features, targets).outcome.score > 0.7


def test_neither_scale_nor_order_changes_it(clusters):
    features, labels = clusters(90, 15)
    order = np.random.default_rng(3).permutation(90)
    changed = np.column_stack([features * np.logspace(4, -4, 15), np.full(90, 0.1)])[order]
    here = knn_loo(features, Targets.of(labels, "single-label"))
    there = knn_loo(changed, Targets.of(labels[order], "single-label"))
    assert there.chosen == here.chosen
    np.testing.assert_allclose(there.predictions, here.predictions[order], atol=1e-4)


def test_few_images_and_constant_features():
    labels = np.array([0, 0, 0, 1, 1])
    targets = Targets.of(labels, "single-label")
    assert knn_loo(np.random.default_rng(0).normal(size=(5, 3)), targets).tried == (1, 3)
    same = knn_loo(np.ones((5, 3)), targets)
    np.testing.assert_allclose(same.predictions[3], [0.75, 0.25])
