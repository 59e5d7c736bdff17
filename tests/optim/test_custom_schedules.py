"""The user's own schedules, by import path."""

from __future__ import annotations

import json
import math
from typing import Any

import numpy as np
import pytest
import torch
from torch.optim import SGD, Optimizer
from torch.optim.lr_scheduler import CosineAnnealingLR, LRScheduler

from zoo.errors import RecipeError, UsageError
from zoo.optim import problems
from zoo.optim.schedules import make_schedule


def third(epoch: int) -> float:
    return 1 / (1 + epoch)


def numpy_factor(t: int, gamma: float) -> Any:
    return np.float32(gamma**t)


def halved_each_epoch(optimizer: Optimizer, epoch: int) -> None:
    """As people write it who change the rate that is there."""
    if epoch:
        for group in optimizer.param_groups:
            group["lr"] *= 0.5


def imagenet(optimizer: Optimizer, epoch: int, lr: float = 0.3) -> None:
    """torch's ImageNet example of 2017: one rate for all."""
    for group in optimizer.param_groups:
        group["lr"] = lr * (0.1 ** (epoch // 2))


def keeps_ratios(optimizer: Optimizer, epoch: int) -> None:
    for group in optimizer.param_groups:
        group["lr"] = group["initial_lr"] * (1 - epoch / 4)
        group["momentum"] = 0.5 + 0.1 * epoch


def vector(epoch: int) -> Any:
    return torch.ones(2)


def not_a_number(epoch: int) -> float:
    return math.nan if epoch == 2 else 1.0


def text(epoch: int) -> Any:
    return "0.1"


def nothing(epoch: int) -> Any:
    return None


def negative(epoch: int) -> float:
    return -0.1


def fails(epoch: int) -> float:
    return [1.0, 0.1][epoch]


def sets_text(optimizer: Optimizer, epoch: int) -> None:
    optimizer.param_groups[1]["lr"] = "0.1"  # type: ignore[assignment]


def three(optimizer: Optimizer, epoch: int, args: Any) -> None:
    pass


class Own(LRScheduler):
    def get_lr(self) -> list[Any]:
        return [lr * 0.5**self.last_epoch for lr in self.base_lrs]


class HalfPeriod(CosineAnnealingLR):
    pass


class Keeps(Own):
    def __init__(self, optimizer: Optimizer) -> None:
        self.what = {"a", "b"}
        super().__init__(optimizer)


class NotANumber(Own):
    def get_lr(self) -> list[Any]:
        return [math.nan if self.last_epoch == 2 else lr for lr in self.base_lrs]


class Vector(Own):
    def get_lr(self) -> list[Any]:
        return [torch.ones(2) for _ in self.base_lrs]


class Int(Own):
    def get_lr(self) -> Any:
        return 3


class FailsLate(Own):
    def get_lr(self) -> list[Any]:
        return [lr / (3 - self.last_epoch) for lr in self.base_lrs]


class NoScheduler:
    def __init__(self, optimizer: Optimizer) -> None:
        pass


not_callable = 3


def _optimizer() -> Optimizer:
    tensors = [torch.nn.Parameter(torch.ones(1)) for _ in range(2)]
    groups = [{"params": [p], "lr": lr, "name": n} for p, lr, n in zip(tensors, (0.1, 1.0), ("b", "head"), strict=True)]
    return SGD(groups, momentum=0.9)


def _run(name: str, params: dict[str, Any] | None = None, *, warmup: float = 0.0, resume: bool = False) -> Any:
    """The groups' rates in each of 4 epochs of 2 updates; the rates at the start of each epoch."""
    optimizer, schedule, state, seen = _optimizer(), None, "", []
    for _ in range(4):
        if schedule is None or resume:
            optimizer = _optimizer()
            schedule = make_schedule(
                f"{__name__}:{name}", optimizer, params or {}, steps_per_epoch=2, epochs=4, warmup_epochs=warmup
            )
            if state:
                schedule.load_state_dict(json.loads(state))
        seen.append([g["lr"] for g in optimizer.param_groups])
        for _ in range(2):
            optimizer.step()
            schedule.after_step()
        schedule.after_epoch(0.0)
        state = json.dumps(schedule.state_dict())
    return seen


def _approx(backbone: list[float], head: list[float]) -> Any:
    return [pytest.approx(row) for row in zip(backbone, head, strict=True)]


def test_a_function_of_the_epoch_is_a_factor_on_every_rate() -> None:
    factors = [1, 1 / 2, 1 / 3, 1 / 4]
    assert _run("third") == _approx([0.1 * f for f in factors], factors)


def test_its_other_parameters_come_from_the_recipe() -> None:
    assert _run("numpy_factor", {"gamma": 0.5}) == _approx([0.1, 0.05, 0.025, 0.0125], [1, 0.5, 0.25, 0.125])


def test_adjust_learning_rate_sets_learning_rates() -> None:
    assert _run("imagenet") == _approx([0.3, 0.3, 0.03, 0.03], [0.3, 0.3, 0.03, 0.03])
    assert _run("imagenet", {"lr": 1.0})[0] == [1.0, 1.0]
    assert _run("keeps_ratios") == _approx([0.1, 0.075, 0.05, 0.025], [1, 0.75, 0.5, 0.25])
    assert _run("halved_each_epoch") == _approx([0.1, 0.05, 0.025, 0.0125], [1, 0.5, 0.25, 0.125])


def test_note_if_all_groups_get_the_same_learning_rate() -> None:
    schedule = make_schedule(f"{__name__}:imagenet", _optimizer(), {}, steps_per_epoch=2, epochs=4)
    assert "head_lr" in schedule.notes[0]


@pytest.mark.parametrize("name", ["third", "imagenet", "halved_each_epoch", "keeps_ratios", "Own", "HalfPeriod"])
def test_warm_up_lies_over_them_and_they_go_on_exactly(name: str) -> None:
    plain, warm = _run(name), _run(name, warmup=2)
    assert warm == [pytest.approx([f * lr for lr in row]) for f, row in zip((1 / 4, 3 / 4, 1, 1), plain, strict=True)]
    assert _run(name, warmup=1.5, resume=True) == _run(name, warmup=1.5)


def test_other_settings_changed_by_a_function_are_saved() -> None:
    optimizer = _optimizer()
    make = lambda o: make_schedule(f"{__name__}:keeps_ratios", o, {}, steps_per_epoch=1, epochs=4)
    schedule = make(optimizer)
    schedule.after_step()
    schedule.after_epoch(0.0)
    again = _optimizer()
    make(again).load_state_dict(json.loads(json.dumps(schedule.state_dict())))
    assert again.param_groups[0]["momentum"] == optimizer.param_groups[0]["momentum"] == pytest.approx(0.6)


def test_a_scheduler_class_is_stepped_per_epoch() -> None:
    assert _run("Own") == _approx([0.1, 0.05, 0.025, 0.0125], [1, 0.5, 0.25, 0.125])
    assert _run("HalfPeriod") == _approx(
        *[[top * (1 + math.cos(math.pi * e / 4)) / 2 for e in range(4)] for top in (0.1, 1.0)]
    )


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("vector", r"vector\(0\) returned a Tensor of shape \(2,\)"),
        ("not_a_number", r"not_a_number\(2\) returned nan"),
        ("text", r"text\(0\) returned a str"),
        ("nothing", r"nothing\(0\) returned a NoneType"),
        ("negative", r"negative\(0\) returned -0.1"),
        ("fails", r"fails\(2\) failed: IndexError"),
        ("sets_text", r"sets_text\(optimizer, 0\) set the learning rate of 'head' to a str"),
        ("three", r"three has 3 parameters without a value \(optimizer, epoch, args\)"),
        ("not_callable", "is a int, not a class or a function"),
        ("NoScheduler", "has no step and no state_dict"),
        ("Keeps", "could not be resumed: Keeps.what is a set"),
        ("NotANumber", "NotANumber' set the learning rate of 'b' to nan"),
        ("Vector", r"Vector' set the learning rate of 'b' to a Tensor of shape \(2,\)"),
        ("Int", "Int' cannot be built: 'int' object is not iterable"),
        ("FailsLate", "FailsLate' failed after epoch 3: ZeroDivisionError"),
    ],
)
def test_an_unusable_one_is_named_before_the_run(name: str, said: str) -> None:
    with pytest.raises(UsageError, match=said):
        _run(name)


def test_functions_for_torch_s_lambda_schedules_are_checked_too() -> None:
    def make(path: Any) -> None:
        make_schedule("LambdaLR", _optimizer(), {"lr_lambda": path}, steps_per_epoch=1, epochs=2)

    make([f"{__name__}:third", f"{__name__}:third"])
    for path, said in (
        (f"{__name__}:text", "returned a str"),
        (f"{__name__}:fals", "has no 'fals'"),
        (3, "import path"),
    ):
        with pytest.raises(UsageError, match=said):
            make(path)


def test_every_problem_of_a_recipe_is_listed() -> None:
    lists = {
        "schedulers": [
            {"name": "cosine"},
            {"nam": "StepLR"},
            {"name": "StepLR", "params": {"gama": 1}},
            {"name": "Step"},
        ]
    }
    found = problems("adamw", {"bets": 1, "lr": 3}, "SequentialLR", lists)
    for said in (
        "optimizer.params.bets is unknown; did you mean betas?",
        "optimizer.params.lr is set by zoo itself",
        "schedule.params.milestones is required",
        "schedulers[0].name: 'cosine' cannot be in a list",
        "schedulers[1]: {'nam': 'StepLR'} is not of the form",
        "schedulers[2].params.gama is unknown; did you mean gamma?",
        "schedulers[2].params.step_size is required",
        "schedulers[3].name: no schedule named 'Step'",
    ):
        assert any(said in line for line in found), said
    assert len(found) == 8
    assert problems("nope", {}, "nopenope", {})[0].startswith("optimizer.name: no optimizer named 'nope'")
    assert problems("adamw", {}, "cosine", {"T_max": 3}) == ["schedule.params.T_max is set by zoo itself"]
    assert problems("adamw", {}, f"{__name__}:third", {"gamma": 3}) == ["schedule.params.gamma is unknown to third"]


def test_all_problems_are_raised_together() -> None:
    with pytest.raises(RecipeError) as e:
        make_schedule("MultiStepLR", _optimizer(), {"gama": 1}, steps_per_epoch=1, epochs=2)
    assert len(e.value.problems) == 2
