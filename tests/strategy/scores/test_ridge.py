from __future__ import annotations

import numpy as np
import pytest

from zoo.errors import DataError, UsageError
from zoo.strategy.scores import Targets, decompose, knn_loo, ridge_head, ridge_loo
from zoo.strategy.scores.ridge import PENALTIES


def refit(x: np.ndarray, y: np.ndarray, w: np.ndarray, penalty: float, x_new: np.ndarray) -> np.ndarray:
    """Ridge with a free bias by its normal equations, on standardised features."""
    design = np.column_stack([np.ones(len(x)), x])
    free = np.diag([0.0] + [penalty] * x.shape[1])
    return np.append(1, x_new) @ np.linalg.solve(design.T @ (w[:, None] * design) + free, design.T @ (w[:, None] * y))


def targets_of(task: str, labels: np.ndarray) -> np.ndarray:
    rng = np.random.default_rng(1)
    if task == "multi-label":
        return np.stack([labels % 2, labels > 1], 1).astype(np.float32)
    return np.stack([labels * 10.0 + 5, rng.normal(size=len(labels))], 1).astype(np.float32)


@pytest.mark.parametrize("d", [20, 59, 200])
@pytest.mark.parametrize("task", ["single-label", "balanced", "multi-label", "regression"])
def test_leave_one_out_equals_refitting_n_times(clusters, task, d):
    features, labels = clusters(60, d)
    labels[:20] = 0  # so that balancing changes something
    if task in ("single-label", "balanced"):
        targets = Targets.of(labels, "single-label", balanced=task == "balanced")
    else:
        targets = Targets.of(targets_of(task, labels), task)
    x = (features - features.mean(0)) / features.std(0)
    svd = decompose(features, targets.weights)
    centred = x - np.average(x, axis=0, weights=targets.weights)
    unit = (targets.weights[:, None] * centred**2).sum() / 60
    for penalty in (1e-4, 1e-1, 1e2):
        found = ridge_loo(svd, targets, (penalty,)).predictions
        for i in range(60):
            rest = np.arange(60) != i
            expected = refit(x[rest], targets.matrix[rest], targets.weights[rest], penalty * unit, x[i])
            np.testing.assert_allclose(found[i], expected, atol=1e-8)


def test_the_penalty_has_the_lowest_leave_one_out_loss(clusters):
    features, labels = clusters(80, 300, apart=0.3)
    targets = Targets.of(labels, "single-label")
    found = ridge_loo(decompose(features), targets)
    assert found.tried == PENALTIES
    assert found.chosen == PENALTIES[int(np.argmin(found.losses))]
    alone = ridge_loo(decompose(features), targets, (found.chosen,))
    np.testing.assert_allclose(alone.predictions, found.predictions, atol=1e-10)
    assert alone.losses[0] == pytest.approx(((found.predictions - targets.matrix) ** 2).sum(1).mean())


@pytest.mark.parametrize("d", [10, 100])
def test_neither_scale_nor_order_nor_a_constant_column_changes_anything(clusters, d):
    features, labels = clusters(60, d)
    rng = np.random.default_rng(3)
    order = rng.permutation(60)
    changed = np.column_stack([features * np.logspace(-4, 5, d), np.full(60, 0.1)])[order]
    here = ridge_loo(decompose(features), Targets.of(labels, "single-label"))
    there = ridge_loo(decompose(changed), Targets.of(labels[order], "single-label"))
    assert there.chosen == here.chosen
    np.testing.assert_allclose(there.predictions, here.predictions[order], atol=1e-8)
    np.testing.assert_array_equal(there.outcome.correct, here.outcome.correct[order])


@pytest.mark.parametrize("d", [10, 100])
def test_repeated_rows_and_columns_do_not_break_it(clusters, d):
    features, labels = clusters(30, d)
    features, labels = np.tile(features, (2, 2)), np.tile(labels, 2)
    targets = Targets.of(labels, "single-label")
    x = (features - features.mean(0)) / features.std(0)
    found = ridge_loo(decompose(features), targets, (1e-2,)).predictions
    rest = np.arange(60) != 7
    expected = refit(x[rest], targets.matrix[rest], np.ones(59), 1e-2 * (x**2).sum() / 60, x[7])
    np.testing.assert_allclose(found[7], expected, atol=1e-8)


@pytest.mark.parametrize("d", [10, 100])
def test_the_head_is_the_fit_for_raw_features(clusters, d):
    features, labels = clusters(60, d)
    targets = Targets.of(labels, "single-label", balanced=True)
    svd = decompose(features, targets.weights)
    head = ridge_head(svd, targets, 0.3)
    x = (features - features.mean(0)) / features.std(0)
    unit = (targets.weights[:, None] * (x - np.average(x, axis=0, weights=targets.weights)) ** 2).sum() / 60
    expected = np.stack([refit(x, targets.matrix, targets.weights, 0.3 * unit, row) for row in x])
    assert head.weight.shape == (4, d)
    np.testing.assert_allclose(head.predict(features), expected, atol=1e-8)


def test_margins_and_score_agree_with_correct(clusters):
    features, labels = clusters(60, 20, apart=3)
    found = ridge_loo(decompose(features), Targets.of(labels, "single-label"))
    outcome = found.outcome
    assert outcome.score == outcome.correct.mean() > 0.9
    np.testing.assert_array_equal(outcome.correct, outcome.margins > 0)
    # Every class has 15 of 60 images, but 14 of 59 without one of its own.
    shares = np.full((60, 4), 15 / 59)
    shares[np.arange(60), labels] = 14 / 59
    np.testing.assert_array_equal((found.predictions - shares).argmax(1) == labels, outcome.correct)


@pytest.mark.parametrize("balanced", [False, True])
@pytest.mark.parametrize("apart", [0.0, 0.1])
def test_the_score_agrees_with_fresh_images(balanced, apart):
    """Without a correction, leave-one-out favours the other classes and is right less often than by chance."""
    left_out, knn, fresh = [], [], []
    for seed in range(20):
        rng = np.random.default_rng(seed)
        centres = rng.normal(size=(2, 256)) * apart
        labels = rng.permutation(np.repeat([0, 1], [48, 16] if balanced else [32, 32]))
        features = centres[labels] + rng.normal(size=(64, 256))
        targets = Targets.of(labels, "single-label", balanced=balanced)
        svd = decompose(features, targets.weights)
        found = ridge_loo(svd, targets)
        left_out.append(found.outcome.score)
        knn.append(knn_loo(features, targets, (20,)).outcome.score)
        new = rng.normal(size=(500, 256)) + np.repeat(centres, 250, 0)
        right = ridge_head(svd, targets, found.chosen).predict(new).argmax(1) == np.repeat([0, 1], 250)
        fresh.append(right.mean())
    assert np.mean(left_out) == pytest.approx(np.mean(fresh), abs=0.04)
    assert np.mean(knn) > 0.5 - 0.04 + apart


def test_balancing_gives_classes_equal_weight(clusters):
    features, labels = clusters(200, 10, classes=2, apart=0.5)
    rare = np.flatnonzero(labels == 1)[15:]
    features, labels = np.delete(features, rare, 0), np.delete(labels, rare)
    plain, balanced = (
        ridge_loo(decompose(features, t.weights), t).outcome
        for t in (Targets.of(labels, "single-label"), Targets.of(labels, "single-label", balanced=True))
    )
    mean_of_classes = np.mean([balanced.correct[labels == k].mean() for k in (0, 1)])
    assert balanced.score == pytest.approx(mean_of_classes)
    assert balanced.correct[labels == 1].mean() > plain.correct[labels == 1].mean() + 0.2


def test_the_only_image_of_a_class_has_no_weight(clusters):
    features, labels = clusters(60, 20, apart=3)
    labels[5] = 4
    targets = Targets.of(labels, "single-label")
    outcome = ridge_loo(decompose(features), targets).outcome
    assert targets.score_weights[5] == 0
    assert not outcome.correct[5]
    assert outcome.score == np.delete(outcome.correct, 5).mean()


def test_regression_scores_explained_variance(clusters):
    features, _ = clusters(100, 5)
    rng = np.random.default_rng(2)
    y = (features / features.std(0)) @ rng.normal(size=(5, 2)) * 1000 + 5
    targets = Targets.of(np.column_stack([y + rng.normal(size=y.shape) * y.std(0) / 2, np.ones(100)]), "regression")
    outcome = ridge_loo(decompose(features), targets).outcome
    assert 0.7 < outcome.score < 0.9
    assert outcome.correct is None
    assert targets.constant_baseline().mean() == pytest.approx(0)


def test_unusable_targets_and_features_are_errors(clusters):
    features, _ = clusters(60, 5)
    with pytest.raises(DataError, match="1 of 3 classes have two or more"):
        Targets.of(np.array([0, 0, 1, 2]), "single-label")
    with pytest.raises(DataError, match="same targets"):
        Targets.of(np.ones((4, 1)), "regression")
    with pytest.raises(UsageError, match="regression has no classes"):
        Targets.of(np.arange(4)[:, None], "regression", balanced=True)
    features[3, 1] = np.nan
    with pytest.raises(DataError, match="1 of 60 images are not finite"):
        decompose(features)


def test_constant_features_predict_the_mean():
    labels = np.array([0, 0, 0, 1, 1])
    targets = Targets.of(labels, "single-label")
    found = ridge_loo(decompose(np.ones((5, 3), np.float32)), targets)
    np.testing.assert_allclose(found.predictions[0], [0.5, 0.5])
    np.testing.assert_allclose(found.predictions[3], [0.75, 0.25])


def test_shares_are_factors_of_the_standardised_features(clusters):
    features, labels = clusters(60, 20)
    targets = Targets.of(labels, "single-label")
    shares = np.linspace(0.2, 2, 20)
    svd = decompose(features, shares=shares)
    scaled = (features - features.mean(0)) / features.std(0) * shares
    assert np.allclose(svd.rows, scaled)
    tried = ridge_loo(svd, targets)
    head = ridge_head(svd, targets, tried.chosen)
    penalty = tried.chosen * (scaled**2).sum(1).mean()
    expected = refit(scaled, targets.matrix, np.ones(60), penalty, scaled[3])
    assert np.allclose(head.predict(features[3:4])[0], expected)
