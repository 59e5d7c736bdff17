"""Name and parameters → what moves the rates, with all that the run says filled in."""

from __future__ import annotations

import itertools
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from torch.optim import Optimizer
from torch.optim.lr_scheduler import CyclicLR, OneCycleLR

from zoo.errors import UsageError
from zoo.optim.custom_schedules import factor_function, left_to_fill
from zoo.optim.schedule_names import SCHEDULES
from zoo.optim.schedule_validation import LAMBDAS, LISTS, PLATEAUS, entry_of, kind_of, owned
from zoo.optim.scheduler_adapters import AdjustStepper, FactorStepper, Per, Stepper, TimmStepper, TorchStepper
from zoo.registry import resolve

__all__ = ["Span", "build_stepper"]

# Smith 2017 (1506.01186), section 3.2: half a cycle of 2 to 10 epochs; 3.3: base_lr a third or a quarter of max_lr.
_HALF_CYCLE_EPOCHS = 2
_BASE_OF_MAX = 1 / 4


@dataclass(frozen=True)
class Span:
    """How long the rates have to be given: a run of `epochs`, whose first `warmup` updates are the warm-up's."""

    epochs: int
    updates_per_epoch: int
    warmup: int = 0

    @property
    def updates(self) -> int:
        return self.epochs * self.updates_per_epoch

    def steps(self, per: Per) -> int:
        return self.epochs if per == "epoch" else self.updates - self.warmup


@dataclass
class _Builder:
    """rates: the groups' own, before any schedule has moved them."""

    optimizer: Optimizer
    rates: list[float]
    updates_per_epoch: int
    higher_is_better: bool
    notes: list[str]

    def torch(self, name: str, found: Any, params: Mapping[str, Any], per: Per, steps: int) -> Any:
        """The scheduler of a run, or of a part of one, of `steps` steps."""
        entry = entry_of(name, found)
        library = owned(entry)
        settings = {**(entry.defaults if entry is not None else {}), **params}
        if library in LISTS:
            return self._list(found, library, settings, per, steps)
        if entry is not None and entry.length is not None:
            self._fill_length(name, library, entry.length, settings, steps)
        if library in ("OneCycleLR", "CyclicLR"):
            settings.setdefault("max_lr", self.rates)
            if library == "CyclicLR" and "base_lr" not in settings:
                tops = settings["max_lr"]
                settings["base_lr"] = (
                    [v * _BASE_OF_MAX for v in tops] if isinstance(tops, list) else tops * _BASE_OF_MAX
                )
                self.notes.append(f"{name}: base_lr is a quarter of max_lr (Smith 2017)")
            if "cycle_momentum" not in settings and not {"momentum", "betas"} & self.optimizer.defaults.keys():
                settings["cycle_momentum"] = False
                self.notes.append(f"{name}: {type(self.optimizer).__name__} has no momentum to be cycled")
        if library in PLATEAUS:
            settings["mode"] = "max" if self.higher_is_better else "min"
        path = settings.get(LAMBDAS.get(library, ""))
        if path is not None:
            functions = [factor_function(p, "function") for p in (path if isinstance(path, list) else [path])]
            settings[LAMBDAS[library]] = functions if isinstance(path, list) else functions[0]
        with warnings.catch_warnings():
            # timm announces that its plateau schedule will go, at every construction; docs/optimizers.md says it once
            warnings.filterwarnings("ignore", "PlateauLRScheduler is deprecated", FutureWarning)
            scheduler = found(self.optimizer, **settings)
        if library == "OneCycleLR" and scheduler.total_steps < steps:
            raise ValueError(f"total_steps={scheduler.total_steps} end before its {steps:,} updates do")
        return scheduler

    def _fill_length(self, name: str, library: str, parameter: str, settings: dict[str, Any], steps: int) -> None:
        if parameter in settings or (library == "OneCycleLR" and {"epochs", "steps_per_epoch"} <= settings.keys()):
            return
        settings[parameter] = steps
        if library == "CyclicLR":
            settings[parameter] = _HALF_CYCLE_EPOCHS * self.updates_per_epoch
        if name == library or name not in SCHEDULES:  # that the short names last as long as the run needs no saying
            self.notes.append(f"{name}: {parameter}={settings[parameter]}, from the run")

    def _list(self, found: Any, library: str, settings: dict[str, Any], per: Per, steps: int) -> Any:
        """SequentialLR: each of the schedules has what lies between its milestones; ChainedScheduler: all have all."""
        items: Sequence[Mapping[str, Any]] = settings.pop("schedulers")
        lengths = [steps] * len(items)
        if library == "SequentialLR":
            milestones = settings["milestones"]
            bounds = [0, *milestones]
            if len(bounds) != len(items) or any(a >= b for a, b in itertools.pairwise(bounds)):
                raise ValueError(f"{len(items)} schedules need {len(items) - 1} rising milestones, not {milestones}")
            if bounds[-1] >= steps:
                self.notes.append(f"{library}: milestones {milestones} reach beyond the run's {steps:,} {per}s")
            lengths = [b - a for a, b in itertools.pairwise([*bounds, max(steps, bounds[-1] + 1)])]
        parts = []
        for item, length in zip(items, lengths, strict=True):
            part = resolve(item["name"], SCHEDULES, "schedule")
            parts.append(self.torch(item["name"], part, item.get("params") or {}, per, length))
        if library == "ChainedScheduler":
            return found(parts, optimizer=self.optimizer)
        return found(self.optimizer, parts, **settings)


def build_stepper(
    name: str, optimizer: Optimizer, params: Mapping[str, Any], span: Span, higher_is_better: bool
) -> tuple[Stepper, list[str]]:
    """The stepper of `name`, whose name and params have no problems, and what was decided for the user.

    Raises UsageError if it cannot be built.
    """
    found = resolve(name, SCHEDULES, "schedule")
    notes: list[str] = []
    kind = kind_of(found)
    if kind == "function":
        if len(left_to_fill(found, params)) == 1:
            return FactorStepper(optimizer, found, params, name, span.epochs), notes
        return AdjustStepper(optimizer, found, params, name), notes
    rates = [float(g["lr"]) for g in optimizer.param_groups]
    builder = _Builder(optimizer, rates, span.updates_per_epoch, higher_is_better, notes)
    per: Per = "epoch" if kind == "timm" and params.get("t_in_epochs", True) else "update"
    per = per if kind == "timm" else _per(name, found, params)
    try:
        scheduler = builder.torch(name, found, params, per, span.steps(per))
    except (AssertionError, KeyError, TypeError, ValueError) as e:
        raise UsageError(f"schedule {name!r} cannot be built: {e}", "correct schedule.params") from e
    if kind == "timm":
        return TimmStepper(scheduler), notes
    missing = [m for m in ("step", "state_dict", "load_state_dict") if not callable(getattr(scheduler, m, None))]
    if missing:
        raise UsageError(
            f"schedule {name!r} has no {' and no '.join(missing)}",
            "derive it from torch.optim.lr_scheduler.LRScheduler",
        )
    return TorchStepper(scheduler, per), notes


def _per(name: str, found: Any, params: Mapping[str, Any]) -> Per:
    """A list with a cyclical schedule in it is stepped per update as that is, all of it."""
    entry = entry_of(name, found)
    if owned(entry) in LISTS:
        items = [
            (i["name"], resolve(i["name"], SCHEDULES, "schedule"), i.get("params") or {}) for i in params["schedulers"]
        ]
        return "update" if any(_per(*item) == "update" for item in items) else "epoch"
    if entry is not None:
        return entry.per
    return "update" if issubclass(found, CyclicLR | OneCycleLR) else "epoch"
