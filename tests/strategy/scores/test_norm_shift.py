from __future__ import annotations

import numpy as np
import pytest

from zoo.strategy.scores import LayerMoments, norm_shift


def layer(inputs: np.ndarray, mean: float = 0.0, variance: float = 1.0, batches: int = 10) -> LayerMoments:
    """inputs (N, C), in equal batches."""
    parts = np.split(inputs, batches)
    channels = inputs.shape[1]
    return LayerMoments(
        np.full(channels, mean),
        np.full(channels, variance),
        np.array([p.mean(0) for p in parts]),
        np.array([p.var(0) for p in parts]),
    )


def test_it_is_the_kl_divergence_of_two_normals():
    x = np.random.default_rng(0).normal(size=(400, 5))
    x = (x - x.mean(0)) / x.std(0) * 2 + 3  # mean 3, variance 4, exactly
    found = norm_shift([layer(x, mean=1, variance=9)], [40] * 10)
    expected = 0.5 * (np.log(9 / 4) + (4 + 4) / 9 - 1)
    assert found.value == pytest.approx(expected, rel=1e-4)
    assert found.interval.low < expected < found.interval.high


def test_median_over_channels_mean_over_layers():
    x = np.random.default_rng(0).normal(size=(400, 5))
    x = (x - x.mean(0)) / x.std(0)
    scaled = x * [1, 1, 1, 1000, 0]
    found = norm_shift([layer(scaled), layer(x + 2)], [40] * 10)
    assert found.layers == (pytest.approx(0, abs=1e-6), pytest.approx(2, rel=1e-3))
    assert found.value == pytest.approx(1, rel=1e-3)


@pytest.mark.parametrize(("offset", "name"), [(0.0, "none"), (0.9, "mild"), (3.0, "strong"), (np.sqrt(2), "unclear")])
def test_verdicts(offset, name):
    x = np.random.default_rng(0).normal(size=(400, 50)) + offset
    assert norm_shift([layer(x)], [40] * 10).verdict == name


def test_one_batch_has_no_interval_and_a_model_without_batch_norm_no_shift():
    x = np.random.default_rng(0).normal(size=(400, 5)) + 3
    found = norm_shift([layer(x, batches=1)], [400])
    assert found.interval is None
    assert found.verdict == "strong"
    assert norm_shift([], [400]) is None


def test_batches_are_weighted_by_size_and_dead_channels_have_no_shift():
    whole = np.random.default_rng(0).normal(size=(300, 3)) * [1, 5, 0]
    parts = np.split(whole, [50])
    moments = LayerMoments(
        whole.mean(0), whole.var(0), np.array([p.mean(0) for p in parts]), np.array([p.var(0) for p in parts])
    )
    assert norm_shift([moments], [50, 250]).value == pytest.approx(0, abs=1e-12)
