"""Schedules that are the user's own functions.

    def half(epoch):                                  # learning-rate factor of all groups; epochs from 0
        return 0.5 ** epoch

    def adjust_learning_rate(optimizer, epoch):       # sets the learning rates
        for group in optimizer.param_groups:
            group["lr"] = group["initial_lr"] * 0.1 ** (epoch // 30)

Other parameters get their values from schedule.params.
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Mapping
from typing import Any

from torch.optim import Optimizer

from zoo.errors import UsageError
from zoo.registry import import_object

# Raised by mistakes in a user's function or parameter; other errors keep their traceback.
USER_ERRORS = (ArithmeticError, AttributeError, LookupError, NameError, TypeError, ValueError)

# The rounding error of torch's cosine, which may end slightly below 0.
_ROUNDING = 1e-12


def missing_parameters(function: Callable[..., Any], params: Mapping[str, Any]) -> list[str]:
    """Names of the parameters without default or value: one (epoch) for a factor, two to set learning rates.

    Raises UsageError if `function` has no signature.
    """
    try:
        parameters = inspect.signature(function).parameters
    except (TypeError, ValueError):
        raise UsageError(f"schedule {_name(function)} has no signature", "wrap it: def lr(epoch): return …") from None
    return [
        name
        for name, p in parameters.items()
        if p.default is inspect.Parameter.empty
        and name not in params
        and p.kind not in (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
    ]


def function_problems(function: Callable[..., Any], params: Mapping[str, Any], label: str) -> list[str]:
    """Problems of calling `function`, one line each."""
    try:
        missing = missing_parameters(function, params)
    except UsageError as e:
        return [f"{label}.name: {e}"]
    parameters = inspect.signature(function).parameters
    takes_any = any(p.kind is inspect.Parameter.VAR_KEYWORD for p in parameters.values())
    found = [f"{label}.params.{k} is unknown to {_name(function)}" for k in params if k not in parameters]
    found = [] if takes_any else found
    if len(missing) not in (1, 2):
        found.append(
            f"{label}.name: {_name(function)} has {len(missing)} parameters without a value"
            f"{' (' + ', '.join(missing) + ')' if missing else ''}; it needs one (epoch) or two "
            f"(optimizer, epoch); others get theirs from {label}.params"
        )
    return found


def factor_function(path: str, kind: str) -> Callable[[int], float]:
    """The user's function at "module:attribute", for a torch scheduler that calls it with a number.

    Raises UsageError if it cannot be imported, and when called if it returns no finite number.
    """
    function = import_object(path, kind)
    if not callable(function):
        raise UsageError(f"{kind} {path!r} is a {type(function).__name__}, not a function")

    def checked(step: int) -> float:  # a plain function, which torch leaves out of the scheduler's state
        return check_factor(function, step, {}, path)

    return checked


def check_factor(function: Callable[..., Any], epoch: int, params: Mapping[str, Any], name: str) -> float:
    """`function(epoch)`. Raises UsageError if it fails or returns no finite number from 0."""
    try:
        value = function(epoch, **params)
    except USER_ERRORS as e:
        raise UsageError(f"{name}({epoch}) failed: {type(e).__name__}: {e}", "correct the function") from e
    return _number(value, f"{name}({epoch}) returned", "a factor, one number from 0")


def call_adjust_function(
    function: Callable[..., Any], optimizer: Optimizer, epoch: int, params: Mapping[str, Any], name: str
) -> None:
    """`function(optimizer, epoch)`. Raises UsageError if it fails or sets an invalid learning rate."""
    before = len(optimizer.param_groups)
    try:
        function(optimizer, epoch, **params)
    except USER_ERRORS as e:
        raise UsageError(f"{name}(optimizer, {epoch}) failed: {type(e).__name__}: {e}", "correct the function") from e
    if len(optimizer.param_groups) != before:
        raise UsageError(f"{name}(optimizer, {epoch}) changed the number of parameter groups", "set only lr")
    for group, lr in zip(optimizer.param_groups, check_lrs(optimizer, f"{name}(optimizer, {epoch})"), strict=True):
        group["lr"] = lr


def check_lrs(optimizer: Optimizer, who: str) -> list[float]:
    """The learning rates set by `who`. Raises UsageError if one is not a finite number from 0."""
    return [
        _number(group["lr"], f"{who} set the learning rate of {group.get('name', 'a group')!r} to", "one number from 0")
        for group in optimizer.param_groups
    ]


def _number(value: Any, before: str, wanted: str) -> float:
    if hasattr(value, "item") and getattr(value, "shape", None) == ():  # a scalar of numpy or torch
        value = value.item()
    if isinstance(value, bool) or not isinstance(value, int | float):
        shape = getattr(value, "shape", None)
        given = f"a {type(value).__name__}" + (f" of shape {tuple(shape)}" if shape is not None else "")
        raise UsageError(f"{before} {given}, not {wanted}", "return a number, for example 0.1 ** (epoch // 30)")
    if not math.isfinite(value) or value < -_ROUNDING:
        raise UsageError(f"{before} {value}, not {wanted}", "return a finite number that is not negative")
    return float(value)


def _name(function: Callable[..., Any]) -> str:
    return str(getattr(function, "__qualname__", type(function).__name__))
