from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from zoo.errors import TrainingError
from zoo.preprocess import Preprocess
from zoo.training.forward_pass import ForwardPass
from zoo.training.inference import Normalize
from zoo.training.transfer.auto_rgn import relative_gradient_norms

CPU = torch.device("cpu")
NORMALIZE = Normalize(Preprocess((3, 8, 8), (0.5,) * 3, (0.25,) * 3))


def _net() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(3, 4, 3),
        nn.BatchNorm2d(4),
        nn.ReLU(),
        nn.Dropout(0.5),
        nn.Flatten(),
        nn.Linear(144, 5),
        nn.Linear(5, 3),
    )


def _batches(n: int = 7) -> list[tuple[Tensor, Tensor]]:
    g = torch.Generator().manual_seed(1)
    draw = lambda high, shape: torch.randint(0, high, shape, generator=g)
    return [(draw(256, (4, 3, 8, 8)).to(torch.uint8), draw(3, (4,))) for _ in range(n)]


def _per_tensor(net: nn.Module) -> torch.optim.Optimizer:
    return torch.optim.Adam([{"params": [p]} for p in net.parameters() if p.requires_grad], lr=0.1)


def _factors(net: nn.Module, optimizer: torch.optim.Optimizer | None = None, **more) -> list[float]:
    forward = ForwardPass(net, NORMALIZE, CPU, more.pop("amp_dtype", None))
    batches, loss = more.pop("batches", _batches()), more.pop("loss", F.cross_entropy)
    return relative_gradient_norms(forward, optimizer or _per_tensor(net), batches, loss, **more)


def _ratios(net: nn.Module, batches: list[tuple[Tensor, Tensor]]) -> Tensor:
    """Mean over the batches of ‖g‖ / ‖w‖, tensor by tensor."""
    net.eval()
    rows = []
    for images, targets in batches:
        net.zero_grad()
        F.cross_entropy(net((images / 255 - 0.5) / 0.25), targets).backward()
        rows.append(torch.stack([p.grad.norm() / p.detach().norm() for p in net.parameters()]))
    net.zero_grad()
    return torch.stack(rows).mean(0)


def test_ratios_of_a_plain_loop_over_five_batches() -> None:
    net = _net()
    with torch.no_grad():
        net[1].bias.fill_(0.1)
    ratios = _ratios(net, _batches()[:5])
    largest = max(r for r, p in zip(ratios, net.parameters(), strict=True) if p.ndim > 1)
    found = torch.tensor(_factors(net))
    assert torch.allclose(found, (ratios / largest).clamp(max=1), rtol=1e-4)
    assert float(found.max()) == 1.0
    assert len(found.unique()) > 4


def test_a_bias_near_zero_does_not_stop_the_others() -> None:
    net = _net()
    with torch.no_grad():
        net[1].bias.fill_(0.1)
    before = _factors(net)
    with torch.no_grad():
        net[6].bias.mul_(1e-6)
    after = _factors(net)
    assert after[-1] == 1.0
    assert after[:-2] == pytest.approx(before[:-2], rel=0.2)


def test_zero_weights_and_tensors_without_gradient() -> None:
    net = _net()  # the batch norm's bias starts at zero
    nn.init.zeros_(net[6].weight)
    assert _factors(net) == [0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 1.0, 1.0]  # nothing passes a head of zeros
    net = _net()
    idle = nn.Parameter(torch.ones(2, 2))
    optimizer = torch.optim.SGD([{"params": [net[0].weight]}, {"params": [idle]}, {"params": [net[6].weight]}], lr=0.1)
    first, rests, last = _factors(net, optimizer)
    assert rests == 0.0
    assert max(first, last) == 1.0


def test_a_group_is_one_long_vector() -> None:
    net = _net()
    joined = torch.optim.SGD([{"params": [net[5].weight, net[6].weight]}, {"params": [net[0].weight]}], lr=0.1)
    net.eval()
    images, targets = _batches()[0]
    F.cross_entropy(net((images / 255 - 0.5) / 0.25), targets).backward()
    norm = lambda tensors: torch.cat([t.flatten() for t in tensors]).norm()
    pair = [net[5].weight, net[6].weight]
    ratio = float(
        (norm([p.grad for p in pair]) / norm(pair) / (net[0].weight.grad.norm() / net[0].weight.norm())).detach()
    )
    head, stem = _factors(net, joined, max_batches=1)
    assert head / stem == pytest.approx(ratio, rel=1e-4)


def test_everything_is_restored() -> None:
    net = _net().train()
    net[1].eval()
    net[0].weight.grad = torch.ones_like(net[0].weight)
    before = {k: v.clone() for k, v in net.state_dict().items()}
    torch.manual_seed(2)
    expected = torch.rand(2)
    torch.manual_seed(2)
    first = _factors(net)
    assert torch.equal(torch.rand(2), expected)
    assert all(torch.equal(v, before[k]) for k, v in net.state_dict().items())
    assert [m.training for m in net] == [True, False, True, True, True, True, True]
    assert torch.equal(net[0].weight.grad, torch.ones_like(net[0].weight))
    assert net[6].weight.grad is None
    assert _factors(net) == first  # without dropout there is no chance in it


def test_targets_and_errors() -> None:
    net = _net()
    assert _factors(net, loss=lambda x, t: F.cross_entropy(x, (t + 1) % 3)) != _factors(net)
    with pytest.raises(TrainingError, match="no training images"):
        _factors(net, batches=[])
    with torch.no_grad():
        net[6].weight.fill_(float("nan"))
    with pytest.raises(TrainingError, match="not finite"):
        _factors(net)
