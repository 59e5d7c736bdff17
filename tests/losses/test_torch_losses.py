"""The torch losses of the table, compared with torch's classes."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from zoo.losses import make_loss

LOGITS = torch.tensor([[2.0, -1.0, 0.5], [0.0, 1.0, -2.0], [1.0, 1.0, 1.0]])
TARGETS = torch.tensor([0, 2, 1])
LABELS = torch.tensor([[1.0, 0.0, 1.0], [0.0, 0.0, 0.0], [1.0, 1.0, 1.0]])
NUMBERS = torch.tensor([[0.5, -1.0, 3.0], [0.0, 0.2, -4.0], [1.0, 2.0, -1.0]])
SHARES = torch.tensor([[0.7, 0.2, 0.1], [0.0, 0.5, 0.5], [0.0, 0.0, 1.0]])
WEIGHTS = [1.0, 2.0, 0.5]
W = torch.tensor(WEIGHTS)

Case = tuple[str, dict[str, object], Tensor, Callable[[Tensor], Tensor]]
CASES: list[Case] = [
    ("cross_entropy", {}, TARGETS, lambda x: nn.CrossEntropyLoss()(x, TARGETS)),
    (
        "cross_entropy",
        {"weight": WEIGHTS, "label_smoothing": 0.1, "ignore_index": 2},
        TARGETS,
        lambda x: nn.CrossEntropyLoss(W, ignore_index=2, label_smoothing=0.1)(x, TARGETS),
    ),
    ("cross_entropy", {"reduction": "sum"}, TARGETS, lambda x: nn.CrossEntropyLoss(reduction="sum")(x, TARGETS)),
    ("cross_entropy", {"weight": WEIGHTS}, SHARES, lambda x: nn.CrossEntropyLoss(W)(x, SHARES)),
    ("nll", {"weight": WEIGHTS}, TARGETS, lambda x: nn.NLLLoss(W)(x.log_softmax(1), TARGETS)),
    ("kl_div", {}, SHARES, lambda x: nn.KLDivLoss(reduction="batchmean")(x.log_softmax(1), SHARES)),
    ("kl_div", {}, TARGETS, lambda x: nn.CrossEntropyLoss()(x, TARGETS)),
    ("kl_div", {"reduction": "mean"}, SHARES, lambda x: nn.KLDivLoss(reduction="sum")(x.log_softmax(1), SHARES) / 9),
    (
        "multi_margin",
        {"p": 2, "margin": 0.5, "weight": WEIGHTS},
        TARGETS,
        lambda x: nn.MultiMarginLoss(2, 0.5, W)(x, TARGETS),
    ),
    ("bce", {"weight": WEIGHTS}, LABELS, lambda x: nn.BCELoss(W)(x.sigmoid(), LABELS)),
    (
        "bce_with_logits",
        {"weight": WEIGHTS, "pos_weight": [3, 1, 2]},
        LABELS,
        lambda x: nn.BCEWithLogitsLoss(W, pos_weight=torch.tensor([3.0, 1.0, 2.0]))(x, LABELS),
    ),
    ("bce_with_logits", {}, TARGETS, lambda x: nn.BCEWithLogitsLoss()(x, F.one_hot(TARGETS, 3).float())),
    (
        "multilabel_margin",
        {},
        LABELS,
        lambda x: nn.MultiLabelMarginLoss()(x, torch.tensor([[0, 2, -1], [-1, -1, -1], [0, 1, 2]])),
    ),
    (
        "multilabel_soft_margin",
        {"weight": WEIGHTS},
        LABELS,
        lambda x: nn.MultiLabelSoftMarginLoss(W)(x, LABELS),
    ),
    ("soft_margin", {}, LABELS, lambda x: nn.SoftMarginLoss()(x, 2 * LABELS - 1)),
    ("soft_margin", {"reduction": "sum"}, LABELS, lambda x: nn.SoftMarginLoss(reduction="sum")(x, 2 * LABELS - 1)),
    ("l1", {}, NUMBERS, lambda x: nn.L1Loss()(x, NUMBERS)),
    ("mse", {}, NUMBERS, lambda x: nn.MSELoss()(x, NUMBERS)),
    ("mse", {"reduction": "sum"}, NUMBERS, lambda x: nn.MSELoss(reduction="sum")(x, NUMBERS)),
    ("smooth_l1", {"beta": 0.5}, NUMBERS, lambda x: nn.SmoothL1Loss(beta=0.5)(x, NUMBERS)),
    ("huber", {"delta": 2.0}, NUMBERS, lambda x: nn.HuberLoss(delta=2.0)(x, NUMBERS)),
]


@pytest.mark.parametrize(("name", "params", "target", "torch_s"), CASES)
def test_value_and_gradient_are_torch_s(
    name: str, params: dict[str, object], target: Tensor, torch_s: Callable[[Tensor], Tensor]
) -> None:
    ours, theirs = LOGITS.clone().requires_grad_(), LOGITS.clone().requires_grad_()
    value, expected = make_loss(name, params)(ours, target), torch_s(theirs)
    torch.testing.assert_close(value, expected)
    value.backward(), expected.backward()
    torch.testing.assert_close(ours.grad, theirs.grad)


@pytest.mark.parametrize(("name", "params", "target", "torch_s"), CASES)
def test_the_pixels_of_a_mask_count_as_images_do(
    name: str, params: dict[str, object], target: Tensor, torch_s: Callable[[Tensor], Tensor]
) -> None:
    """(3, C) as one image of 3 pixels (1, C, 3, 1)."""
    image = LOGITS.T.reshape(1, 3, 3, 1)
    mask = target.reshape(1, 3, 1) if target.ndim == 1 else target.T.reshape(1, 3, 3, 1)
    torch.testing.assert_close(make_loss(name, params)(image, mask), torch_s(LOGITS))


def test_closed_forms() -> None:
    log_p = LOGITS - LOGITS.exp().sum(1, keepdim=True).log()
    assert make_loss("cross_entropy", {})(LOGITS, TARGETS) == pytest.approx(float(-log_p[range(3), TARGETS].mean()))
    soft = F.one_hot(TARGETS, 3) * 0.9 + 0.1 / 3
    smoothed = make_loss("cross_entropy", {"label_smoothing": 0.1})(LOGITS, TARGETS)
    assert smoothed == pytest.approx(float(-(soft * log_p).sum(1).mean()))
    hinge = (1 - LOGITS[range(3), TARGETS].unsqueeze(1) + LOGITS).clamp(min=0)
    hinge[range(3), TARGETS] = 0
    assert make_loss("multi_margin", {})(LOGITS, TARGETS) == pytest.approx(float((hinge.sum(1) / 3).mean()))
    error = (LOGITS - NUMBERS).abs()
    assert make_loss("l1", {})(LOGITS, NUMBERS) == pytest.approx(float(error.mean()))
    assert make_loss("mse", {})(LOGITS, NUMBERS) == pytest.approx(float(error.pow(2).mean()))
    huber = torch.where(error < 1, error**2 / 2, error - 0.5)
    assert make_loss("huber", {})(LOGITS, NUMBERS) == pytest.approx(float(huber.mean()))
    assert make_loss("smooth_l1", {})(LOGITS, NUMBERS) == pytest.approx(float(huber.mean()))


@pytest.mark.parametrize("name", ["bce_with_logits", "bce", "soft_margin", "multilabel_soft_margin"])
def test_four_names_of_the_binary_cross_entropy(name: str) -> None:
    p = LOGITS.double().sigmoid()
    by_hand = -(LABELS * p.log() + (1 - LABELS) * (1 - p).log()).mean()
    assert make_loss(name, {})(LOGITS, LABELS) == pytest.approx(float(by_hand))


@pytest.mark.parametrize("name", ["cross_entropy", "nll"])
@pytest.mark.parametrize("params", [{}, {"weight": WEIGHTS}])
def test_a_batch_without_any_label_costs_nothing(name: str, params: dict[str, object]) -> None:
    x = LOGITS.clone().requires_grad_()
    value = make_loss(name, {"ignore_index": 255, **params})(x, torch.full((3,), 255))
    value.backward()
    assert value == 0
    assert x.grad is not None
    assert not x.grad.any()


def test_only_examples_of_a_class_that_weighs_nothing() -> None:
    assert make_loss("cross_entropy", {"weight": [0, 1, 1]})(LOGITS, torch.zeros(3, dtype=torch.long)) == 0
