"""Losses by name. A loss is `(output, target) → scalar`: logits (N, K) float, classes (N,) int64.

Adding one: a small file here (or a class of torch.nn), one line in the table, one test.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, cast

from zoo.components import Component, check_params, resolve
from zoo.errors import UsageError, ZooError

if TYPE_CHECKING:
    from torch import Tensor

    Loss = Callable[[Tensor, Tensor], Tensor]

__all__ = ["LOSSES", "make_loss", "problems"]

LOSSES: dict[str, Component] = {
    "cross_entropy": Component(
        "torch.nn:CrossEntropyLoss", "softmax and negative log-likelihood; takes label_smoothing"
    ),
    "multi_margin": Component(
        "torch.nn:MultiMarginLoss", "multi-class hinge (Crammer and Singer 2001); takes p, margin"
    ),
}


def problems(name: str, params: Mapping[str, Any]) -> list[str]:
    """What would keep `make_loss(name, params)` from working, one line each."""
    try:
        factory = resolve(name, LOSSES, "loss")
    except ZooError as e:
        return [f"loss.name: {e}"]
    return check_params(factory, params, given=_called_with(factory), label="loss.params")


def make_loss(name: str, params: Mapping[str, Any]) -> Loss:
    """A table's or a user's loss. A class is built with `params`; a function gets them beside (output, target).

    Raises UsageError if the name, a parameter or the object is not usable.
    """
    factory = resolve(name, LOSSES, "loss")
    if not callable(factory):
        raise UsageError(f"loss {name!r} is a {type(factory).__name__}, not a class or a function")
    if not inspect.isclass(factory):
        return cast("Loss", functools.partial(factory, **params) if params else factory)
    try:
        return cast("Loss", factory(**params))
    except (TypeError, ValueError) as e:
        raise UsageError(f"loss {name!r} cannot be built: {e}", "correct loss.params") from e


def _called_with(factory: Any) -> tuple[str, ...]:
    """The names of a plain function's first two parameters: the loop gives them."""
    if inspect.isclass(factory) or not callable(factory):
        return ()
    return tuple(inspect.signature(factory).parameters)[:2]
