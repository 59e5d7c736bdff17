from __future__ import annotations

import numpy as np
import pytest
from scipy.linalg import null_space
from scipy.optimize import minimize

from zoo.strategy.scores import Targets, decompose, logme


def maximum_evidence(x: np.ndarray, y: np.ndarray) -> float:
    """Maximum log density per image of the centred y, N(0, I/β + XXᵀ/α) on its N − 1 contrasts, by its definition."""
    contrasts = null_space(np.ones((1, len(y))))
    z, gram, n = contrasts.T @ y, contrasts.T @ x @ x.T @ contrasts, len(y) - 1

    def minus(logs: np.ndarray) -> float:
        alpha, beta = np.exp(np.clip(logs, -40, 40))
        covariance = np.eye(n) / beta + gram / alpha
        _, log_determinant = np.linalg.slogdet(covariance)
        return 0.5 * (n * np.log(2 * np.pi) + log_determinant + z @ np.linalg.solve(covariance, z)) / n

    starts = [(a, b) for a in (-2, 4, 10) for b in (0, 3)]
    options = {"xatol": 1e-9, "fatol": 1e-14, "maxiter": 4000}
    return -min(minimize(minus, s, method="Nelder-Mead", options=options).fun for s in starts)


@pytest.mark.parametrize("d", [8, 39, 120])
@pytest.mark.parametrize("apart", [0.0, 0.4, 2.0])
def test_it_is_the_maximum_evidence(clusters, d, apart):
    features, labels = clusters(40, d, classes=3, apart=apart)
    found = logme(decompose(features), Targets.of(labels, "single-label"))
    x = (features - features.mean(0)) / features.std(0)
    expected = [maximum_evidence(x, (labels == k).astype(float)) for k in range(3)]
    np.testing.assert_allclose(found.columns, expected, atol=1e-7)
    assert found.value == pytest.approx(np.mean(expected), abs=1e-7)


@pytest.mark.parametrize("d", [8, 120])
def test_regression_and_its_precisions(clusters, d):
    features, _ = clusters(40, d)
    rng = np.random.default_rng(5)
    x = (features - features.mean(0)) / features.std(0)
    y = 300 * (x @ rng.normal(size=d) / np.sqrt(d) + 0.5 * rng.normal(size=40))
    found = logme(decompose(features), Targets.of(y[:, None], "regression"))
    assert found.columns[0] == pytest.approx(maximum_evidence(x, y / y.std()), abs=1e-7)
    # At the maximum the precisions agree with the fit: n = β‖Xm − y‖² + α‖m‖².
    alpha, beta = found.alpha[0], found.beta[0]
    z = (y - y.mean()) / y.std()
    m = beta * np.linalg.solve(alpha * np.eye(d) + beta * x.T @ x, x.T @ z)
    assert beta * ((x @ m - z) ** 2).sum() + alpha * (m**2).sum() == pytest.approx(39)


@pytest.mark.parametrize("d", [10, 100])
def test_neither_scale_nor_order_changes_it(clusters, d):
    features, labels = clusters(60, d)
    order = np.random.default_rng(3).permutation(60)
    changed = np.column_stack([features * np.logspace(-4, 5, d), np.full(60, 0.1)])[order]
    here = logme(decompose(features), Targets.of(labels, "single-label"))
    there = logme(decompose(changed), Targets.of(labels[order], "single-label"))
    np.testing.assert_allclose(there.columns, here.columns, atol=1e-9)


def test_better_features_and_correct_labels_have_higher_evidence(clusters):
    features, labels = clusters(100, 200, apart=0.5)
    targets = Targets.of(labels, "single-label")
    here = logme(decompose(features), targets).value
    noise = np.random.default_rng(0).normal(size=features.shape) * features.std(0)
    assert here > logme(decompose(features + 2 * noise), targets).value
    shuffled = Targets.of(np.random.default_rng(0).permutation(labels), "single-label")
    assert here > logme(decompose(features), shuffled).value


def test_constant_features_and_absent_labels(clusters):
    features, labels = clusters(40, 5, classes=2)
    with_absent = Targets.of(labels, "single-label", outputs=4)
    found = logme(decompose(features), with_absent)
    assert len(found.columns) == 2
    assert found.value == pytest.approx(logme(decompose(features), Targets.of(labels, "single-label")).value)
    # Half zeros, half ones: density of a normal with their variance.
    variance = 0.25 * 40 / 39
    expected = -0.5 * (np.log(2 * np.pi * variance) + 1)
    assert logme(decompose(np.ones((40, 3))), with_absent).value == pytest.approx(expected)
