from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch.nn import functional as F

from zoo.errors import UsageError
from zoo.losses import LOSSES, make_loss, problems

LOGITS = torch.tensor([[2.0, -1.0, 0.5], [0.0, 1.0, -2.0], [1.0, 1.0, 1.0]])
TARGETS = torch.tensor([0, 2, 1])


def test_cross_entropy_is_the_closed_form() -> None:
    by_hand = -(LOGITS - LOGITS.exp().sum(1, keepdim=True).log())[range(3), TARGETS].mean()
    assert make_loss("cross_entropy", {})(LOGITS, TARGETS) == pytest.approx(float(by_hand))


def test_label_smoothing_is_the_closed_form() -> None:
    log_p = F.log_softmax(LOGITS, 1)
    soft = F.one_hot(TARGETS, 3) * 0.9 + 0.1 / 3
    expected = -(soft * log_p).sum(1).mean()
    assert make_loss("cross_entropy", {"label_smoothing": 0.1})(LOGITS, TARGETS) == pytest.approx(float(expected))


def test_multi_margin_is_the_closed_form() -> None:
    right = LOGITS[range(3), TARGETS].unsqueeze(1)
    hinge = (1 - right + LOGITS).clamp(min=0)
    hinge[range(3), TARGETS] = 0
    assert make_loss("multi_margin", {})(LOGITS, TARGETS) == pytest.approx(float((hinge.sum(1) / 3).mean()))


@pytest.mark.parametrize("name", LOSSES)
def test_every_loss_pulls_towards_the_target(name: str) -> None:
    logits = torch.zeros(4, 3, requires_grad=True)
    loss = make_loss(name, {})
    loss(logits, torch.tensor([0, 1, 2, 1])).backward()
    assert logits.grad is not None
    assert logits.grad.argmin(1).tolist() == [0, 1, 2, 1]


def test_a_user_s_class_and_function(tmp_path: Path) -> None:
    (tmp_path / "user_losses_a.py").write_text(
        "import torch\n"
        "class Scaled(torch.nn.Module):\n"
        "    def __init__(self, factor=1.0):\n"
        "        super().__init__(); self.factor = factor\n"
        "    def forward(self, output, target):\n"
        "        return self.factor * torch.nn.functional.cross_entropy(output, target)\n"
        "def scaled(output, target, *, factor=1.0):\n"
        "    return factor * torch.nn.functional.cross_entropy(output, target)\n"
        "text = 'no'\n"
    )
    expected = 3 * F.cross_entropy(LOGITS, TARGETS)
    for name in ("Scaled", "scaled"):
        path = f"user_losses_a:{name}"
        assert problems(path, {"factor": 3.0}) == []
        assert make_loss(path, {"factor": 3.0})(LOGITS, TARGETS) == pytest.approx(float(expected))
        assert problems(path, {"faktor": 3.0}) == ["loss.params.faktor is unknown; did you mean factor?"]
    with pytest.raises(UsageError, match="is a str, not a class or a function"):
        make_loss("user_losses_a:text", {})


def test_values_that_a_loss_refuses() -> None:
    assert problems("nope", {})[0].startswith("loss.name: no loss named 'nope'")
    with pytest.raises(UsageError, match="cannot be built"):
        make_loss("multi_margin", {"p": 7})
