"""One interface for schedulers of torch and timm and for a user's functions."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal, Protocol

from torch.optim import Optimizer
from torch.optim.lr_scheduler import ReduceLROnPlateau

from zoo.optim.custom_schedules import call_adjust_function, check_factor
from zoo.optim.state_dict import from_json, to_json

StepInterval = Literal["step", "epoch"]


class SchedulerAdapter(Protocol):
    """Sets the learning rates of the groups, which still hold the values that it set last."""

    interval: StepInterval

    def step(self, count: int, metric: float | None) -> None:
        """After `count` steps. metric: the monitored value of the epoch, None between epochs."""

    def state(self) -> Any:
        """JSON-able. Raises TypeError for a value that JSON cannot hold."""

    def load(self, state: Any, count: int) -> None:
        """Restore `state`, saved after `count` steps."""


class TorchAdapter:
    """A torch.optim.lr_scheduler, or a user's class with the same methods."""

    def __init__(self, scheduler: Any, interval: StepInterval) -> None:
        self.scheduler = scheduler
        self.interval = interval

    def step(self, count: int, metric: float | None) -> None:
        with warnings.catch_warnings():
            if count == 1:
                # torch warns about the order of calls if the loss scaler skips the first steps (fp16).
                warnings.filterwarnings("ignore", "Detected call of `lr_scheduler.step", UserWarning)
            if isinstance(self.scheduler, ReduceLROnPlateau):
                self.scheduler.step(0.0 if metric is None else metric)
            else:
                self.scheduler.step()

    def state(self) -> Any:
        return to_json(self.scheduler.state_dict(), type(self.scheduler).__name__)

    def load(self, state: Any, count: int) -> None:
        self.scheduler.load_state_dict(from_json(state))


class TimmAdapter:
    """A timm.scheduler: a function of the epoch or step, without state except for plateau."""

    def __init__(self, scheduler: Any) -> None:
        self.scheduler = scheduler
        self.interval: StepInterval = "epoch" if scheduler.t_in_epochs else "step"
        self._plateau = getattr(scheduler, "lr_scheduler", None)

    def step(self, count: int, metric: float | None) -> None:
        if self.interval == "epoch":
            self.scheduler.step(count, metric)
        else:
            self.scheduler.step_update(count, metric)

    def state(self) -> Any:
        if self._plateau is None:
            return None
        # timm's state_dict leaves out the epochs without improvement and the learning rate without noise
        state = {"plateau": self._plateau.state_dict(), "restore_lr": self.scheduler.restore_lr}
        return to_json(state, type(self.scheduler).__name__)

    def load(self, state: Any, count: int) -> None:
        if self._plateau is not None:
            found = from_json(state)
            self._plateau.load_state_dict(found["plateau"])
            self.scheduler.restore_lr = found["restore_lr"]


class _FunctionAdapter:
    """A user's function, called per epoch: without state."""

    interval: StepInterval = "epoch"

    def state(self) -> Any:
        return None

    def load(self, state: Any, count: int) -> None:
        pass


class FactorAdapter(_FunctionAdapter):
    """The user's `lr(epoch) → factor`, called for all epochs at the start, so that errors show early."""

    def __init__(
        self, optimizer: Optimizer, function: Callable[..., Any], params: Mapping[str, Any], name: str, epochs: int
    ) -> None:
        self._optimizer = optimizer
        self._base: Sequence[float] = [g["lr"] for g in optimizer.param_groups]
        self._factors = [check_factor(function, epoch, params, name) for epoch in range(epochs)]
        self.step(0, None)

    def step(self, count: int, metric: float | None) -> None:
        for group, base in zip(self._optimizer.param_groups, self._base, strict=True):
            group.setdefault("initial_lr", base)
            group["lr"] = base * self._factors[count]


class AdjustAdapter(_FunctionAdapter):
    """The user's `adjust_learning_rate(optimizer, epoch)`, called before each epoch."""

    def __init__(
        self, optimizer: Optimizer, function: Callable[..., Any], params: Mapping[str, Any], name: str
    ) -> None:
        for group in optimizer.param_groups:
            group.setdefault("initial_lr", group["lr"])
        self._optimizer, self._function, self._params, self._name = optimizer, function, params, name
        self.step(0, None)

    def step(self, count: int, metric: float | None) -> None:
        call_adjust_function(self._function, self._optimizer, count, self._params, self._name)
