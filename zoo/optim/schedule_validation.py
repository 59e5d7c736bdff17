"""Checks of schedule names and parameters, before anything is built."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Any, Literal

from zoo.errors import ZooError
from zoo.optim.custom_schedules import function_problems
from zoo.optim.schedule_names import SCHEDULES, ScheduleComponent
from zoo.registry import check_params, import_object, resolve

COMPOSITES = ("SequentialLR", "ChainedScheduler")
PLATEAUS = ("ReduceLROnPlateau", "PlateauLRScheduler")
FUNCTION_PARAMS = {"LambdaLR": "lr_lambda", "MultiplicativeLR": "lr_lambda", "CyclicLR": "scale_fn"}

# Parameters that zoo always sets, and those it sets unless the user does.
_ALWAYS = ("optimizer", "last_epoch", "initialize")
_UNLESS_GIVEN = {"OneCycleLR": ("max_lr",), "CyclicLR": ("base_lr", "max_lr")}


def schedule_kind(found: Any) -> Literal["torch", "timm", "function", "neither"]:
    """The kind of a schedule. A class counts as torch's unless it is derived from timm's."""
    if not inspect.isclass(found):
        return "function" if callable(found) else "neither"
    # by name, without importing timm
    return "timm" if any(c.__module__ == "timm.scheduler.scheduler" for c in found.__mro__) else "torch"


def find_entry(name: str, found: Any) -> ScheduleComponent | None:
    """The table's entry for `name`, or for the class `found` or its base classes."""
    if name in SCHEDULES:
        return SCHEDULES[name]
    for ancestor in inspect.getmro(found) if inspect.isclass(found) else ():
        entry = SCHEDULES.get(ancestor.__name__)
        if entry is not None and ancestor.__module__.startswith(entry.path.partition(":")[0]):
            return entry
    return None


def class_name(entry: ScheduleComponent | None) -> str:
    """The class name of an entry: CosineAnnealingLR for cosine; "" without an entry."""
    return entry.path.partition(":")[2] if entry is not None else ""


def schedule_problems(name: str, params: Mapping[str, Any], label: str = "schedule") -> list[str]:
    """Problems of building the schedule `name` with `params`, one line each."""
    try:
        found = resolve(name, SCHEDULES, "schedule")
    except ZooError as e:
        return [f"{label}.name: {e}"]
    kind = schedule_kind(found)
    if kind == "neither":
        return [f"{label}.name: {name!r} is a {type(found).__name__}, not a class or a function"]
    if kind == "function":
        return function_problems(found, params, label)
    entry = find_entry(name, found)
    library = class_name(entry)
    first = list(inspect.signature(found).parameters)[:1]
    always = {*_ALWAYS, *(first if library not in COMPOSITES else ()), *(("mode",) if library in PLATEAUS else ())}
    fillable = {*_UNLESS_GIVEN.get(library, ())}
    if entry is not None and entry.length is not None:
        # The lengths of short names are numbers of steps, which follow from the run.
        (always if name in SCHEDULES and name != library else fillable).add(entry.length)
    if name == "onecycle":
        always.add("max_lr")
    given = always | (fillable - set(params))
    settings = {**(entry.defaults if entry is not None else {}), **params}
    problems = check_params(found, settings, given=given, label=f"{label}.params")
    if library in COMPOSITES and "schedulers" in params:
        problems += _list_problems(library, params["schedulers"], f"{label}.params.schedulers")
    if library in FUNCTION_PARAMS and FUNCTION_PARAMS[library] in params:
        problems += _path_problems(params[FUNCTION_PARAMS[library]], f"{label}.params.{FUNCTION_PARAMS[library]}")
    return problems


def _list_problems(library: str, schedulers: Any, label: str) -> list[str]:
    """Problems of a list of schedules, which are torch classes by name or import paths."""
    if not isinstance(schedulers, list) or not schedulers:
        return [f"{label} is a list of schedules, such as [{{name: LinearLR}}, {{name: StepLR, params: …}}]"]
    problems = []
    for i, item in enumerate(schedulers):
        here = f"{label}[{i}]"
        if not isinstance(item, dict) or not isinstance(item.get("name"), str) or not item.keys() <= {"name", "params"}:
            problems.append(f"{here}: {item!r} is not of the form {{name: StepLR, params: {{step_size: 3}}}}")
            continue
        name, params = item["name"], item.get("params") or {}
        entry = SCHEDULES.get(name)
        if entry is not None and (name != class_name(entry) or not entry.path.startswith("torch.")):
            problems.append(f"{here}.name: {name!r} cannot be in a list; use torch's names such as StepLR")
        elif name in PLATEAUS:
            problems.append(f"{here}.name: {library} steps its schedules without a metric, which {name!r} needs")
        else:
            problems += schedule_problems(name, params, here)
    return problems


def _path_problems(paths: Any, label: str) -> list[str]:
    problems = []
    for path in paths if isinstance(paths, list) else [paths]:
        try:
            if not isinstance(path, str):
                problems.append(f"{label}: {path!r} is not the import path of a function, module:function")
            elif not callable(import_object(path, "function")):
                problems.append(f"{label}: {path!r} is not a function")
        except ZooError as e:
            problems.append(f"{label}: {e}")
    return problems
