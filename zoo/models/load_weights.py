"""Tensors into a module, with a report of what fitted; the one place that decides whether weights belong to a model."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from torch import Tensor, nn

from zoo.errors import WeightsError

__all__ = ["ENOUGH", "Fit", "adopt_versions", "is_under", "load_fitting", "load_strict"]

# Below this share of the backbone's tensors the file is taken for another model's.
ENOUGH = 0.9
_SHOWN = 5


@dataclass(frozen=True)
class Fit:
    """See `WeightsReport`, which adds where the weights came from. head_loaded: the head's tensors that were filled."""

    loaded: int
    adapted: tuple[str, ...]
    missing: tuple[str, ...]
    unexpected: tuple[str, ...]
    head_loaded: tuple[str, ...] = ()


def is_under(name: str, paths: Sequence[str]) -> bool:
    """True if the tensor or module `name` is one of `paths` or lies inside one."""
    return any(name == path or name.startswith(f"{path}.") for path in paths)


def adopt_versions(module: nn.Module, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """`state` as a dictionary that claims the versions of `module`'s own parts.

    Only pickled state dictionaries carry them; some modules (torchvision's MNASNet) refuse tensors without.
    """
    versioned: OrderedDict[str, Tensor] = OrderedDict(state)
    own = module.state_dict()
    # An attribute of the dictionary is how torch passes them.
    versioned._metadata = getattr(state, "_metadata", own._metadata)  # type: ignore[attr-defined]
    return versioned


def load_strict(module: nn.Module, state: Mapping[str, Tensor]) -> None:
    """Load what `module.state_dict()` gave once. Raises WeightsError if a tensor is missing, left over or another
    shape.
    """
    own = module.state_dict()
    wrong = [f"{name}: missing" for name in own if name not in state]
    wrong += [f"{name}: not in the model" for name in state if name not in own]
    wrong += [_mismatch(n, t, own[n]) for n, t in state.items() if n in own and t.shape != own[n].shape]
    if wrong:
        raise WeightsError(
            f"the weights do not belong to this model: {_first(wrong)}", "use the weights of its own run"
        )
    module.load_state_dict(adopt_versions(module, state))


def load_fitting(
    module: nn.Module,
    state: Mapping[str, Tensor],
    head: Sequence[str],
    *,
    adapted: Sequence[str],
    file_head: Mapping[str, tuple[int, ...]],
    name: str,
) -> Fit:
    """Load every tensor of `state` that fits; the head may differ, the backbone must be there to nine tenths.

    `adapted` says what was changed in `state` before; `file_head` gives the shapes of the head in the file, by name.
    Raises WeightsError with the first mismatches.
    """
    own = module.state_dict()
    fitting = {n: t for n, t in state.items() if n in own and t.shape == own[n].shape}
    notes = list(adapted)
    missing, wrong = [], []
    for key, tensor in own.items():
        if key in fitting:
            continue
        if is_under(key, head):
            there = file_head.get(key)
            before = f"{tuple(there)} -> " if there is not None else ""
            notes.append(f"{key}: new head, {before}{tuple(tensor.shape)}")
            continue
        missing.append(key)
        wrong.append(_mismatch(key, state[key], tensor) if key in state else f"{key}: not in the file")
    # Tables of positions and counters of batches are made anew by the model; old files lack them.
    counted = [k for k, t in own.items() if t.is_floating_point() and not is_under(k, head)]
    there_are = sum(1 for k in counted if k in fitting)
    if there_are < ENOUGH * len(counted):
        raise WeightsError(
            f"the weights do not fit {name}: {there_are} of {len(counted)} tensors of the backbone; {_first(wrong)}",
            "name the model that they were made for, or start with --weights none",
        )
    unexpected = tuple(k for k in state if k not in own)
    module.load_state_dict(adopt_versions(module, fitting), strict=False)
    return Fit(len(fitting), tuple(notes), tuple(missing), unexpected, tuple(k for k in fitting if is_under(k, head)))


def _mismatch(name: str, theirs: Tensor, ours: Tensor) -> str:
    return f"{name}: {tuple(theirs.shape)} in the file, {tuple(ours.shape)} in the model"


def _first(lines: Sequence[str]) -> str:
    more = len(lines) - _SHOWN
    return "; ".join(lines[:_SHOWN]) + (f"; and {more} more" if more > 0 else "")
