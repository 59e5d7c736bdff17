"""Each schedule, compared step by step with a plain loop over the class of torch or timm."""

from __future__ import annotations

import inspect
import json
import warnings
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch.optim import SGD, Adagrad, AdamW, Optimizer
from torch.optim import lr_scheduler as lrs

from zoo.errors import RecipeError, UsageError
from zoo.optim import SCHEDULES
from zoo.optim.schedules import make_schedule

UPDATES, EPOCHS = 5, 10
TOTAL = UPDATES * EPOCHS
METRICS = [0.1, 0.2, 0.3, 0.3, 0.3, 0.3, 0.3, 0.3, 0.3, 0.3]

Make = Callable[[Optimizer], Any]


def falling(epoch: int) -> float:
    return 1.0 / (1 + epoch)


def _sgd() -> Optimizer:
    """Two groups, as backbone and head."""
    tensors = [torch.nn.Parameter(torch.ones(2)) for _ in range(2)]
    groups = [{"params": [p], "lr": lr, "name": n} for p, lr, n in zip(tensors, (0.1, 1.0), ("b", "head"), strict=True)]
    return SGD(groups, momentum=0.9)


def _state(optimizer: Optimizer) -> list[float]:
    return [g[k] for g in optimizer.param_groups for k in ("lr", "momentum")]


def _ours(name: str, params: dict[str, Any], warmup: float = 0.0, resume: bool = False) -> list[list[float]]:
    """Rate and momentum of each group at each of the 50 steps. resume: a new process after every epoch."""
    optimizer, schedule, state, seen = _sgd(), None, "", []
    for epoch in range(EPOCHS):
        if schedule is None or resume:
            optimizer = _sgd()
            settings = {"steps_per_epoch": UPDATES, "epochs": EPOCHS, "warmup_epochs": warmup}
            schedule = make_schedule(name, optimizer, params, **settings)
            if state:
                schedule.load_state_dict(json.loads(state))
        for _ in range(UPDATES):
            seen.append(_state(optimizer))
            optimizer.step()
            schedule.after_step()
        schedule.after_epoch(METRICS[epoch])
        state = json.dumps(schedule.state_dict(), allow_nan=False)
    return seen


def _plain(make: Make, per: str) -> list[list[float]]:
    """A loop as in torch's documentation."""
    optimizer = _sgd()
    scheduler = make(optimizer)
    seen = []
    for epoch in range(EPOCHS):
        for update in range(UPDATES):
            seen.append(_state(optimizer))
            optimizer.step()
            if per == "step":
                scheduler.step()
            elif per == "timm" and hasattr(scheduler, "step_update"):
                scheduler.step_update(epoch * UPDATES + update + 1)
        if per == "metric":
            scheduler.step(METRICS[epoch])
        elif per == "timm":
            scheduler.step(epoch + 1, METRICS[epoch])
        elif per == "epoch":
            scheduler.step()
    return seen


def _sequence(o: Optimizer) -> Any:
    return lrs.SequentialLR(o, [lrs.LinearLR(o, 0.1, total_iters=3), lrs.CosineAnnealingLR(o, 7)], [3])


def _timm(name: str, **params: Any) -> Make:
    import timm.scheduler

    return lambda o: getattr(timm.scheduler, name)(o, **params)


HERE = f"{__name__}:falling"
CASES: dict[str, tuple[dict[str, Any], Make, str]] = {
    "constant": ({}, lambda o: lrs.LambdaLR(o, lambda e: 1.0), "epoch"),
    "cosine": ({"eta_min": 0.01}, lambda o: lrs.CosineAnnealingLR(o, TOTAL, eta_min=0.01), "step"),
    "exponential": ({"gamma": 0.8}, lambda o: lrs.ExponentialLR(o, 0.8), "epoch"),
    "linear": ({}, lambda o: lrs.LambdaLR(o, lambda u: 1 - u / TOTAL), "step"),
    "multistep": ({"milestones": [3, 6], "gamma": 0.1}, lambda o: lrs.MultiStepLR(o, [3, 6], 0.1), "epoch"),
    "onecycle": ({}, lambda o: lrs.OneCycleLR(o, max_lr=[0.1, 1.0], total_steps=TOTAL), "step"),
    "plateau": (
        {"patience": 1, "factor": 0.5},
        lambda o: lrs.ReduceLROnPlateau(o, "max", factor=0.5, patience=1),
        "metric",
    ),
    "polynomial": ({"power": 2.0}, lambda o: lrs.PolynomialLR(o, TOTAL, 2.0), "step"),
    "step": ({"step_size": 3}, lambda o: lrs.StepLR(o, 3), "epoch"),
    "ChainedScheduler": (
        {
            "schedulers": [
                {"name": "ConstantLR", "params": {"factor": 0.5, "total_iters": 4}},
                {"name": "ExponentialLR", "params": {"gamma": 0.9}},
            ]
        },
        lambda o: lrs.ChainedScheduler([lrs.ConstantLR(o, 0.5, total_iters=4), lrs.ExponentialLR(o, 0.9)]),
        "epoch",
    ),
    "ConstantLR": ({"factor": 0.5, "total_iters": 4}, lambda o: lrs.ConstantLR(o, 0.5, total_iters=4), "epoch"),
    "CosineAnnealingLR": ({"T_max": 4}, lambda o: lrs.CosineAnnealingLR(o, 4), "epoch"),
    "CosineAnnealingWarmRestarts": (
        {"T_0": 2, "T_mult": 2},
        lambda o: lrs.CosineAnnealingWarmRestarts(o, 2, 2),
        "epoch",
    ),
    "CyclicLR": (
        {"base_lr": 0.01, "max_lr": 0.2, "step_size_up": 4, "mode": "triangular2"},
        lambda o: lrs.CyclicLR(o, 0.01, 0.2, step_size_up=4, mode="triangular2"),
        "step",
    ),
    "ExponentialLR": ({"gamma": 0.7}, lambda o: lrs.ExponentialLR(o, 0.7), "epoch"),
    "LambdaLR": ({"lr_lambda": HERE}, lambda o: lrs.LambdaLR(o, falling), "epoch"),
    "LinearLR": ({"start_factor": 0.2, "total_iters": 6}, lambda o: lrs.LinearLR(o, 0.2, total_iters=6), "epoch"),
    "MultiStepLR": ({"milestones": [2, 2, 7]}, lambda o: lrs.MultiStepLR(o, [2, 2, 7]), "epoch"),
    "MultiplicativeLR": ({"lr_lambda": HERE}, lambda o: lrs.MultiplicativeLR(o, falling), "epoch"),
    "OneCycleLR": ({"max_lr": 0.3}, lambda o: lrs.OneCycleLR(o, max_lr=0.3, total_steps=TOTAL), "step"),
    "PolynomialLR": ({}, lambda o: lrs.PolynomialLR(o, EPOCHS), "epoch"),
    "ReduceLROnPlateau": ({"patience": 2}, lambda o: lrs.ReduceLROnPlateau(o, "max", patience=2), "metric"),
    "SequentialLR": (
        {
            "schedulers": [{"name": "LinearLR", "params": {"start_factor": 0.1}}, {"name": "CosineAnnealingLR"}],
            "milestones": [3],
        },
        _sequence,
        "epoch",
    ),
    "StepLR": ({"step_size": 4, "gamma": 0.5}, lambda o: lrs.StepLR(o, 4, 0.5), "epoch"),
    "CosineLRScheduler": (
        {"lr_min": 0.01, "noise_range_t": [4, 9]},
        _timm("CosineLRScheduler", t_initial=EPOCHS, lr_min=0.01, noise_range_t=[4, 9]),
        "timm",
    ),
    "MultiStepLRScheduler": (
        {"decay_t": [2, 5]},
        _timm("MultiStepLRScheduler", decay_t=[2, 5], decay_rate=0.1),
        "timm",
    ),
    "PlateauLRScheduler": (
        {"patience_t": 1, "noise_range_t": 5},
        _timm("PlateauLRScheduler", patience_t=1, noise_range_t=5, decay_rate=0.1),
        "timm",
    ),
    "PolyLRScheduler": (
        {"t_in_epochs": False, "power": 2.0},
        _timm("PolyLRScheduler", t_initial=TOTAL, power=2.0, t_in_epochs=False),
        "timm",
    ),
    "StepLRScheduler": (
        {"decay_t": 3, "warmup_t": 2},
        _timm("StepLRScheduler", decay_t=3, decay_rate=0.1, warmup_t=2),
        "timm",
    ),
    "TanhLRScheduler": ({}, _timm("TanhLRScheduler", t_initial=EPOCHS), "timm"),
    "WSDLRScheduler": ({"decay_t": 4}, _timm("WSDLRScheduler", t_initial=EPOCHS, decay_t=4), "timm"),
}


@pytest.mark.parametrize("name", CASES)
@pytest.mark.filterwarnings("ignore:PlateauLRScheduler is deprecated")
def test_same_rates_and_momenta_as_a_plain_loop(name: str) -> None:
    params, make, per = CASES[name]
    ours, plain = _ours(name, params), _plain(make, per)
    assert ours == [pytest.approx(row, rel=1e-9, abs=1e-12) for row in plain]
    assert len({tuple(row) for row in ours}) > 1 or name == "constant"


def test_every_schedule_of_the_table_is_compared() -> None:
    assert set(CASES) == set(SCHEDULES)


def test_the_table_holds_every_class_of_torch_and_timm() -> None:
    import timm.scheduler
    from timm.scheduler.scheduler import Scheduler

    mine = [n for n, c in vars(lrs).items() if inspect.isclass(c) and c.__module__ == lrs.__name__ and n[0] != "_"]
    assert {n for n in mine if n != "LRScheduler"} <= set(SCHEDULES)
    theirs = [n for n, c in vars(timm.scheduler).items() if inspect.isclass(c) and issubclass(c, Scheduler)]
    assert set(theirs) <= set(SCHEDULES)
    for entry in SCHEDULES.values():
        entry.load()


@pytest.mark.parametrize("name", CASES)
def test_stopped_after_every_epoch_it_goes_on_exactly(name: str) -> None:
    params = CASES[name][0]
    for warmup in (0.0, 1.4):
        assert _ours(name, params, warmup, resume=True) == _ours(name, params, warmup)


@pytest.mark.parametrize("name", CASES)
def test_warm_up_before_each(name: str) -> None:
    """The factor rises linearly; schedules per epoch run during the warm-up, the others start after it."""
    params, make, per = CASES[name]
    warm = [row[::2] for row in _ours(name, params, warmup=2)]
    rising = [(i + 1) / 10 for i in range(10)]
    if per == "step" or params.get("t_in_epochs") is False:
        start = _ours(name, params)[0][::2]
        assert warm[:10] == [pytest.approx([f * lr for lr in start]) for f in rising]
        assert warm[10] == pytest.approx(start)
        if not {"step_size_up"} & params.keys():  # a length of the run's: the end is where it was, 10 steps shorter
            assert warm[-1][0] < 0.15 * max(row[0] for row in warm)
    else:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)
            plain = [row[::2] for row in _plain(make, per)]
        factors = [*rising, *[1.0] * 40]
        assert warm == [pytest.approx([f * lr for lr in row]) for f, row in zip(factors, plain, strict=True)]


def test_warm_up_then_cosine() -> None:
    rates = [row[0] for row in _ours("cosine", {}, warmup=2)]
    assert rates[:10] == pytest.approx([0.1 * (i + 1) / 10 for i in range(10)])
    optimizer = _sgd()
    scheduler = lrs.CosineAnnealingLR(optimizer, 40)
    for rate in rates[10:]:
        assert rate == pytest.approx(optimizer.param_groups[0]["lr"])
        optimizer.step()
        scheduler.step()


def test_lengths_come_from_the_run_and_are_noted() -> None:
    def notes(name: str, **params: Any) -> str:
        return " ".join(make_schedule(name, _sgd(), params, steps_per_epoch=5, epochs=10, warmup_epochs=1).notes)

    assert "T_max=10" in notes("CosineAnnealingLR")
    assert "T_max" not in notes("CosineAnnealingLR", T_max=3)
    assert "total_steps=45" in notes("OneCycleLR")
    assert "step_size_up=10" in notes("CyclicLR")
    assert "T_max=10" in notes("torch.optim.lr_scheduler:CosineAnnealingLR")
    assert not notes("cosine")
    assert "the same learning rate" in notes("OneCycleLR", max_lr=0.1)
    sequence = {"schedulers": [{"name": "ConstantLR"}, {"name": "OneCycleLR"}], "milestones": [20]}
    assert "total_iters=20" in notes("SequentialLR", **sequence)
    assert "total_steps=25" in notes("SequentialLR", **sequence)
    assert "exceed the 45 steps" in notes("SequentialLR", **{**sequence, "milestones": [60]})


def test_cyclic_fills_its_ends_from_the_groups() -> None:
    rates = [row[::2] for row in _ours("CyclicLR", {})]
    assert rates[0] == pytest.approx([0.025, 0.25])
    assert rates[10] == pytest.approx([0.1, 1.0])


@pytest.mark.parametrize("name", ["OneCycleLR", "CyclicLR", "onecycle"])
def test_momentum_is_cycled_where_there_is_one(name: str) -> None:
    def built(make: Callable[..., Optimizer]) -> tuple[Optimizer, tuple[str, ...]]:
        optimizer = make([torch.nn.Parameter(torch.ones(1))], lr=0.1)
        schedule = make_schedule(name, optimizer, {}, steps_per_epoch=5, epochs=4)
        for _ in range(5):
            optimizer.step()
            schedule.after_step()
        return optimizer, schedule.notes

    adam, _ = built(AdamW)
    assert adam.param_groups[0]["betas"][0] not in (0.9, 0.95)
    plain, notes = built(Adagrad)
    assert any("Adagrad has no momentum" in n for n in notes)
    assert "momentum" not in plain.param_groups[0]


def test_lr_scales_are_applied_last_and_saved() -> None:
    def one() -> tuple[Optimizer, Any]:
        optimizer = _sgd()
        return optimizer, make_schedule("step", optimizer, {"step_size": 1}, steps_per_epoch=1, epochs=5)

    optimizer, schedule = one()
    schedule.set_lr_scales([0.5, 0.25])
    assert _state(optimizer)[::2] == pytest.approx([0.05, 0.25])
    schedule.after_step()
    schedule.after_epoch(0.0)
    assert _state(optimizer)[::2] == pytest.approx([0.005, 0.025])
    again, fresh = one()
    fresh.load_state_dict(json.loads(json.dumps(schedule.state_dict())))
    assert _state(again) == _state(optimizer)
    fresh.set_lr_scales([1.0, 1.0])
    assert _state(again)[::2] == pytest.approx([0.01, 0.1])
    with pytest.raises(ValueError, match="3 factors for 2 groups"):
        fresh.set_lr_scales([1.0] * 3)


def test_the_learning_rate_is_constant_after_the_end() -> None:
    optimizer = _sgd()
    schedule = make_schedule("OneCycleLR", optimizer, {}, steps_per_epoch=2, epochs=2)
    for _ in range(9):
        optimizer.step()
        schedule.after_step()
    assert optimizer.param_groups[0]["lr"] < 1e-5


def test_invalid_schedules_are_refused() -> None:
    with pytest.raises(UsageError, match="not shorter than the run"):
        _ours("cosine", {}, warmup=10)
    with pytest.raises(RecipeError, match=r"schedule.params.step_size is required"):
        _ours("StepLR", {})
    with pytest.raises(UsageError, match="total_steps=20 is shorter than the run of 50 steps"):
        _ours("OneCycleLR", {"total_steps": 20})
    with pytest.raises(RecipeError, match="ReduceLROnPlateau"):
        _ours("SequentialLR", {"schedulers": [{"name": "ReduceLROnPlateau"}], "milestones": []})
    with pytest.raises(UsageError, match="rising milestones"):
        _ours("SequentialLR", {"schedulers": [{"name": "ConstantLR"}] * 2, "milestones": []})
    # torch's and timm's constructors take these
    for name, params in {
        "CosineAnnealingLR": {"T_max": 0},
        "cosine": {"eta_min": "low"},
        "StepLR": {"step_size": "3"},
        "MultiStepLR": {"milestones": 3},
        "WSDLRScheduler": {"decay_t": "4"},
    }.items():
        with pytest.raises(UsageError, match=f"{name}'"):
            make_schedule(name, _sgd(), params, steps_per_epoch=5, epochs=4)
    with pytest.raises(UsageError, match="cannot be built"):
        _ours("LinearLR", {"start_factor": 3.0})
    with pytest.raises(UsageError, match="cannot be built"):
        _ours("CosineLRScheduler", {"t_initial": 0})
    with pytest.raises(
        UsageError, match="cannot be built: float division by zero"
    ):  # the rise ends with the first step
        make_schedule("onecycle", _sgd(), {"pct_start": 0.2}, steps_per_epoch=1, epochs=5)
