"""Each schedule beside torch's own, step by step."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch.optim import SGD, Optimizer
from torch.optim import lr_scheduler as lrs

from zoo.errors import UsageError
from zoo.optim import OPTIMIZERS, SCHEDULES, problems
from zoo.optim.groups import make_optimizer
from zoo.optim.schedules import make_schedule

UPDATES, EPOCHS = 5, 10


def _sgd() -> Optimizer:
    return SGD([torch.nn.Parameter(torch.ones(2))], lr=0.1)


def _ours(name: str, params: dict[str, Any], warmup: float = 0.0, metrics: list[float] | None = None) -> list[float]:
    """The rate at each of the 50 updates."""
    optimizer = _sgd()
    schedule = make_schedule(name, optimizer, params, updates_per_epoch=UPDATES, epochs=EPOCHS, warmup_epochs=warmup)
    rates = []
    for epoch in range(EPOCHS):
        for _ in range(UPDATES):
            rates.append(optimizer.param_groups[0]["lr"])
            optimizer.step()
            schedule.after_update()
        schedule.after_epoch(metrics[epoch] if metrics else 0.0)
    return rates


def _torch(make: Callable[[Optimizer], Any], per: str) -> list[float]:
    optimizer = _sgd()
    scheduler = make(optimizer)
    rates = []
    for _ in range(EPOCHS):
        for _ in range(UPDATES):
            rates.append(optimizer.param_groups[0]["lr"])
            optimizer.step()
            if per == "update":
                scheduler.step()
        if per == "epoch":
            scheduler.step()
    return rates


TOTAL = UPDATES * EPOCHS
CASES: dict[str, tuple[dict[str, Any], Callable[[Optimizer], Any], str]] = {
    "constant": ({}, lambda o: lrs.LambdaLR(o, lambda e: 1.0), "epoch"),
    "cosine": ({"eta_min": 0.01}, lambda o: lrs.CosineAnnealingLR(o, TOTAL, eta_min=0.01), "update"),
    "exponential": ({"gamma": 0.8}, lambda o: lrs.ExponentialLR(o, 0.8), "epoch"),
    "linear": ({}, lambda o: lrs.LambdaLR(o, lambda u: 1 - u / TOTAL), "update"),
    "multistep": ({"milestones": [3, 6], "gamma": 0.1}, lambda o: lrs.MultiStepLR(o, [3, 6], 0.1), "epoch"),
    "onecycle": ({}, lambda o: lrs.OneCycleLR(o, max_lr=0.1, total_steps=TOTAL + 1), "update"),
    "polynomial": ({"power": 2.0}, lambda o: lrs.PolynomialLR(o, TOTAL, 2.0), "update"),
    "step": ({"step_size": 3}, lambda o: lrs.StepLR(o, 3), "epoch"),
}


@pytest.mark.parametrize("name", CASES)
def test_same_rates_as_torch(name: str) -> None:
    params, make, per = CASES[name]
    assert _ours(name, params) == pytest.approx(_torch(make, per), rel=1e-9, abs=1e-12)


def test_every_schedule_is_compared() -> None:
    assert set(CASES) | {"plateau"} == set(SCHEDULES)


def test_plateau_lowers_the_rate_when_the_metric_stops_to_rise() -> None:
    metrics = [0.1, 0.2, 0.3, 0.3, 0.3, 0.3, 0.3, 0.3, 0.3, 0.3]
    rates = _ours("plateau", {"patience": 1, "factor": 0.5}, metrics=metrics)[::UPDATES]
    assert rates == pytest.approx([0.1] * 5 + [0.05] * 2 + [0.025] * 2 + [0.0125])


def test_warm_up_rises_in_a_line_and_then_the_schedule_has_what_is_left() -> None:
    rates = _ours("cosine", {}, warmup=2)
    assert rates[:10] == pytest.approx([0.1 * (i + 1) / 10 for i in range(10)])
    rest = _torch(lambda o: lrs.CosineAnnealingLR(o, 40), "update")[:40]
    assert rates[10:] == pytest.approx(rest)


def test_warm_up_scales_a_schedule_that_steps_by_epochs() -> None:
    assert _ours("step", {"step_size": 1, "gamma": 0.5}, warmup=2)[:12] == pytest.approx(
        [0.1 * (i + 1) / 10 * 0.5 ** (i // 5) for i in range(10)] + [0.025] * 2
    )


@pytest.mark.parametrize("name", SCHEDULES)
def test_state_survives_json_at_every_epoch(name: str) -> None:
    params = CASES[name][0] if name in CASES else {}
    whole = _ours(name, params, warmup=1, metrics=[0.5] * EPOCHS)
    state, optimizer, schedule, rates = "", _sgd(), None, []
    for epoch in range(EPOCHS):
        optimizer = _sgd()  # a new process
        schedule = make_schedule(name, optimizer, params, updates_per_epoch=UPDATES, epochs=EPOCHS, warmup_epochs=1)
        if state:
            schedule.load_state_dict(json.loads(state))
        for _ in range(UPDATES):
            rates.append(optimizer.param_groups[0]["lr"])
            optimizer.step()
            schedule.after_update()
        schedule.after_epoch(0.5)
        state = json.dumps(schedule.state_dict())
        assert epoch < EPOCHS
    assert rates == pytest.approx(whole)


def test_a_warm_up_as_long_as_the_run_is_refused() -> None:
    with pytest.raises(UsageError, match="leaves nothing"):
        _ours("cosine", {}, warmup=10)


def test_problems_names_them_all() -> None:
    found = problems("adamw", {"bets": 1, "lr": 3}, "multistep", {"gama": 1})
    assert found == [
        "optimizer.params.bets is unknown; did you mean betas?",
        "optimizer.params.lr is set by zoo itself",
        "schedule.params.gama is unknown; did you mean gamma?",
        "schedule.params.milestones is required",
    ]
    assert problems("nope", {}, "nopenope", {})[0].startswith("optimizer.name: no optimizer named 'nope'")


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_every_optimizer_moves_as_torch_s_own(name: str) -> None:
    def run(make: Callable[[torch.nn.Parameter], Optimizer]) -> torch.Tensor:
        p = torch.nn.Parameter(torch.tensor([1.0, -2.0, 3.0]))
        optimizer = make(p)
        for _ in range(3):
            optimizer.zero_grad()
            (p**2).sum().backward()
            optimizer.step()
        return p.detach()

    group = lambda p: [{"params": [p], "lr": 0.01, "weight_decay": 0.1, "name": "head"}]
    factory = OPTIMIZERS[name].load()
    extra = {"momentum": 0.9} if name == "sgd" else {}
    ours = run(lambda p: make_optimizer(name, group(p), {}))
    plain = run(lambda p: factory([p], lr=0.01, weight_decay=0.1, **extra))
    assert torch.equal(ours, plain)
    assert not torch.equal(ours, torch.tensor([1.0, -2.0, 3.0]))


def test_an_optimizer_without_weight_decay() -> None:
    group = [{"params": [torch.nn.Parameter(torch.ones(1))], "lr": 0.01, "weight_decay": 0.1, "name": "head"}]
    with pytest.raises(UsageError, match="takes no weight_decay"):
        make_optimizer("torch.optim:Rprop", group, {})
    group[0]["weight_decay"] = 0.0
    assert isinstance(make_optimizer("torch.optim:Rprop", group, {}), torch.optim.Rprop)


def test_bad_values_are_said() -> None:
    group = [{"params": [torch.nn.Parameter(torch.ones(1))], "lr": 0.01, "weight_decay": 0.0, "name": "head"}]
    with pytest.raises(UsageError, match="cannot be built"):
        make_optimizer("adamw", group, {"betas": [2.0, 3.0]})
