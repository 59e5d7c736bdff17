from __future__ import annotations

import numpy as np
import pytest

from zoo.errors import DataError
from zoo.strategy.scores import Targets, decompose, held_out, ridge_head, ridge_loo
from zoo.strategy.scores.holdout import assign_folds


def test_each_fold_is_predicted_by_the_others_alone(clusters):
    features, labels = clusters(100, 30)
    targets = Targets.of(labels, "single-label")
    found = held_out(features, targets, seed=4)
    fold = assign_folds(targets, 10, seed=4)
    np.testing.assert_array_equal(found.rows, np.arange(100))
    for turn in range(10):
        test = fold == turn
        known = Targets.of(labels[~test], "single-label")
        svd = decompose(features[~test])
        head = ridge_head(svd, known, ridge_loo(svd, known).chosen)
        np.testing.assert_array_equal(found.values[test], head.predict(features[test]).argmax(1) == labels[test])
    assert found.score == found.values.mean()
    assert found.interval.low < found.score < found.interval.high


def test_two_turns_hold_out_two_folds_and_agrees_with_fresh_images(clusters):
    features, labels = clusters(4000, 30, apart=0.25)
    targets = Targets.of(labels[:1500], "single-label")
    found = held_out(features[:1500], targets, rounds=2)
    assert len(found.rows) == 300
    svd = decompose(features[:1500])
    head = ridge_head(svd, targets, ridge_loo(svd, targets).chosen)
    fresh = (head.predict(features[1500:]).argmax(1) == labels[1500:]).mean()
    assert found.interval.low - 0.02 < fresh < found.interval.high + 0.02


def test_groups_stay_together(clusters):
    features, labels = clusters(50, 200, apart=0)
    features, labels, groups = np.repeat(features, 4, 0), np.repeat(labels, 4), np.repeat(np.arange(50), 4)
    targets = Targets.of(labels, "single-label")
    fold = assign_folds(targets, 5, seed=0, groups=groups)
    assert all(len(set(fold[groups == g])) == 1 for g in range(50))
    assert held_out(features, targets).score > 0.9  # because of duplicates
    assert held_out(features, targets, groups=groups, folds=5).score < 0.5


def test_rare_classes_are_evaluated_only_if_the_training_folds_contain_them(clusters):
    features, labels = clusters(60, 10, classes=2, apart=3)
    labels[:3] = (2, 2, 3)
    found = held_out(features, Targets.of(labels, "single-label"))
    assert len(found.rows) in (58, 59)
    assert 2 not in found.rows  # the only one of its class


@pytest.mark.parametrize("task", ["multi-label", "regression"])
def test_other_tasks(clusters, task):
    features, labels = clusters(120, 10, apart=3)
    targets = np.stack([labels % 2, labels > 1], 1).astype(np.float32) * (1 if task == "multi-label" else 100)
    assert held_out(features, Targets.of(targets, task)).score > 0.6


def test_too_few_images_for_the_folds(clusters):
    features, labels = clusters(8, 3)
    with pytest.raises(DataError, match="10 folds of 8 images"):
        held_out(features, Targets.of(labels, "single-label"), folds=10)
