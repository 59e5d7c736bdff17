from __future__ import annotations

import pytest
from torch import nn

from zoo.optim.groups import parameter_groups


def _net() -> tuple[nn.Module, list[tuple[str, list[str]]]]:
    net = nn.Sequential(nn.Conv2d(1, 2, 1), nn.BatchNorm2d(2), nn.Linear(2, 2), nn.Linear(2, 3))
    stages = [
        ("stem", ["0.weight", "0.bias", "1.weight", "1.bias"]),
        ("stage1", ["2.weight", "2.bias"]),
        ("head", ["3.weight", "3.bias"]),
    ]
    return net, stages


def test_rates_decay_from_the_head_backwards() -> None:
    net, stages = _net()
    groups = parameter_groups(net, stages, lr=1.0, layer_decay=0.5, weight_decay=0.1)
    rates = {g["name"].split(",")[0]: g["lr"] for g in groups}
    assert rates == {"stem": 0.25, "stage1": 0.5, "head": 1.0}


def test_the_head_has_a_rate_of_its_own() -> None:
    net, stages = _net()
    rates = {g["name"].split(",")[0]: g["lr"] for g in parameter_groups(net, stages, lr=1.0, head_lr=10.0)}
    assert rates == {"stem": 1.0, "stage1": 1.0, "head": 10.0}


def test_biases_and_norms_are_not_decayed_and_nothing_is_lost() -> None:
    net, stages = _net()
    groups = parameter_groups(net, stages, lr=1.0, weight_decay=0.1)
    decayed = {id(p) for g in groups if g["weight_decay"] == pytest.approx(0.1) for p in g["params"]}
    assert decayed == {id(net[0].weight), id(net[2].weight), id(net[3].weight)}
    assert {id(p) for g in groups for p in g["params"]} == {id(p) for p in net.parameters()}


def test_the_architecture_s_own_exemptions_hold() -> None:
    net, stages = _net()
    net.no_weight_decay = lambda: {"0.weight"}  # type: ignore[assignment]
    groups = parameter_groups(net, stages, lr=1.0, weight_decay=0.1)
    assert not any(p is net[0].weight for g in groups if g["weight_decay"] for p in g["params"])


def test_frozen_parameters_are_left_out() -> None:
    net, stages = _net()
    for name, p in net.named_parameters():
        p.requires_grad_(name.startswith("3"))
    groups = parameter_groups(net, stages, lr=1.0)
    assert [g["name"] for g in groups] == ["head", "head, no decay"]
