"""The learning rate over a run: a schedule with a linear warm-up."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch.optim import Optimizer

from zoo.errors import RecipeError, UsageError
from zoo.optim.custom_schedules import USER_ERRORS, check_lrs
from zoo.optim.schedule_factory import RunLength, build_adapter
from zoo.optim.schedule_names import SCHEDULES
from zoo.optim.schedule_validation import schedule_kind, schedule_problems
from zoo.optim.scheduler_adapters import SchedulerAdapter
from zoo.registry import resolve


class DummyOptimizer(Optimizer):
    """The parameter groups of another optimizer, without its parameters."""

    def __init__(self, of: Optimizer) -> None:
        groups = [
            {**{k: v for k, v in group.items() if k != "params"}, "params": [torch.zeros(())]}
            for group in of.param_groups
        ]
        super().__init__(groups, dict(of.defaults))

    def step(self, closure: Callable[[], Any] | None = None) -> None:  # type: ignore[override]
        """No step."""


# Besides the learning rate: settings that torch's cyclical schedules and users' functions may change.
_GROUP_KEYS = ("momentum", "betas", "weight_decay")

# Steps that are tried before a run: enough to find errors, and fast.
_DRY_RUN_STEPS = 200


class Schedule:
    """A schedule with warm-up; call `after_step()` after each optimizer step and `after_epoch(metric)` after each
    epoch.

    During the first `warmup` steps the learning rate is the schedule's times (steps done + 1) / warmup. A schedule per
    step starts after the warm-up; one per epoch steps after every epoch. The last step of a run does not step it.

    notes: choices made for the user, a sentence each.
    """

    def __init__(
        self, optimizer: Optimizer, adapter: SchedulerAdapter, span: RunLength, *, name: str, notes: Sequence[str] = ()
    ) -> None:
        self.optimizer = optimizer
        self.name = name
        self.adapter = adapter
        self.warmup = span.warmup
        self.notes = tuple(notes)
        self.optimizer_steps = 0
        self.epochs = 0
        self._steps = span.steps(adapter.interval)
        self._base_lrs = self._current_lrs()
        self._lr_scales = [1.0] * len(self._base_lrs)
        self._apply()

    def after_step(self) -> None:
        self.optimizer_steps += 1
        if self.adapter.interval == "step":
            self._step(self.optimizer_steps - self.warmup, None)
        self._apply()

    def after_epoch(self, metric: float) -> None:
        """`metric`: the monitored value of the epoch; only the plateau schedules read it."""
        self.epochs += 1
        if self.adapter.interval == "epoch":
            self._step(self.epochs, metric)
        self._apply()

    def set_lr_scales(self, scales: Sequence[float]) -> None:
        """An additional factor for each parameter group from now on (Auto-RGN)."""
        if len(scales) != len(self._lr_scales):
            raise ValueError(f"{len(scales)} factors for {len(self._lr_scales)} groups")
        self._lr_scales = [float(s) for s in scales]
        self._apply()

    def _step(self, count: int, metric: float | None) -> None:
        if not 0 < count < self._steps:
            return
        # torch's schedulers compute the next value from the current one: remove the factors.
        for group, lr in zip(self.optimizer.param_groups, self._base_lrs, strict=True):
            group["lr"] = lr
        try:
            self.adapter.step(count, metric)
        except USER_ERRORS as e:
            raise UsageError(
                f"schedule {self.name!r} failed after {self.adapter.interval} {count}: {type(e).__name__}: {e}",
                "correct it, or schedule.params",
            ) from e
        self._base_lrs = self._current_lrs()

    def _current_lrs(self) -> list[float]:
        return check_lrs(self.optimizer, f"schedule {self.name!r}")

    def _apply(self) -> None:
        factor = min(1.0, (self.optimizer_steps + 1) / self.warmup) if self.warmup else 1.0
        for group, lr, scale in zip(self.optimizer.param_groups, self._base_lrs, self._lr_scales, strict=True):
            group["lr"] = lr * factor * scale

    def state_dict(self) -> dict[str, Any]:
        """JSON-able and exact, for a schedule built in the same way."""
        return {
            "updates": self.optimizer_steps,
            "epochs": self.epochs,
            "base_lrs": list(self._base_lrs),
            "scales": list(self._lr_scales),
            "groups": [{k: g[k] for k in _GROUP_KEYS if k in g} for g in self.optimizer.param_groups],
            "adapter": self.adapter.state(),
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self.optimizer_steps = int(state["updates"])
        self.epochs = int(state["epochs"])
        self._base_lrs = [float(v) for v in state["base_lrs"]]
        self._lr_scales = [float(v) for v in state["scales"]]
        for group, settings in zip(self.optimizer.param_groups, state["groups"], strict=True):
            group.update({k: tuple(v) if isinstance(v, list) else v for k, v in settings.items()})
        count = self.epochs if self.adapter.interval == "epoch" else max(self.optimizer_steps - self.warmup, 0)
        self.adapter.load(state["adapter"], count)
        self._apply()


def make_schedule(
    name: str,
    optimizer: Optimizer,
    params: Mapping[str, Any],
    *,
    steps_per_epoch: int,
    epochs: int,
    warmup_epochs: float = 0.0,
    higher_is_better: bool = True,
) -> Schedule:
    """The schedule `name`: from the table, or module:attribute of a scheduler class or of a function of the epoch.

    Lengths that are not given are the run's, in epochs or in steps after the warm-up. higher_is_better: of the metric
    for `after_epoch`. Raises UsageError if it cannot be built, RecipeError with all problems of name and params.
    """
    found = schedule_problems(name, params)
    if found:
        raise RecipeError(found, "see docs/optimizers.md")
    span = RunLength(epochs, steps_per_epoch, round(warmup_epochs * steps_per_epoch))
    if span.warmup >= span.optimizer_steps:
        raise UsageError(
            f"schedule.warmup_epochs={warmup_epochs:g} is not shorter than the run of {epochs} epochs",
            "lower schedule.warmup_epochs or raise --epochs",
        )
    found = resolve(name, SCHEDULES, "schedule")
    if schedule_kind(found) != "function":  # functions are checked when called
        _dry_run(_build(name, DummyOptimizer(optimizer), params, span, higher_is_better), span)
    return _build(name, optimizer, params, span, higher_is_better)


def _build(
    name: str, optimizer: Optimizer, params: Mapping[str, Any], span: RunLength, higher_is_better: bool
) -> Schedule:
    before = {float(g["lr"]) for g in optimizer.param_groups}
    adapter, notes = build_adapter(name, optimizer, params, span, higher_is_better)
    lrs = check_lrs(optimizer, f"schedule {name!r}")
    try:
        adapter.state()
    except TypeError as e:
        raise UsageError(
            f"schedule {name!r} could not be resumed: {e}, which JSON cannot hold", "leave it out of state_dict()"
        ) from e
    if len(before) > 1 and len(set(lrs)) == 1:
        notes.append(f"{name} gives all groups the same learning rate: head_lr, layer_decay and groups have no effect")
    return Schedule(optimizer, adapter, span, name=name, notes=notes)


def _dry_run(schedule: Schedule, span: RunLength) -> None:
    """Go through all epochs, or the first steps, to find errors before the run."""
    schedule.optimizer.step()  # torch's schedulers expect a step of the optimizer before theirs
    interval = schedule.adapter.interval
    for count in range(1, span.steps(interval) if interval == "epoch" else min(span.steps(interval), _DRY_RUN_STEPS)):
        schedule._step(count, 0.0)
