"""Standardized columns and their shares."""

from __future__ import annotations

import pytest
import torch

from zoo.training.features.standardize import column_shares, standardize


def test_scaled_columns_are_folded_into_the_layer() -> None:
    torch.manual_seed(0)
    features = torch.randn(40, 6) * torch.tensor([1.0, 100.0, 0.01, 1.0, 1.0, 5.0]) + 3
    features[:, 3] = 2.0  # constant
    weight, bias = torch.randn(5, 2, dtype=torch.float64), torch.randn(2, dtype=torch.float64)
    for share in (None, torch.tensor([1.0, 2.0, 3.0, 4.0, 5.0, 6.0])):
        scaled, scaling = standardize(features, torch.float64, share)
        assert scaled.shape == (40, 5)
        assert torch.allclose(scaled.mean(0), torch.zeros(5, dtype=torch.float64), atol=1e-9)
        assert float(scaled.square().sum(1).mean()) == pytest.approx(5)  # whatever the shares: penalties mean the same
        whole, whole_bias = scaling.fold(weight, bias)
        assert whole.shape == (2, 6)
        expected = (scaled @ weight + bias).float()
        assert torch.allclose(torch.nn.functional.linear(features, whole, whole_bias), expected, atol=1e-3)
    used = scaled.std(0, correction=0)
    assert torch.allclose(used / used[0], torch.tensor([1.0, 2.0, 3.0, 5.0, 6.0], dtype=torch.float64))


def test_shares_depend_on_the_size_of_a_group() -> None:
    quarter, half = column_shares([slice(0, 4), slice(4, 20), slice(20, 21)])
    assert half.tolist() == [0.5] * 4 + [0.25] * 16 + [1.0]
    assert torch.allclose(quarter, half.sqrt())
