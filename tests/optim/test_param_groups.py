from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from torch import nn
from torch.optim import SGD

from zoo.errors import RecipeError
from zoo.optim.param_groups import (
    NO_DECAY,
    GroupOverride,
    describe_groups,
    group_problems,
    make_optimizer,
    parameter_groups,
)
from zoo.optim.schedules import make_schedule

Stages = list[tuple[str, list[str]]]


def _net() -> tuple[nn.Module, Stages]:
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(1, 2, 1), nn.BatchNorm2d(2), nn.Flatten(), nn.Linear(2, 2), nn.Linear(2, 3))
    stages = [
        ("stem", ["0.weight", "0.bias", "1.weight", "1.bias"]),
        ("stage1", ["3.weight", "3.bias"]),
        ("head", ["4.weight", "4.bias"]),
    ]
    return net, stages


def _rates(groups: list[dict[str, Any]]) -> dict[str, float]:
    return {g["name"].removesuffix(NO_DECAY): g["lr"] for g in groups}


def _settings(net: nn.Module, groups: list[dict[str, Any]]) -> dict[str, tuple[float, float]]:
    """Rate and weight decay of each parameter."""
    names = {id(p): n for n, p in net.named_parameters()}
    found = {names[id(p)]: (g["lr"], g["weight_decay"]) for g in groups for p in g["params"]}
    assert len(found) == sum(len(g["params"]) for g in groups)
    assert len({g["name"] for g in groups}) == len(groups)
    return found


def test_learning_rates_decay_from_the_head_down() -> None:
    net, stages = _net()
    groups = parameter_groups(net, stages, lr=1.0, layer_decay=0.5, weight_decay=0.1)
    assert _rates(groups) == {"stem": 0.25, "stage1": 0.5, "head": 1.0}


def test_the_head_has_its_own_learning_rate() -> None:
    net, stages = _net()
    assert _rates(parameter_groups(net, stages, lr=1.0, head_lr=10.0)) == {"stem": 1.0, "stage1": 1.0, "head": 10.0}


def test_biases_and_norms_are_not_decayed_and_nothing_is_lost() -> None:
    net, stages = _net()
    groups = parameter_groups(net, stages, lr=1.0, weight_decay=0.1)
    decayed = {n for n, (_, decay) in _settings(net, groups).items() if decay}
    assert decayed == {"0.weight", "3.weight", "4.weight"}
    assert {id(p) for g in groups for p in g["params"]} == {id(p) for p in net.parameters()}


def test_the_architecture_s_own_exemptions_hold() -> None:
    net, stages = _net()
    net.no_weight_decay = lambda: {"0.weight"}  # type: ignore[assignment]
    groups = parameter_groups(net, stages, lr=1.0, weight_decay=0.1)
    assert not any(p is net[0].weight for g in groups if g["weight_decay"] for p in g["params"])


def test_frozen_parameters_are_left_out() -> None:
    net, stages = _net()
    for name, p in net.named_parameters():
        p.requires_grad_(name.startswith("4"))
    # a glob of what is frozen is no mistake: the recipe may serve other plans
    groups = parameter_groups(net, stages, lr=1.0, overrides=[GroupOverride(("0.*",), lr=3.0)])
    assert [g["name"] for g in groups] == ["head", "head, no decay"]


def test_the_last_matching_override_wins() -> None:
    net, stages = _net()
    overrides = [
        GroupOverride(("0.*", "3.*"), lr=7.0),
        GroupOverride(("*.bias",), lr_scale=0.5, weight_decay=0.3),
        GroupOverride(("4.*",), weight_decay=0.0),
    ]
    groups = parameter_groups(net, stages, lr=1.0, layer_decay=0.5, weight_decay=0.1, overrides=overrides)
    assert _settings(net, groups) == {
        "0.weight": (7.0, 0.1),
        "0.bias": (0.125, 0.3),
        "1.weight": (0.25, 0.0),
        "1.bias": (0.125, 0.3),
        "3.weight": (7.0, 0.1),
        "3.bias": (0.25, 0.3),
        "4.weight": (1.0, 0.0),
        "4.bias": (0.5, 0.0),
    }
    rates = _rates(groups)  # as the trainer reads them: decay or not, a name stands for one rate
    assert all(rates[g["name"].removesuffix(NO_DECAY)] == g["lr"] for g in groups)
    assert rates["stem (0.*|3.*)"] == pytest.approx(7.0)


def test_a_group_for_each_tensor() -> None:
    net, stages = _net()
    groups = parameter_groups(net, stages, lr=1.0, head_lr=2.0, weight_decay=0.1, per_tensor=True)
    assert [g["name"] for g in groups] == [n for n, _ in net.named_parameters()]
    assert _settings(net, groups) == _settings(
        net, parameter_groups(net, stages, lr=1.0, head_lr=2.0, weight_decay=0.1)
    )


def test_every_glob_that_matches_nothing_is_reported() -> None:
    net, stages = _net()
    overrides = [GroupOverride(("0.*", "7.*"), lr=1.0), GroupOverride(("3.wieght",), lr=1.0)]
    found = group_problems([n for n, _ in net.named_parameters()], overrides)
    assert found[0].startswith("optimizer.groups[0].match: '7.*' matches no parameter")
    assert "did you mean 3.weight" in found[1]
    with pytest.raises(RecipeError) as e:
        parameter_groups(net, stages, lr=1.0, overrides=overrides)
    assert list(e.value.problems) == found


def test_near_names_of_a_glob() -> None:
    names = [f"layer{i}.{j}.conv1.weight" for i in (1, 2) for j in (0, 1)] + ["fc.weight"]
    (problem,) = group_problems(names, [GroupOverride(("layers1.*",), lr=1.0)])
    assert "did you mean layer" in problem
    assert "layer1.0" in problem


def test_the_table_names_numbers_and_sizes() -> None:
    net, stages = _net()
    groups = parameter_groups(net, stages, lr=3e-4, head_lr=1e-3, weight_decay=0.05)
    optimizer = make_optimizer("adamw", groups, {})
    make_schedule("cosine", optimizer, {}, steps_per_epoch=4, epochs=2, warmup_epochs=1)
    rows = describe_groups(optimizer.param_groups)
    assert rows[0] == ("stem", "1", "2", "0.0003", "0.05")
    assert rows[-1] == ("head, no decay", "1", "3", "0.001", "0")
    assert rows == describe_groups(groups)


def test_a_long_table_is_folded() -> None:
    groups = [{"params": [torch.zeros(2)], "lr": i // 2 + 1.0, "name": f"g{i}"} for i in range(100)]
    rows = describe_groups(groups, max_rows=5)
    assert len(rows) == 5
    assert rows[0] == ("g0 … g1", "2", "4", "1", "0")
    assert rows[2] == ("g4 … g95", "92", "184", "3 … 48", "0")
    assert rows[4][0] == "g98 … g99"


def test_learning_rates_weight_decay_and_overrides_equal_a_plain_loop() -> None:
    """Layer decay 0.5, head at 0.2, no decay on vectors, and one conv at its own rate; three steps."""
    torch.manual_seed(1)
    images, targets = torch.randn(6, 1, 1, 1), torch.tensor([0, 1, 2, 0, 1, 2])
    start, stages = _net()
    plain, mine = copy.deepcopy(start), copy.deepcopy(start)
    settings = [
        (plain[0].weight, 0.07, 0.1),
        (plain[0].bias, 0.1 * 0.5**2, 0.0),
        (plain[1].weight, 0.1 * 0.5**2, 0.0),
        (plain[1].bias, 0.1 * 0.5**2, 0.0),
        (plain[3].weight, 0.1 * 0.5, 0.1),
        (plain[3].bias, 0.1 * 0.5, 0.0),
        (plain[4].weight, 0.2, 0.1),
        (plain[4].bias, 0.2, 0.0),
    ]
    by_hand = SGD([{"params": [p], "lr": lr, "weight_decay": wd} for p, lr, wd in settings], momentum=0.9)
    groups = parameter_groups(
        mine, stages, lr=0.1, head_lr=0.2, layer_decay=0.5, weight_decay=0.1,
        overrides=[GroupOverride(("0.weight",), lr=0.07)],
    )  # fmt: skip
    ours = make_optimizer("sgd", groups, {})
    for net, optimizer in ((plain, by_hand), (mine, ours)):
        for _ in range(3):
            optimizer.zero_grad()
            nn.functional.cross_entropy(net(images), targets).backward()
            optimizer.step()
    for name, before in start.named_parameters():
        one = mine.get_parameter(name)
        assert torch.equal(one, plain.get_parameter(name))
        # Batch normalisation takes the bias before it out again: that one has no gradient.
        assert name == "0.bias" or not torch.equal(one, before)
