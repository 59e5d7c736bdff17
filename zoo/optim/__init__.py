"""Optimizers, parameter groups and learning-rate schedules. The tables of names import neither torch nor timm."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Any

from zoo.errors import ZooError
from zoo.optim.optimizer_names import OPTIMIZERS, UNSUPPORTED, find_optimizer
from zoo.optim.schedule_names import SCHEDULES, ScheduleComponent
from zoo.registry import check_params

__all__ = ["OPTIMIZERS", "SCHEDULES", "UNSUPPORTED", "ScheduleComponent", "problems"]


def problems(
    optimizer: str, optimizer_params: Mapping[str, Any], schedule: str, schedule_params: Mapping[str, Any]
) -> list[str]:
    """Problems of building the optimizer or the schedule, one line each."""
    from zoo.optim.schedule_validation import schedule_problems

    found: list[str] = []
    try:
        factory = find_optimizer(optimizer)
        given = ["params", "lr", "weight_decay", *_first(factory)]
        found += check_params(factory, optimizer_params, given=given, label="optimizer.params")
    except ZooError as e:
        found.append(f"optimizer.name: {e}")
    return found + schedule_problems(schedule, schedule_params)


def _first(factory: Any) -> list[str]:
    """The name of the first parameter, which takes the groups; a user's function may call it anything."""
    try:
        return list(inspect.signature(factory).parameters)[:1]
    except (TypeError, ValueError):
        return []
