"""Each optimizer, compared with that of torch or timm."""

from __future__ import annotations

import inspect
import json
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from zoo.errors import UsageError
from zoo.optim import OPTIMIZERS, UNSUPPORTED, problems
from zoo.optim.optimizer_names import TIMM_SHARED, TimmOptimizer
from zoo.optim.param_groups import make_optimizer
from zoo.optim.state_dict import load_optimizer_state, optimizer_state

# kron compiles what it computes, for seconds each
SLOW = {"kron", "kronc", "kronw"}
NAMES = [pytest.param(n, marks=pytest.mark.slow) if n in SLOW else n for n in OPTIMIZERS]


def _net() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(1, 3, 3), nn.Flatten(), nn.Linear(12, 4), nn.Linear(4, 2))


def _groups(net: nn.Module, decay: float = 0.1) -> list[dict[str, Any]]:
    whole = [p for p in net.parameters() if p.ndim > 1]
    return [
        {"params": whole, "lr": 0.01, "weight_decay": decay, "name": "head"},
        {"params": [p for p in net.parameters() if p.ndim <= 1], "lr": 0.001, "weight_decay": 0.0, "name": "bias"},
    ]


def _learn(net: nn.Module, optimizer: Optimizer, steps: int = 3, first: int = 0) -> list[Tensor]:
    images = torch.linspace(-1, 1, 64).reshape(4, 1, 4, 4)
    for step in range(first, first + steps):
        torch.manual_seed(step)  # kron draws random numbers
        optimizer.zero_grad(set_to_none=True)
        net(images).square().sum().backward()
        optimizer.step()
    return [p.detach().clone() for p in net.parameters()]


def _by_hand(name: str, groups: list[dict[str, Any]]) -> Any:
    if not isinstance(OPTIMIZERS[name], TimmOptimizer):
        found = getattr(torch.optim, OPTIMIZERS[name].path.partition(":")[2])
        return found(groups, **({"momentum": 0.9} if name == "sgd" else {}))
    from timm.optim import create_optimizer_v2

    return create_optimizer_v2(groups, opt=name, lr=0.01)


def _decay(name: str) -> float:
    return 0.0 if name == "Rprop" else 0.1


@pytest.mark.parametrize("name", NAMES)
def test_three_steps_as_by_hand(name: str) -> None:
    mine, theirs, still = _net(), _net(), _net()
    ours = _learn(mine, make_optimizer(name, _groups(mine, _decay(name)), {}))
    plain = _learn(theirs, _by_hand(name, _groups(theirs, _decay(name))))
    for one, other, start in zip(ours, plain, still.parameters(), strict=True):
        assert torch.equal(one, other)
        assert not torch.equal(one, start)


@pytest.mark.parametrize("name", NAMES)
def test_stopped_and_gone_on_as_if_not(name: str) -> None:
    whole = _net()
    unbroken = _learn(whole, make_optimizer(name, _groups(whole, _decay(name)), {}), 5)
    first, second = _net(), _net()
    optimizer = make_optimizer(name, _groups(first, _decay(name)), {})
    _learn(first, optimizer, 2)
    tensors, values = optimizer_state(optimizer)
    second.load_state_dict(first.state_dict())
    fresh = make_optimizer(name, _groups(second, _decay(name)), {})
    load_optimizer_state(fresh, {k: t.clone() for k, t in tensors.items()}, json.loads(json.dumps(values)))
    for one, other in zip(_learn(second, fresh, 3, first=2), unbroken, strict=True):
        assert torch.equal(one, other)


def test_every_class_of_torch_is_offered_or_refused_with_a_reason() -> None:
    classes = {n for n, c in vars(torch.optim).items() if inspect.isclass(c) and issubclass(c, Optimizer)} - {
        "Optimizer"
    }
    assert classes <= set(OPTIMIZERS) | set(UNSUPPORTED)
    assert not set(OPTIMIZERS) & set(UNSUPPORTED)


def test_every_name_of_timm_is_offered_or_refused_with_a_reason() -> None:
    from timm.optim import list_optimizers

    ours = {n for n, c in OPTIMIZERS.items() if isinstance(c, TimmOptimizer)} | {
        n for n in UNSUPPORTED if n == n.lower()
    }
    assert ours | TIMM_SHARED == set(list_optimizers())


@pytest.mark.parametrize("name", [*UNSUPPORTED, "lookahead_adam"])
def test_unsupported_optimizers_name_an_alternative(name: str) -> None:
    with pytest.raises(UsageError) as e:
        make_optimizer(name, _groups(_net()), {})
    assert name in e.value.message
    assert e.value.hint
    assert problems(name, {}, "cosine", {})[0].startswith("optimizer.name: ")


def test_parameters_reach_the_optimizer() -> None:
    net = _net()
    optimizer = make_optimizer("SGD", _groups(net), {"momentum": 0.8, "nesterov": True})
    assert optimizer.param_groups[1]["nesterov"]
    assert optimizer.param_groups[1]["momentum"] == pytest.approx(0.8)
    assert problems("lamb", {"trust_clop": 1}, "cosine", {}) == [
        "optimizer.params.trust_clop is unknown; did you mean trust_clip?"
    ]


# --- the user's own, by import path ---


def factory(groups: list[dict[str, Any]], lr: float, speed: float = 1.0) -> Optimizer:
    return torch.optim.SGD(groups, lr=lr, momentum=0.5 * speed)


def no_rate(groups: list[dict[str, Any]]) -> Optimizer:
    return torch.optim.Adam(groups)


def forgetful(groups: list[dict[str, Any]], lr: float) -> Optimizer:
    return torch.optim.SGD([p for g in groups for p in g["params"]], lr=lr, weight_decay=0.1)


def no_decay(groups: list[dict[str, Any]], lr: float) -> Optimizer:
    return torch.optim.Rprop(groups, lr=lr)


def nothing(groups: list[dict[str, Any]]) -> None:
    pass


class ScheduleFree(torch.optim.SGD):
    def train(self) -> None: ...
    def eval(self) -> None: ...


class WithClosure(torch.optim.SGD):
    def step(self, closure: Callable[[], float]) -> float:  # type: ignore[override]
        return closure()


@pytest.fixture
def groups() -> list[dict[str, Any]]:
    return _groups(_net())


def test_a_factory_or_class_of_the_user_s(groups: list[dict[str, Any]]) -> None:
    made = make_optimizer(f"{__name__}:factory", groups, {"speed": 0.5})
    assert [g["lr"] for g in made.param_groups] == [0.01, 0.001]
    assert made.param_groups[0]["momentum"] == pytest.approx(0.25)
    assert problems(f"{__name__}:factory", {"spead": 1}, "cosine", {}) == [
        "optimizer.params.spead is unknown; did you mean speed?"
    ]
    assert isinstance(make_optimizer(f"{__name__}:no_rate", groups, {}), torch.optim.Adam)
    assert isinstance(make_optimizer("timm.optim:Lion", groups, {}), Optimizer)


@pytest.mark.parametrize(
    ("name", "said"),
    [
        (f"{__name__}:forgetful", "changed the 2 parameter groups"),
        (f"{__name__}:no_decay", "takes no weight_decay"),
        (f"{__name__}:nothing", "returned a NoneType"),
        (f"{__name__}:ScheduleFree", r"needs calls of its train\(\) and eval\(\)"),
        (f"{__name__}:WithClosure", "closure"),
        (f"{__name__}:NAMES", "is a list"),
        ("torch.optim:LBFGS", "cannot be built"),
        pytest.param(
            "torch.optim:Muon",
            "cannot be built",
            marks=pytest.mark.skipif(not hasattr(torch.optim, "Muon"), reason="torch has it since 2.9"),
        ),
        ("timm.optim:Adahessian", "second derivatives"),
        ("Rprop", "takes no weight_decay"),
    ],
)
def test_an_unusable_one_is_named(name: str, said: str, groups: list[dict[str, Any]]) -> None:
    with pytest.raises(UsageError, match=said):
        make_optimizer(name, groups, {})


def test_invalid_values_are_named(groups: list[dict[str, Any]]) -> None:
    with pytest.raises(UsageError, match="cannot be built"):
        make_optimizer("adamw", groups, {"betas": [2.0, 3.0]})
