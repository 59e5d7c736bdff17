from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from zoo.errors import ModelError
from zoo.training.transfer.l2_sp import L2SP


def _net() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Flatten(), nn.Linear(16, 5), nn.Linear(5, 2))


def _moved(net: nn.Module) -> dict[str, Tensor]:
    """The weights as they are; afterwards the module stands elsewhere."""
    start = {k: v.clone() for k, v in net.state_dict().items()}
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.add_(torch.randn_like(parameter))
    return start


def _plain(net: nn.Module, start: dict[str, Tensor], alpha: float, beta: float) -> Tensor:
    total = torch.zeros(())
    for name, w in net.named_parameters():
        if w.ndim > 1 and w.requires_grad:
            new = name.startswith("4.")
            total = total + (beta / 2 * (w**2).sum() if new else alpha / 2 * ((w - start[name]) ** 2).sum())
    return total


@pytest.mark.parametrize("frozen", [(), ("0.weight",), ("0.weight", "3.weight"), ("4.weight",)])
def test_value_and_gradients_of_a_plain_loop(frozen: tuple[str, ...]) -> None:
    net = _net()
    start = _moved(net)
    penalty = L2SP(net, start, head={"4.weight", "4.bias"}, alpha=0.1, beta=0.01)
    for name in frozen:  # after it was made: gradual unfreezing goes on
        net.get_parameter(name).requires_grad_(False)
    learning = [p for p in net.parameters() if p.requires_grad]
    ours = torch.autograd.grad(3 * penalty(), learning, allow_unused=True)
    expected = torch.autograd.grad(3 * _plain(net, start, 0.1, 0.01), learning, allow_unused=True)
    assert float(penalty().detach()) == pytest.approx(float(_plain(net, start, 0.1, 0.01).detach()), rel=1e-5)
    for a, b in zip(ours, expected, strict=True):
        assert (a is None) == (b is None)
        assert a is None or torch.allclose(a, b, rtol=1e-5, atol=1e-6)


def test_finite_differences() -> None:
    net = _net().double()
    start = _moved(net)
    penalty = L2SP(net, start, head={"4.weight"}, alpha=0.3, beta=0.2)
    weights = [net[3].weight, net[4].weight]
    assert torch.autograd.gradcheck(lambda *_: penalty(), weights)


def test_zero_at_the_start_and_new_parameters() -> None:
    net = _net()
    start = {k: v.clone() for k, v in net.state_dict().items() if not k.startswith("4.")}
    head = float(net[4].weight.detach().square().sum())
    assert float(L2SP(net, start, alpha=5.0, beta=0.2)().detach()) == pytest.approx(0.1 * head, rel=1e-5)
    penalty = L2SP(net, start, alpha=5.0, beta=0.0)
    penalty().backward()
    assert all(p.grad is None or not p.grad.any() for p in net.parameters())
    with torch.no_grad():
        net[3].weight.zero_()  # the start is a copy
    assert float(penalty().detach()) > 0.1


def test_nothing_to_pull() -> None:
    net = _net().requires_grad_(False)
    assert float(L2SP(net, net.state_dict(), alpha=1.0, beta=1.0)()) == 0.0


def test_another_architecture() -> None:
    with pytest.raises(ModelError, match=r"3.weight has shape \(5, 16\), and \(5, 17\)"):
        L2SP(_net(), {"3.weight": torch.zeros(5, 17)}, alpha=1.0, beta=1.0)
