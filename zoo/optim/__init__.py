"""Optimizers and learning-rate schedules by name."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from zoo.components import Component, check_params, resolve
from zoo.errors import ZooError

__all__ = ["OPTIMIZERS", "SCHEDULES", "ScheduleComponent", "problems"]

OPTIMIZERS: dict[str, Component] = {
    "adadelta": Component("torch.optim:Adadelta", "Zeiler 2012"),
    "adagrad": Component("torch.optim:Adagrad", "Duchi et al. 2011"),
    "adam": Component("torch.optim:Adam", "Kingma and Ba 2015; weight decay is an L2 term"),
    "adamax": Component("torch.optim:Adamax", "Adam with the infinity norm"),
    "adamw": Component("torch.optim:AdamW", "Adam with decoupled weight decay (Loshchilov and Hutter 2019)"),
    "asgd": Component("torch.optim:ASGD", "averaged SGD (Polyak and Juditsky 1992)"),
    "nadam": Component("torch.optim:NAdam", "Adam with Nesterov momentum (Dozat 2016)"),
    "radam": Component("torch.optim:RAdam", "Adam with a rectified start (Liu et al. 2020)"),
    "rmsprop": Component("torch.optim:RMSprop", "Hinton's lecture 6e"),
    "sgd": Component("torch.optim:SGD", "with momentum 0.9 unless optimizer.params says otherwise", {"momentum": 0.9}),
}


@dataclass(frozen=True)
class ScheduleComponent(Component):
    """`per` says when it is stepped; `length` is the parameter that takes the number of such steps in the run."""

    per: Literal["update", "epoch"] = "epoch"
    length: str | None = None


_LR = "torch.optim.lr_scheduler:"
SCHEDULES: dict[str, ScheduleComponent] = {
    "constant": ScheduleComponent(_LR + "ConstantLR", "the rate stays", {"factor": 1.0}),
    "cosine": ScheduleComponent(
        _LR + "CosineAnnealingLR", "half a cosine to eta_min (Loshchilov and Hutter 2017)", per="update", length="T_max"
    ),
    "exponential": ScheduleComponent(_LR + "ExponentialLR", "times gamma every epoch", {"gamma": 0.9}),
    "linear": ScheduleComponent(
        _LR + "LinearLR",
        "a straight line to 0",
        {"start_factor": 1.0, "end_factor": 0.0},
        per="update",
        length="total_iters",
    ),
    "multistep": ScheduleComponent(_LR + "MultiStepLR", "times gamma at the epochs in milestones"),
    "onecycle": ScheduleComponent(_LR + "OneCycleLR", "up, then down (Smith 2018)", per="update", length="total_steps"),
    "plateau": ScheduleComponent(_LR + "ReduceLROnPlateau", "times factor when train.monitor stops improving"),
    "polynomial": ScheduleComponent(_LR + "PolynomialLR", "(1 - t)^power", per="update", length="total_iters"),
    "step": ScheduleComponent(_LR + "StepLR", "times gamma every step_size epochs"),
}


def problems(
    optimizer: str, optimizer_params: Mapping[str, Any], schedule: str, schedule_params: Mapping[str, Any]
) -> list[str]:
    """What would keep the optimizer or the schedule from being built, one line each."""
    found: list[str] = []
    try:
        factory = resolve(optimizer, OPTIMIZERS, "optimizer")
        given = ["params", "lr", "weight_decay"]
        found += check_params(factory, optimizer_params, given=given, label="optimizer.params")
    except ZooError as e:
        found.append(f"optimizer.name: {e}")
    try:
        factory = resolve(schedule, SCHEDULES, "schedule")
        entry = SCHEDULES.get(schedule)
        given = ["optimizer"]
        if entry is not None and entry.length is not None:
            given.append(entry.length)
        if schedule == "onecycle":
            given.append("max_lr")
        if schedule == "plateau":
            given.append("mode")
        defaults = entry.defaults if entry is not None else {}
        found += check_params(factory, {**defaults, **schedule_params}, given=given, label="schedule.params")
    except ZooError as e:
        found.append(f"schedule.name: {e}")
    return found
