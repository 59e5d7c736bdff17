"""Checks of the value that a loss returned."""

from __future__ import annotations

import inspect
from typing import Any

from torch import Tensor, is_grad_enabled

from zoo.errors import TrainingError, UsageError


def loss_name(loss: Any) -> str:
    """The name for messages: from the table, or module:attribute."""
    named = loss if hasattr(loss, "__name__") else type(loss)
    own = (inspect.isfunction(named) or inspect.isclass(named)) and not named.__module__.startswith("torch.")
    return f"{named.__module__}:{named.__qualname__}" if own else str(named.__name__)


def check_value(value: Any, loss: Any, output: Tensor, *, finite: bool = False) -> None:
    """Raises UsageError unless `value` of `loss` is a scalar tensor with a gradient.

    finite: also raise TrainingError if it is not finite, which waits for the device.
    """
    name = loss_name(loss)
    if not isinstance(value, Tensor):
        raise UsageError(
            f"the loss {name} returned {value!r:.40} ({type(value).__name__}), not a tensor", "return a scalar tensor"
        )
    if value.ndim:
        raise UsageError(
            f"the loss {name} returned shape {tuple(value.shape)}, not a scalar", "reduce it, e.g. with .mean()"
        )
    if not value.is_floating_point():
        raise UsageError(f"the loss {name} returned {value.dtype}, not a real number", "return a float tensor")
    if is_grad_enabled() and output.requires_grad and not value.requires_grad:
        raise UsageError(
            f"the loss {name} returned a number without a gradient",
            "compute it from the output without argmax, .item(), .detach() or torch.tensor()",
        )
    if finite and not bool(value.isfinite()):
        raise TrainingError(
            f"the loss {name} is {value.item()} before the first step",
            "check the loss and its parameters, and the weights",
        )
