"""State of schedulers and optimizers as JSON and tensors, without pickle."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Mapping
from typing import Any

from torch import Tensor
from torch.optim import Optimizer

# Types that JSON lacks are written as {mark: …}.
_PAIRS, _TUPLE, _FLOAT, _TENSOR = "__pairs__", "__tuple__", "__float__", "__tensor__"


def to_json(value: Any, where: str, add_tensor: Callable[[str, Tensor], None] | None = None) -> Any:
    """`value` as strict JSON for `from_json`; `add_tensor(name, tensor)` stores its tensors, named from `where`.

    Raises TypeError for anything but numbers, text, lists, mappings and (with `add_tensor`) tensors.
    """
    if isinstance(value, float):
        return float(value) if math.isfinite(value) else {_FLOAT: repr(float(value))}
    if value is None or isinstance(value, bool | int | str):
        return value
    if isinstance(value, tuple):
        return {_TUPLE: [to_json(v, f"{where}.{i}", add_tensor) for i, v in enumerate(value)]}
    if isinstance(value, list):
        return [to_json(v, f"{where}.{i}", add_tensor) for i, v in enumerate(value)]
    if isinstance(value, dict):
        if not isinstance(value, Counter) and all(isinstance(k, str) for k in value):
            return {k: to_json(v, f"{where}.{k}", add_tensor) for k, v in value.items()}
        return {_PAIRS: [[k, to_json(v, f"{where}.{k}", add_tensor)] for k, v in sorted(value.items())]}
    if isinstance(value, Tensor) and add_tensor is not None:
        add_tensor(where, value)
        return {_TENSOR: where}
    raise TypeError(f"{where} is a {type(value).__name__}")


def from_json(value: Any, tensors: Mapping[str, Tensor] | None = None) -> Any:
    """The inverse of `to_json`. Mappings with keys other than text become a Counter, which is a dict."""
    if isinstance(value, list):
        return [from_json(v, tensors) for v in value]
    if not isinstance(value, dict):
        return value
    if _FLOAT in value:
        return float(value[_FLOAT])
    if _TUPLE in value:
        return tuple(from_json(v, tensors) for v in value[_TUPLE])
    if _PAIRS in value:
        return Counter({k: from_json(v, tensors) for k, v in value[_PAIRS]})
    if _TENSOR in value:
        return (tensors or {})[value[_TENSOR]]
    return {k: from_json(v, tensors) for k, v in value.items()}


def optimizer_state(optimizer: Optimizer) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """State of `optimizer` as tensors by name and JSON, without learning rates, which the schedule stores.

    It includes step counts in parameter groups (LAMB, Adan) and random generators (Kron).
    """
    tensors: dict[str, Tensor] = {}
    whole = optimizer.state_dict()
    groups = whole.pop("param_groups")
    values = {key: to_json(value, key, tensors.__setitem__) for key, value in whole.items() if key != "state"}
    values["state"] = {str(i): to_json(state, f"state.{i}", tensors.__setitem__) for i, state in whole["state"].items()}
    values["groups"] = [
        {
            k: to_json(v, f"groups.{i}.{k}", tensors.__setitem__)
            for k, v in group.items()
            if k != "lr" and isinstance(v, int | float | Tensor)
        }
        for i, group in enumerate(groups)
    ]
    return tensors, values


def load_optimizer_state(optimizer: Optimizer, tensors: Mapping[str, Tensor], values: Mapping[str, Any]) -> None:
    """Restore `optimizer_state` in an optimizer built in the same way."""
    fresh = optimizer.state_dict()["param_groups"]
    groups = [{**new, **from_json(old, tensors)} for new, old in zip(fresh, values["groups"], strict=True)]
    rest = {key: from_json(value, tensors) for key, value in values.items() if key not in ("state", "groups")}
    state = {int(i): from_json(s, tensors) for i, s in values["state"].items()}
    optimizer.load_state_dict({**rest, "state": state, "param_groups": groups})
