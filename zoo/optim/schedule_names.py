"""Names of learning-rate schedules, from torch and timm. Listing them imports neither."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from zoo.registry import RegistryEntry


@dataclass(frozen=True)
class ScheduleComponent(RegistryEntry):
    """interval: when it is stepped. length: the parameter with its number of steps, by default the run's."""

    interval: Literal["step", "epoch"] = "epoch"
    length: str | None = None


_LR = "torch.optim.lr_scheduler:"
_SHORT: dict[str, ScheduleComponent] = {
    "constant": ScheduleComponent(_LR + "ConstantLR", "constant learning rate", {"factor": 1.0}),
    "cosine": ScheduleComponent(
        _LR + "CosineAnnealingLR",
        "half a cosine to eta_min (Loshchilov and Hutter 2017)",
        interval="step",
        length="T_max",
    ),
    "exponential": ScheduleComponent(_LR + "ExponentialLR", "times gamma every epoch", {"gamma": 0.9}),
    "linear": ScheduleComponent(
        _LR + "LinearLR",
        "a straight line to 0",
        {"start_factor": 1.0, "end_factor": 0.0},
        interval="step",
        length="total_iters",
    ),
    "multistep": ScheduleComponent(_LR + "MultiStepLR", "times gamma at the epochs in milestones"),
    "onecycle": ScheduleComponent(
        _LR + "OneCycleLR", "up, then down (Smith 2018)", interval="step", length="total_steps"
    ),
    "plateau": ScheduleComponent(_LR + "ReduceLROnPlateau", "times factor when schedule.monitor stops improving"),
    "polynomial": ScheduleComponent(_LR + "PolynomialLR", "(1 - t)^power", interval="step", length="total_iters"),
    "step": ScheduleComponent(_LR + "StepLR", "times gamma every step_size epochs"),
}

# torch's class names: stepped per epoch as in torch's examples, except the two cyclical ones.
_PER_STEP = ("CyclicLR", "OneCycleLR")
_TORCH: dict[str, ScheduleComponent] = {
    name: ScheduleComponent(_LR + name, text, interval="step" if name in _PER_STEP else "epoch", length=length)
    for name, text, length in (
        ("ChainedScheduler", "all of the schedulers in a list at once", None),
        ("ConstantLR", "times factor until total_iters", "total_iters"),
        ("CosineAnnealingLR", "half a cosine to eta_min in T_max epochs", "T_max"),
        ("CosineAnnealingWarmRestarts", "cosines of T_0, T_0 T_mult … epochs", None),
        ("CyclicLR", "up and down between base_lr and max_lr (Smith 2017)", "step_size_up"),
        ("ExponentialLR", "times gamma every epoch", None),
        ("LambdaLR", "times lr_lambda(epoch), module:function", None),
        ("LinearLR", "a line from start_factor to end_factor in total_iters epochs", "total_iters"),
        ("MultiStepLR", "times gamma at the epochs in milestones", None),
        ("MultiplicativeLR", "times lr_lambda(epoch) more each epoch, module:function", None),
        ("OneCycleLR", "up to max_lr, then down (Smith 2018)", "total_steps"),
        ("PolynomialLR", "(1 - t)^power in total_iters epochs", "total_iters"),
        ("ReduceLROnPlateau", "times factor when schedule.monitor stops improving", None),
        ("SequentialLR", "the schedulers in a list, one after the other at milestones", None),
        ("StepLR", "times gamma every step_size epochs", None),
    )
}

# The factor in timm's train.py; the default of the classes, 1, does not change the learning rate.
_DECAY = {"decay_rate": 0.1}
_TIMM: dict[str, ScheduleComponent] = {
    name: ScheduleComponent(f"timm.scheduler:{name}", text, defaults, length=length)
    for name, text, length, defaults in (
        ("CosineLRScheduler", "cosines with cycles, noise and k-decay", "t_initial", {}),
        ("MultiStepLRScheduler", "times decay_rate at the epochs in decay_t", None, _DECAY),
        ("PlateauLRScheduler", "ReduceLROnPlateau with noise; timm will remove it", None, _DECAY),
        ("PolyLRScheduler", "polynomials with cycles, noise and k-decay", "t_initial", {}),
        ("StepLRScheduler", "times decay_rate every decay_t epochs", None, _DECAY),
        ("TanhLRScheduler", "a hyperbolic tangent from lb to ub", "t_initial", {}),
        ("WSDLRScheduler", "stays, then falls in the last decay_t epochs", "t_initial", {}),
    )
}

SCHEDULES: dict[str, ScheduleComponent] = {**_SHORT, **_TORCH, **_TIMM}
