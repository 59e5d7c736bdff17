from __future__ import annotations

import pytest
import timm
import torch
from torch import nn
from torch.nn import functional as F

from zoo.errors import ModelError
from zoo.training.ema import ExponentialMovingAverage
from zoo.training.lora import add_lora, merged_state


def _net() -> nn.Module:
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(4, 3), nn.BatchNorm1d(3), nn.Linear(3, 2))
    net.register_buffer("table", torch.tensor([-torch.inf, 1.0]), persistent=False)
    return net


def _steps(net: nn.Module, n: int):
    optimizer = torch.optim.SGD(net.parameters(), lr=0.5)
    for _ in range(n):
        optimizer.zero_grad()
        F.cross_entropy(net(torch.randn(8, 4)), torch.randint(2, (8,))).backward()
        optimizer.step()
        yield


@pytest.mark.parametrize("decay", [0.9, 0.3])
def test_average_of_a_plain_loop(decay: float) -> None:
    net = _net()
    ema = ExponentialMovingAverage(net, decay)
    expected = {k: v.clone() for k, v in net.state_dict().items()}
    for t, _ in enumerate(_steps(net, 20)):
        ema.update(net)
        d = min(decay, (1 + t) / (10 + t))
        for key, value in net.state_dict().items():
            expected[key] = d * expected[key] + (1 - d) * value if value.is_floating_point() else value.clone()
    found = ema.module.state_dict()
    assert all(torch.allclose(found[k], v, atol=1e-6) for k, v in expected.items())
    assert int(found["1.num_batches_tracked"]) == 20
    assert torch.equal(ema.module.table, net.table)  # -inf is not averaged into NaN
    assert not torch.allclose(found["0.weight"], net[0].weight, atol=1e-3)


def test_the_copy_evaluates_and_the_module_is_untouched() -> None:
    net = _net().train()
    ema = ExponentialMovingAverage(net, 0.9)
    before = {k: v.clone() for k, v in net.state_dict().items()}
    for _ in _steps(net, 3):
        now = {k: v.clone() for k, v in net.state_dict().items()}
        ema.update(net)
        assert all(torch.equal(v, now[k]) for k, v in net.state_dict().items())
    assert not ema.module.training
    assert not any(p.requires_grad for p in ema.module.parameters())
    assert all(p.requires_grad for p in net.parameters())
    assert net.training
    assert not torch.equal(net[0].weight, before["0.weight"])


def test_resuming_gives_the_unbroken_average() -> None:
    unbroken = ExponentialMovingAverage(net := _net(), 0.9)
    for t, _ in enumerate(_steps(net, 8)):
        unbroken.update(net)
        if t == 3:
            state = {k: v.clone() for k, v in unbroken.state().items()}
            broken = ExponentialMovingAverage(_net(), 0.9)
            broken.load(state)
        elif t > 3:
            broken.update(net)
    assert broken.num_updates == unbroken.num_updates == 8
    ours, theirs = broken.state(), unbroken.state()
    assert all(torch.equal(ours[k], theirs[k]) for k in theirs)
    with pytest.raises(ModelError, match="does not fit"):
        ExponentialMovingAverage(nn.Linear(2, 2), 0.9).load(state)


def test_with_lora() -> None:
    torch.manual_seed(0)
    net = timm.create_model("test_vit", num_classes=10)
    name = "blocks.0.attn.qkv.weight"
    add_lora(net, [name])
    ema = ExponentialMovingAverage(net, 0.5)
    start = merged_state(net)[name]
    pair = net.blocks[0].attn.qkv.parametrizations.weight[0]
    with torch.no_grad():
        pair.b.normal_()
    ema.update(net)
    mine = ema.module.blocks[0].attn.qkv.parametrizations.weight[0]
    assert torch.allclose(mine.b, 0.9 * pair.b)
    merged = merged_state(ema.module)[name]
    assert not torch.equal(merged, start)
    assert not torch.equal(merged, merged_state(net)[name])
