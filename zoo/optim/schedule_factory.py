"""Builds schedulers, with the lengths of the run filled in."""

from __future__ import annotations

import itertools
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from torch.optim import Optimizer
from torch.optim.lr_scheduler import CyclicLR, OneCycleLR

from zoo.errors import UsageError
from zoo.optim.custom_schedules import factor_function, missing_parameters
from zoo.optim.schedule_names import SCHEDULES
from zoo.optim.schedule_validation import COMPOSITES, FUNCTION_PARAMS, PLATEAUS, class_name, find_entry, schedule_kind
from zoo.optim.scheduler_adapters import (
    AdjustAdapter,
    FactorAdapter,
    SchedulerAdapter,
    StepInterval,
    TimmAdapter,
    TorchAdapter,
)
from zoo.registry import resolve

# Smith 2017 (1506.01186), section 3.2: half a cycle of 2 to 10 epochs; 3.3: base_lr a third or a quarter of max_lr.
_HALF_CYCLE_EPOCHS = 2
_BASE_LR_RATIO = 1 / 4


@dataclass(frozen=True)
class RunLength:
    """The length of a run. warmup: steps of the warm-up."""

    epochs: int
    steps_per_epoch: int
    warmup: int = 0

    @property
    def optimizer_steps(self) -> int:
        return self.epochs * self.steps_per_epoch

    def steps(self, interval: StepInterval) -> int:
        return self.epochs if interval == "epoch" else self.optimizer_steps - self.warmup


@dataclass
class _Builder:
    """lrs: initial learning rates of the groups."""

    optimizer: Optimizer
    lrs: list[float]
    steps_per_epoch: int
    higher_is_better: bool
    notes: list[str]

    def torch(self, name: str, found: Any, params: Mapping[str, Any], interval: StepInterval, steps: int) -> Any:
        """The scheduler for a run, or part of a run, of `steps` steps."""
        entry = find_entry(name, found)
        library = class_name(entry)
        settings = {**(entry.defaults if entry is not None else {}), **params}
        if library in COMPOSITES:
            return self._list(found, library, settings, interval, steps)
        if entry is not None and entry.length is not None:
            self._fill_length(name, library, entry.length, settings, steps)
        if library in ("OneCycleLR", "CyclicLR"):
            settings.setdefault("max_lr", self.lrs)
            if library == "CyclicLR" and "base_lr" not in settings:
                tops = settings["max_lr"]
                settings["base_lr"] = (
                    [v * _BASE_LR_RATIO for v in tops] if isinstance(tops, list) else tops * _BASE_LR_RATIO
                )
                self.notes.append(f"{name}: base_lr is a quarter of max_lr (Smith 2017)")
            if "cycle_momentum" not in settings and not {"momentum", "betas"} & self.optimizer.defaults.keys():
                settings["cycle_momentum"] = False
                self.notes.append(f"{name}: {type(self.optimizer).__name__} has no momentum to cycle")
        if library in PLATEAUS:
            settings["mode"] = "max" if self.higher_is_better else "min"
        path = settings.get(FUNCTION_PARAMS.get(library, ""))
        if path is not None:
            functions = [factor_function(p, "function") for p in (path if isinstance(path, list) else [path])]
            settings[FUNCTION_PARAMS[library]] = functions if isinstance(path, list) else functions[0]
        with warnings.catch_warnings():
            # a warning at every construction; docs/optimizers.md has it
            warnings.filterwarnings("ignore", "PlateauLRScheduler is deprecated", FutureWarning)
            scheduler = found(self.optimizer, **settings)
        if library == "OneCycleLR" and scheduler.total_steps < steps:
            raise ValueError(f"total_steps={scheduler.total_steps} is shorter than the run of {steps:,} steps")
        return scheduler

    def _fill_length(self, name: str, library: str, parameter: str, settings: dict[str, Any], steps: int) -> None:
        if parameter in settings or (library == "OneCycleLR" and {"epochs", "steps_per_epoch"} <= settings.keys()):
            return
        settings[parameter] = steps
        if library == "CyclicLR":
            settings[parameter] = _HALF_CYCLE_EPOCHS * self.steps_per_epoch
        if name == library or name not in SCHEDULES:  # the short names always last as long as the run
            self.notes.append(f"{name}: {parameter}={settings[parameter]}, from the run")

    def _list(self, found: Any, library: str, settings: dict[str, Any], interval: StepInterval, steps: int) -> Any:
        """SequentialLR: each schedule lasts from milestone to milestone; ChainedScheduler: all last the whole run."""
        items: Sequence[Mapping[str, Any]] = settings.pop("schedulers")
        lengths = [steps] * len(items)
        if library == "SequentialLR":
            milestones = settings["milestones"]
            bounds = [0, *milestones]
            if len(bounds) != len(items) or any(a >= b for a, b in itertools.pairwise(bounds)):
                raise ValueError(f"{len(items)} schedules need {len(items) - 1} rising milestones, not {milestones}")
            if bounds[-1] >= steps:
                self.notes.append(f"{library}: milestones {milestones} exceed the {steps:,} {interval}s of the run")
            lengths = [b - a for a, b in itertools.pairwise([*bounds, max(steps, bounds[-1] + 1)])]
        parts = []
        for item, length in zip(items, lengths, strict=True):
            part = resolve(item["name"], SCHEDULES, "schedule")
            parts.append(self.torch(item["name"], part, item.get("params") or {}, interval, length))
        if library == "ChainedScheduler":
            return found(parts, optimizer=self.optimizer)
        return found(self.optimizer, parts, **settings)


def build_adapter(
    name: str, optimizer: Optimizer, params: Mapping[str, Any], span: RunLength, higher_is_better: bool
) -> tuple[SchedulerAdapter, list[str]]:
    """The adapter of a valid schedule, and notes for the user. Raises UsageError if it cannot be built."""
    found = resolve(name, SCHEDULES, "schedule")
    notes: list[str] = []
    kind = schedule_kind(found)
    if kind == "function":
        if len(missing_parameters(found, params)) == 1:
            return FactorAdapter(optimizer, found, params, name, span.epochs), notes
        return AdjustAdapter(optimizer, found, params, name), notes
    lrs = [float(g["lr"]) for g in optimizer.param_groups]
    builder = _Builder(optimizer, lrs, span.steps_per_epoch, higher_is_better, notes)
    interval: StepInterval = "epoch" if kind == "timm" and params.get("t_in_epochs", True) else "step"
    interval = interval if kind == "timm" else _step_interval(name, found, params)
    try:
        scheduler = builder.torch(name, found, params, interval, span.steps(interval))
    except (ArithmeticError, AssertionError, KeyError, TypeError, ValueError) as e:
        raise UsageError(f"schedule {name!r} cannot be built: {e}", "correct schedule.params") from e
    if kind == "timm":
        return TimmAdapter(scheduler), notes
    missing = [m for m in ("step", "state_dict", "load_state_dict") if not callable(getattr(scheduler, m, None))]
    if missing:
        raise UsageError(
            f"schedule {name!r} has no {' and no '.join(missing)}",
            "derive it from torch.optim.lr_scheduler.LRScheduler",
        )
    return TorchAdapter(scheduler, interval), notes


def _step_interval(name: str, found: Any, params: Mapping[str, Any]) -> StepInterval:
    """A list that contains a cyclical schedule is stepped per optimizer step as a whole."""
    entry = find_entry(name, found)
    if class_name(entry) in COMPOSITES:
        items = [
            (i["name"], resolve(i["name"], SCHEDULES, "schedule"), i.get("params") or {}) for i in params["schedulers"]
        ]
        return "step" if any(_step_interval(*item) == "step" for item in items) else "epoch"
    if entry is not None:
        return entry.interval
    return "step" if issubclass(found, CyclicLR | OneCycleLR) else "epoch"
