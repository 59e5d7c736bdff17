"""The learning rate over a run: a torch scheduler, stepped when it wants to be, under a linear warm-up."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Any, Literal

from torch.optim import Optimizer
from torch.optim.lr_scheduler import ReduceLROnPlateau

from zoo.components import resolve
from zoo.errors import UsageError
from zoo.optim import SCHEDULES

__all__ = ["Schedule", "make_schedule"]


class Schedule:
    """A torch scheduler with warm-up in front.

    Call `after_update()` behind each optimizer step and `after_epoch(metric)` behind each epoch.

    In the first `warmup` updates the rate is the scheduler's times (updates done + 1) / warmup: it rises in a straight
    line and reaches the full rate at update `warmup`. A per-update scheduler starts to move when the warm-up has ended;
    a per-epoch one moves at every epoch's end as always.
    """

    def __init__(self, optimizer: Optimizer, inner: Any, *, per: Literal["update", "epoch"], warmup: int) -> None:
        self.optimizer = optimizer
        self.inner = inner
        self.per = per
        self.warmup = warmup
        self.updates = 0
        self._full = [g["lr"] for g in optimizer.param_groups]
        self._apply()

    def after_update(self) -> None:
        self.updates += 1
        if self.per == "update" and self.updates > self.warmup:
            self._step_inner(None)
        self._apply()

    def after_epoch(self, metric: float) -> None:
        """`metric`: the monitored value of the epoch; only the plateau schedule reads it."""
        if self.per == "epoch":
            self._step_inner(metric)
            self._apply()

    def _step_inner(self, metric: float | None) -> None:
        # torch's chainable schedulers compute the next rate from the present one: take the warm-up factor off.
        for group, lr in zip(self.optimizer.param_groups, self._full, strict=True):
            group["lr"] = lr
        if isinstance(self.inner, ReduceLROnPlateau):
            self.inner.step(metric if metric is not None else 0.0)
        else:
            self.inner.step()
        self._full = [g["lr"] for g in self.optimizer.param_groups]

    def _apply(self) -> None:
        factor = min(1.0, (self.updates + 1) / self.warmup) if self.warmup else 1.0
        for group, lr in zip(self.optimizer.param_groups, self._full, strict=True):
            group["lr"] = lr * factor

    def state_dict(self) -> dict[str, Any]:
        """JSON-able: non-text keys of the scheduler's own state are kept as pairs."""
        inner = {k: _to_json(v) for k, v in self.inner.state_dict().items()}
        return {"updates": self.updates, "full": list(self._full), "inner": inner}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self.inner.load_state_dict({k: _from_json(v) for k, v in state["inner"].items()})
        self.updates = int(state["updates"])
        self._full = [float(v) for v in state["full"]]
        self._apply()


def _to_json(value: Any) -> Any:
    return {"__pairs__": sorted(value.items())} if isinstance(value, Counter) else value


def _from_json(value: Any) -> Any:
    if isinstance(value, dict) and "__pairs__" in value:
        return Counter(dict(value["__pairs__"]))
    return value


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
    """The schedule `name` (a table's, or module:attribute of a torch scheduler class, stepped per epoch).

    Its length, where it has one, is the number of updates left after the warm-up.

    Raises UsageError if it cannot be built.
    """
    factory = resolve(name, SCHEDULES, "schedule")
    entry = SCHEDULES.get(name)
    warmup = round(warmup_epochs * updates_per_epoch)
    total = updates_per_epoch * epochs
    if warmup >= total:
        raise UsageError(
            f"schedule.warmup_epochs={warmup_epochs:g} leaves nothing of a run of {epochs} epochs",
            "lower schedule.warmup_epochs or raise --epochs",
        )
    settings = dict(entry.defaults) if entry is not None else {}
    settings.update(params)
    if entry is not None and entry.length is not None:
        settings[entry.length] = total - warmup
    if name == "onecycle":
        settings["max_lr"] = [g["lr"] for g in optimizer.param_groups]
        # One more than the updates: the scheduler is stepped once behind the last update too.
        settings["total_steps"] = total - warmup + 1
    if name == "plateau":
        settings["mode"] = "max" if higher_is_better else "min"
    try:
        inner = factory(optimizer, **settings)
    except (TypeError, ValueError) as e:
        raise UsageError(f"schedule {name!r} cannot be built: {e}", "correct schedule.params") from e
    return Schedule(optimizer, inner, per=entry.per if entry is not None else "epoch", warmup=warmup)
