"""Single-label metrics compared with scikit-learn or a hand-computed value, and the table of metrics."""

from __future__ import annotations

import json
import math
import subprocess
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from sklearn import metrics as sk

from zoo.errors import DataError, UsageError
from zoo.metrics import METRICS, better, compute, higher_is_better, is_fraction, problems, report
from zoo.metrics.statistics import ConfusionMatrix


@pytest.fixture
def scored() -> tuple[torch.Tensor, torch.Tensor]:
    """300 images of 7 classes, about half of them classified correctly."""
    generator = torch.Generator().manual_seed(3)
    targets = torch.randint(0, 7, (300,), generator=generator)
    logits = torch.randn(300, 7, generator=generator)
    logits[torch.arange(300), targets] += 1.2
    return logits, targets


def test_metrics_agree_with_scikit_learn(scored: tuple[torch.Tensor, torch.Tensor]) -> None:
    logits, targets = scored
    found = compute([name for name, metric in METRICS.items() if "single-label" in metric.tasks], logits, targets)
    true, predicted, probability = targets.numpy(), logits.argmax(1).numpy(), logits.double().softmax(1).numpy()
    assert found["top1"] == pytest.approx(sk.accuracy_score(true, predicted))
    assert found["top5"] == pytest.approx(sk.top_k_accuracy_score(true, probability, k=5))
    assert found["loss"] == pytest.approx(sk.log_loss(true, probability), rel=1e-5)
    assert found["balanced_accuracy"] == pytest.approx(sk.balanced_accuracy_score(true, predicted))
    assert found["macro_f1"] == pytest.approx(sk.f1_score(true, predicted, average="macro"))
    assert found["micro_f1"] == pytest.approx(sk.f1_score(true, predicted, average="micro"))
    assert found["auroc"] == pytest.approx(sk.roc_auc_score(true, probability, multi_class="ovr"))
    assert found["average_precision"] == pytest.approx(sk.average_precision_score(true, probability))
    confusion = ConfusionMatrix()
    confusion.update(logits, targets)
    np.testing.assert_array_equal(confusion.counts.numpy(), sk.confusion_matrix(true, predicted))


@pytest.mark.parametrize("k", [1, 2, 3, 6])
def test_top_k_for_any_k(scored: tuple[torch.Tensor, torch.Tensor], k: int) -> None:
    logits, targets = scored
    expected = sk.top_k_accuracy_score(targets, logits, k=k)
    assert compute([f"top{k}"], logits, targets) == {f"top{k}": pytest.approx(expected)}
    assert higher_is_better(f"top{k}")
    assert problems(f"top{k}", "single-label") == []
    assert is_fraction(f"top{k}")


def test_top_k_with_fewer_classes_than_k_is_one(scored: tuple[torch.Tensor, torch.Tensor]) -> None:
    assert compute(["top50"], *scored) == {"top50": 1.0}


def test_classes_without_images_are_left_out_of_the_means() -> None:
    """Class 2 of three has no image: the means are over the other two."""
    logits = torch.tensor([[2.0, 1, 0], [0, 1, 0], [1.5, 0, 2], [0, 3, 0]])
    targets = torch.tensor([0, 1, 0, 1])
    probability = logits.double().softmax(1).numpy()
    found = compute(["auroc", "average_precision"], logits, targets)
    by_class = [(targets.numpy() == c, probability[:, c]) for c in (0, 1)]
    assert found["auroc"] == pytest.approx(np.mean([sk.roc_auc_score(*pair) for pair in by_class]))
    assert found["average_precision"] == pytest.approx(np.mean([sk.average_precision_score(*p) for p in by_class]))


def test_auroc_of_a_single_class_is_nan() -> None:
    assert math.isnan(compute(["auroc"], torch.eye(3), torch.zeros(3, dtype=torch.int64))["auroc"])


def test_report_agrees_with_scikit_learn(scored: tuple[torch.Tensor, torch.Tensor]) -> None:
    logits, targets = scored
    found = report(logits, targets, tuple("abcdefg"))
    precision, recall, f1, support = sk.precision_recall_fscore_support(targets, logits.argmax(1))
    assert [c.support for c in found.per_class] == support.tolist()
    np.testing.assert_allclose([c.precision for c in found.per_class], precision)
    np.testing.assert_allclose([c.recall for c in found.per_class], recall)
    np.testing.assert_allclose([c.f1 for c in found.per_class], f1)
    assert found.top1 == pytest.approx(compute(["top1"], logits, targets)["top1"])
    assert (found.images, found.top5_k) == (300, 5)
    assert json.loads(json.dumps(found.to_dict()))["confusion"] == [list(r) for r in found.confusion]


def test_ece_equals_a_hand_computed_value() -> None:
    """Two images at 0.8, one correct: gap 0.3; two at 0.6, both correct: gap 0.4; each bin holds half."""
    probability = torch.tensor([[0.8, 0.2], [0.8, 0.2], [0.6, 0.4], [0.6, 0.4]])
    targets = torch.tensor([0, 1, 0, 0])
    assert compute(["ece"], probability.log(), targets)["ece"] == pytest.approx(0.35, abs=1e-6)


def test_ece_of_certain_correct_predictions_is_zero() -> None:
    logits = torch.eye(3) * 1000
    assert compute(["ece"], logits, torch.arange(3))["ece"] == 0


def test_top5_with_few_classes_uses_all_of_them() -> None:
    logits, targets = torch.randn(8, 3), torch.randint(0, 3, (8,))
    assert compute(["top5"], logits, targets) == {"top5": 1.0}
    assert report(logits, targets, "abc").top5_k == 3


def test_scores_of_a_class_without_images_are_none() -> None:
    """Class c has no image but was predicted once; class b is never predicted."""
    predicted = torch.tensor([0, 0, 2, 0])
    targets = torch.tensor([0, 0, 0, 1])
    logits = torch.nn.functional.one_hot(predicted, 3).float()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = report(logits, targets, ("a", "b", "c"))
    a, b, c = found.per_class
    assert (a.precision, a.recall) == (pytest.approx(2 / 3), pytest.approx(2 / 3))
    assert (b.precision, b.recall, b.f1, b.support) == (None, 0.0, 0.0, 1)
    assert (c.precision, c.recall, c.f1, c.support) == (None, None, None, 0)
    assert found.balanced_accuracy == pytest.approx((2 / 3 + 0) / 2)
    assert found.macro_f1 == pytest.approx((2 / 3 + 0) / 2)


def test_nan_stays_nan_and_becomes_null_in_json() -> None:
    logits = torch.full((2, 3), float("nan"))
    found = report(logits, torch.tensor([0, 1]), "abc")
    assert math.isnan(found.loss)
    assert math.isnan(found.ece)
    assert found.to_dict()["loss"] is None


def test_no_images_is_an_error() -> None:
    with pytest.raises(DataError):
        compute(["top1"], torch.empty(0, 3), torch.empty(0, dtype=torch.int64))
    with pytest.raises(DataError):
        report(torch.empty(0, 3), torch.empty(0, dtype=torch.int64), "abc")


@pytest.mark.parametrize(
    ("name", "new", "old", "expected"),
    [
        ("top1", 0.9, 0.8, True),
        ("top1", 0.8, 0.8, False),
        ("loss", 0.2, 0.3, True),
        ("loss", 0.3, 0.2, False),
        ("ece", 0.1, 0.2, True),
        ("top1", 0.0, None, True),
        ("top1", float("nan"), 0.1, False),
        ("loss", 9.0, float("nan"), True),
    ],
)
def test_better(name: str, new: float, old: float | None, expected: bool) -> None:
    assert better(name, new, old) is expected


def test_unknown_name_suggests_known_ones() -> None:
    with pytest.raises(UsageError) as e:
        compute(["top_1"], torch.zeros(1, 2), torch.zeros(1, dtype=torch.int64))
    assert "top1" in e.value.hint
    with pytest.raises(UsageError):
        higher_is_better("nothing")


@pytest.fixture
def own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """The name of a module with valid and invalid metrics of the user."""
    (tmp_path / "own_metrics_for_test.py").write_text(
        "def wrong(logits, targets):\n    return (logits.argmax(1) != targets).float().mean()\n"
        "wrong.higher_is_better = False\n"
        "def count(logits, targets):\n    return int((logits.argmax(1) != targets).sum())\n"
        "def vector(logits, targets):\n    return logits[0]\n"
        "def text(logits, targets):\n    return 'good'\n"
        "def nothing(logits, targets):\n    pass\n"
        "def undefined(logits, targets):\n    return float('nan')\n"
        "def one(logits):\n    return 1.0\n"
        "number = 3\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    yield "own_metrics_for_test"
    sys.modules.pop("own_metrics_for_test", None)


def test_custom_metric_by_import_path(own: str) -> None:
    name = f"{own}:wrong"
    outputs, targets = torch.eye(2), torch.tensor([0, 0])
    assert compute([name, f"{own}:count"], outputs, targets) == {name: 0.5, f"{own}:count": 1.0}
    assert better(name, 0.1, 0.2)
    assert problems(name, "single-label") == problems(name, "regression") == []
    assert not is_fraction(name)


@pytest.mark.parametrize(
    ("function", "message"),
    [
        ("vector", r"returned shape \(2,\)"),
        ("text", "returned a str"),
        ("nothing", "returned a NoneType"),
        ("undefined", "returned NaN"),
        ("one", r"failed on outputs \(2, 2\) and targets \(2,\): TypeError"),
    ],
)
def test_custom_metric_that_returns_no_number_is_an_error(own: str, function: str, message: str) -> None:
    with pytest.raises(UsageError, match=f"own_metrics_for_test:{function} {message}"):
        compute([f"{own}:{function}"], torch.eye(2), torch.tensor([0, 0]))


@pytest.mark.parametrize(
    ("name", "task", "message"),
    [
        ("top1", "single-label", None),
        ("loss", "regression", None),
        ("average_precision", "multi-label", None),
        ("top_1", "single-label", "did you mean top1"),
        ("top0", "single-label", "no metric named 'top0'"),
        ("rmsee", "regression", "did you mean rmse"),
        ("top3", "regression", "is a metric for single-label; metrics for regression: loss, mae"),
        ("rmse", "multi-label", "is a metric for regression"),
        ("no_such_module:f", "single-label", "no module named 'no_such_module'"),
        ("own_metrics_for_test:wrongg", "single-label", "did you mean wrong"),
        ("own_metrics_for_test:number", "single-label", "is a int, not a function"),
    ],
)
def test_problems_of_a_monitored_metric(own: str, name: str, task: str, message: str | None) -> None:
    found = problems(name, task)
    assert len(found) == (message is not None)
    assert message is None or message in found[0]


def test_every_name_has_a_function() -> None:
    """Every name of the table has a function, and perfect outputs get its best value."""
    for task, outputs, targets in (
        ("single-label", torch.eye(3), torch.arange(3)),
        ("multi-label", 4 * torch.eye(3) - 2, torch.eye(3)),
        ("regression", torch.eye(3), torch.eye(3)),
    ):
        names = [name for name, metric in METRICS.items() if task in metric.tasks]
        found = compute(names, outputs, targets, task=task)
        assert list(found) == names
        assert all(math.isfinite(v) for v in found.values())
        for name in names:
            assert (found[name] == 1) == METRICS[name].higher_is_better, "these outputs are perfect"


def test_the_table_imports_no_torch() -> None:
    code = "import sys, zoo.metrics; sys.exit(any(m in sys.modules for m in ('torch', 'numpy', 'sklearn')))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
