"""The learning rate over a run: a schedule, stepped when it wants to be, under a linear warm-up."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from torch.optim import Optimizer

from zoo.errors import RecipeError, UsageError
from zoo.optim.build_schedule import Span, build_stepper
from zoo.optim.schedule_problems import schedule_problems
from zoo.optim.steppers import Stepper

__all__ = ["Schedule", "make_schedule"]

# Beside the rate: what torch's cyclical schedules and users' functions may move in a group.
_SETTINGS = ("momentum", "betas", "weight_decay")


class Schedule:
    """A schedule with warm-up in front.

    Call `after_update()` behind each optimizer step and `after_epoch(metric)` behind each epoch.

    In the first `warmup` updates the rate is the schedule's times (updates done + 1) / warmup: it rises in a straight
    line and reaches the full rate at update `warmup`. A schedule that is stepped per update starts to move when the
    warm-up has ended; one that is stepped per epoch moves at every epoch's end as always. Behind the last update or
    epoch of the run none is stepped: there are no rates to be had there.

    notes: what was decided for the user, a sentence each.
    """

    def __init__(self, optimizer: Optimizer, stepper: Stepper, span: Span, notes: Sequence[str] = ()) -> None:
        self.optimizer = optimizer
        self.stepper = stepper
        self.warmup = span.warmup
        self.notes = tuple(notes)
        self.updates = 0
        self.epochs = 0
        self._steps = span.steps(stepper.per)
        self._full = self._rates()
        self._scales = [1.0] * len(self._full)
        self._apply()

    def after_update(self) -> None:
        self.updates += 1
        if self.stepper.per == "update":
            self._step(self.updates - self.warmup, None)
        self._apply()

    def after_epoch(self, metric: float) -> None:
        """`metric`: the monitored value of the epoch; only the plateau schedules read it."""
        self.epochs += 1
        if self.stepper.per == "epoch":
            self._step(self.epochs, metric)
        self._apply()

    def set_scales(self, scales: Sequence[float]) -> None:
        """A factor for each of the optimizer's groups, on top of everything, from now on (Auto-RGN)."""
        if len(scales) != len(self._scales):
            raise ValueError(f"{len(scales)} factors for {len(self._scales)} groups")
        self._scales = [float(s) for s in scales]
        self._apply()

    def _step(self, count: int, metric: float | None) -> None:
        if not 0 < count < self._steps:
            return
        # torch's schedulers compute the next rate from the present one: take the factors off.
        for group, lr in zip(self.optimizer.param_groups, self._full, strict=True):
            group["lr"] = lr
        self.stepper.step(count, metric)
        self._full = self._rates()

    def _rates(self) -> list[float]:
        return [float(g["lr"]) for g in self.optimizer.param_groups]

    def _apply(self) -> None:
        factor = min(1.0, (self.updates + 1) / self.warmup) if self.warmup else 1.0
        for group, lr, scale in zip(self.optimizer.param_groups, self._full, self._scales, strict=True):
            group["lr"] = lr * factor * scale

    def state_dict(self) -> dict[str, Any]:
        """JSON-able and exact: loaded into a schedule that was made alike, it goes on as this one would."""
        return {
            "updates": self.updates,
            "epochs": self.epochs,
            "full": list(self._full),
            "scales": list(self._scales),
            "groups": [{k: g[k] for k in _SETTINGS if k in g} for g in self.optimizer.param_groups],
            "stepper": self.stepper.state(),
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self.updates = int(state["updates"])
        self.epochs = int(state["epochs"])
        self._full = [float(v) for v in state["full"]]
        self._scales = [float(v) for v in state["scales"]]
        for group, settings in zip(self.optimizer.param_groups, state["groups"], strict=True):
            group.update({k: tuple(v) if isinstance(v, list) else v for k, v in settings.items()})
        count = self.epochs if self.stepper.per == "epoch" else max(self.updates - self.warmup, 0)
        self.stepper.load(state["stepper"], count)
        self._apply()


def make_schedule(
    name: str,
    optimizer: Optimizer,
    params: Mapping[str, Any],
    *,
    updates_per_epoch: int,
    epochs: int,
    warmup_epochs: float = 0.0,
    higher_is_better: bool = True,
) -> Schedule:
    """The schedule `name`: of the table, or module:attribute of a scheduler class or of a function of the epoch.

    Lengths that the user leaves out are the run's, in what the schedule is stepped by: epochs, or the updates that are
    left after the warm-up. higher_is_better: of the metric that `after_epoch` is given.

    Raises UsageError if it cannot be built (RecipeError with all that is wrong in name and params).
    """
    found = schedule_problems(name, params)
    if found:
        raise RecipeError(found, "see docs/optimizers.md")
    span = Span(epochs, updates_per_epoch, round(warmup_epochs * updates_per_epoch))
    if span.warmup >= span.updates:
        raise UsageError(
            f"schedule.warmup_epochs={warmup_epochs:g} leaves nothing of a run of {epochs} epochs",
            "lower schedule.warmup_epochs or raise --epochs",
        )
    before = {float(g["lr"]) for g in optimizer.param_groups}
    stepper, notes = build_stepper(name, optimizer, params, span, higher_is_better)
    try:
        stepper.state()
    except TypeError as e:
        raise UsageError(
            f"schedule {name!r} could not be resumed: {e}, which JSON cannot hold", "return it from no state_dict"
        ) from e
    if len(before) > 1 and len({float(g["lr"]) for g in optimizer.param_groups}) == 1:
        notes.append(f"{name} gives all groups one rate: head_lr, layer_decay and groups' rates do not count")
    return Schedule(optimizer, stepper, span, notes)
