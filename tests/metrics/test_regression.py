"""Regression metrics and their report compared with scikit-learn."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
import torch
from sklearn import metrics as sk

from zoo.errors import DataError, UsageError
from zoo.metrics import METRICS, better, compute, report

NAMES = [name for name, metric in METRICS.items() if "regression" in metric.tasks]


@pytest.fixture
def scored() -> tuple[torch.Tensor, torch.Tensor]:
    """200 images, three targets on scales from thousandths to thousands."""
    generator = torch.Generator().manual_seed(2)
    scale = torch.tensor([1e-3, 1.0, 5e3])
    targets = (torch.randn(200, 3, generator=generator) + 2) * scale
    return targets + 0.3 * torch.randn(200, 3, generator=generator) * scale, targets


def test_metrics_agree_with_scikit_learn(scored: tuple[torch.Tensor, torch.Tensor]) -> None:
    outputs, targets = scored
    found = compute(NAMES, outputs, targets, task="regression")
    pair = targets.double().numpy(), outputs.double().numpy()
    assert found["mae"] == pytest.approx(sk.mean_absolute_error(*pair))
    assert found["mse"] == found["loss"] == pytest.approx(sk.mean_squared_error(*pair))
    assert found["rmse"] == pytest.approx(sk.root_mean_squared_error(*pair))
    assert found["r2"] == pytest.approx(sk.r2_score(*pair))


def test_report_of_each_target_agrees_with_scikit_learn(scored: tuple[torch.Tensor, torch.Tensor]) -> None:
    outputs, targets = scored
    found = report(outputs, targets, ["a", "b", "c"], "regression")
    pair = targets.double().numpy(), outputs.double().numpy()
    np.testing.assert_allclose([t.mean for t in found.per_target], pair[0].mean(0))
    np.testing.assert_allclose([t.mae for t in found.per_target], np.abs(pair[0] - pair[1]).mean(0))
    each = sk.root_mean_squared_error(*pair, multioutput="raw_values")
    np.testing.assert_allclose([t.rmse for t in found.per_target], each)
    np.testing.assert_allclose([t.r2 for t in found.per_target], sk.r2_score(*pair, multioutput="raw_values"))
    stored = json.loads(json.dumps(found.to_dict()))
    assert stored["per_target"][1]["target"] == "b"
    assert list(stored) == ["task", "images", "mae", "rmse", "r2", "per_target", "classes"]


@pytest.mark.parametrize("constant", [0.1, 1e6 + 0.3, 0.0])
def test_a_constant_target_has_no_r2(constant: float) -> None:
    """0.1 is not an exact float: the mean of many differs from it by a rounding error."""
    targets = torch.tensor([[constant, float(i)] for i in range(7)])
    outputs = targets + 0.5
    found = report(outputs, targets, ["still", "moves"], "regression")
    assert found.per_target[0].r2 is None
    assert found.r2 == found.per_target[1].r2 == pytest.approx(1 - 7 * 0.25 / 28)
    alone = compute(["r2", "mae"], outputs[:, :1], targets[:, :1])
    assert math.isnan(alone["r2"])
    assert alone["mae"] == pytest.approx(0.5, rel=0.1)
    assert report(outputs[:, :1], targets[:, :1], ["still"], "regression").to_dict()["r2"] is None


def test_one_image_has_no_r2() -> None:
    assert math.isnan(compute(["r2"], torch.ones(1, 2), torch.zeros(1, 2))["r2"])


def test_a_nan_output_makes_the_mean_nan() -> None:
    outputs = torch.randn(5, 2)
    outputs[0, 0] = math.nan
    assert all(math.isnan(v) for v in compute(["mae", "rmse", "r2"], outputs, torch.randn(5, 2)).values())


def test_lower_errors_are_better() -> None:
    assert better("rmse", 1, 2)
    assert better("mae", 1, 2)
    assert better("r2", 0.9, 0.8)
    assert not better("r2", math.nan, 0.8)


def test_no_images_and_an_unknown_task_are_errors() -> None:
    with pytest.raises(DataError):
        report(torch.empty(0, 2), torch.empty(0, 2), "ab", "regression")
    with pytest.raises(UsageError, match="regresion"):
        report(torch.ones(2, 2), torch.ones(2, 2), "ab", "regresion")  # type: ignore[call-overload]
