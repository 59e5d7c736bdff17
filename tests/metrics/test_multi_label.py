"""Multi-label metrics and their report compared with scikit-learn."""

from __future__ import annotations

import json
import math
import warnings

import numpy as np
import pytest
import torch
from sklearn import metrics as sk

from zoo.metrics import METRICS, compute, report

NAMES = [name for name, metric in METRICS.items() if "multi-label" in metric.tasks]


@pytest.fixture
def scored() -> tuple[torch.Tensor, torch.Tensor]:
    """250 images of 6 labels, from rare to common, with scores on a coarse scale, so that many are equal."""
    generator = torch.Generator().manual_seed(5)
    targets = (torch.rand(250, 6, generator=generator) < torch.linspace(0.05, 0.7, 6)).float()
    logits = ((torch.randn(250, 6, generator=generator) + 1.5 * targets - 0.7) * 4).round() / 4
    return logits, targets


def test_metrics_agree_with_scikit_learn(scored: tuple[torch.Tensor, torch.Tensor]) -> None:
    logits, targets = scored
    found = compute(NAMES, logits, targets)
    probability, true = logits.double().sigmoid().numpy(), targets.numpy().astype(int)
    chosen = (probability >= 0.5).astype(int)
    assert found["average_precision"] == pytest.approx(sk.average_precision_score(true, probability))
    assert found["micro_average_precision"] == pytest.approx(
        sk.average_precision_score(true, probability, average="micro")
    )
    assert found["auroc"] == pytest.approx(sk.roc_auc_score(true, probability))
    assert found["micro_f1"] == pytest.approx(sk.f1_score(true, chosen, average="micro"))
    assert found["macro_f1"] == pytest.approx(sk.f1_score(true, chosen, average="macro"))
    assert found["subset_accuracy"] == pytest.approx(sk.accuracy_score(true, chosen))
    assert found["hamming_loss"] == pytest.approx(sk.hamming_loss(true, chosen))
    assert found["loss"] == pytest.approx(
        np.mean([sk.log_loss(true[:, k], probability[:, k]) for k in range(6)]), rel=1e-5
    )


def test_calibration_error_equals_a_hand_computed_value() -> None:
    """Four decisions at 0.8, three of them yes: gap 0.05; two at 0.3, none yes: gap 0.3."""
    probability = torch.tensor([[0.8, 0.8, 0.3], [0.8, 0.8, 0.3]])
    targets = torch.tensor([[1.0, 1, 0], [1, 0, 0]])
    expected = (4 * 0.05 + 2 * 0.3) / 6
    assert compute(["ece"], probability.logit(), targets)["ece"] == pytest.approx(expected, abs=1e-6)


def test_report_agrees_with_scikit_learn(scored: tuple[torch.Tensor, torch.Tensor]) -> None:
    logits, targets = scored
    found = report(logits, targets, list("abcdef"), "multi-label")
    true, chosen = targets.numpy().astype(int), (logits >= 0).numpy().astype(int)
    precision, recall, f1, support = sk.precision_recall_fscore_support(true, chosen)
    assert [s.name for s in found.per_label] == list("abcdef")
    assert [s.support for s in found.per_label] == support.tolist()
    np.testing.assert_allclose([s.precision for s in found.per_label], precision)
    np.testing.assert_allclose([s.recall for s in found.per_label], recall)
    np.testing.assert_allclose([s.f1 for s in found.per_label], f1)
    columns = [(true[:, k], logits[:, k].numpy()) for k in range(6)]
    np.testing.assert_allclose([s.auroc for s in found.per_label], [sk.roc_auc_score(*c) for c in columns])
    expected = [sk.average_precision_score(*c) for c in columns]
    np.testing.assert_allclose([s.average_precision for s in found.per_label], expected)
    assert found.average_precision == pytest.approx(np.mean(expected))
    stored = json.loads(json.dumps(found.to_dict()))
    assert stored["task"] == "multi-label"
    assert list(stored["per_label"][0]) == [
        *("label", "support", "precision", "recall", "f1", "average_precision", "auroc")
    ]


def test_labels_without_images_or_in_every_image_are_left_out_of_the_means() -> None:
    logits = torch.tensor([[2.0, 1, -1, 3], [-2, 1, -1, 1], [1, -1, 2, 2]])
    targets = torch.tensor([[1.0, 0, 0, 1], [0, 1, 0, 1], [0, 0, 0, 1]])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = report(logits, targets, "abcd", "multi-label")
    _, b, c, d = found.per_label
    assert (c.support, c.precision, c.recall, c.f1, c.average_precision, c.auroc) == (0, None, None, None, None, None)
    assert (d.average_precision, d.auroc) == (1.0, None)
    assert b.average_precision == pytest.approx(0.5)
    assert found.average_precision == pytest.approx((1 + 0.5 + 1) / 3)
    assert found.auroc == pytest.approx((1 + 0.75) / 2)
    assert found.macro_f1 == pytest.approx((2 / 3 + 2 / 3 + 1) / 3)


def test_without_any_label_scores_are_nan_and_errors_are_numbers() -> None:
    found = compute(NAMES, torch.full((4, 2), -1.0), torch.zeros(4, 2))
    undefined = {"average_precision", "micro_average_precision", "auroc", "micro_f1", "macro_f1"}
    assert {name for name, value in found.items() if math.isnan(value)} == undefined
    assert (found["subset_accuracy"], found["hamming_loss"]) == (1, 0)


def test_a_nan_output_makes_the_mean_nan() -> None:
    logits = torch.randn(6, 3)
    logits[2, 1] = math.nan
    targets = (torch.arange(18).view(6, 3) % 2).float()
    found = compute(["average_precision", "auroc", "loss", "ece"], logits, targets)
    assert all(math.isnan(value) for value in found.values())
    assert report(logits, targets, "abc", "multi-label").to_dict()["average_precision"] is None
