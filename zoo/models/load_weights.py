"""Load tensors into a module, check that they belong to it, and report the result."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from torch import Tensor, nn

from zoo.errors import WeightsError

# With a lower share of matching backbone tensors, the file is considered to be for another model.
MIN_MATCHING_SHARE = 0.9
_MAX_LISTED = 5


@dataclass(frozen=True)
class LoadResult:
    """See `WeightsReport`, which adds the origin of the weights. head_loaded: loaded tensors of the head."""

    loaded: int
    adapted: tuple[str, ...]
    missing: tuple[str, ...]
    unexpected: tuple[str, ...]
    head_loaded: tuple[str, ...] = ()


def is_under(name: str, paths: Sequence[str]) -> bool:
    """True if the tensor or module `name` is one of `paths` or lies inside one."""
    return any(name == path or name.startswith(f"{path}.") for path in paths)


def with_module_versions(module: nn.Module, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """`state` with the module versions of `module`; MNASNet of torchvision needs them."""
    versioned: OrderedDict[str, Tensor] = OrderedDict(state)
    own = module.state_dict()
    # torch passes them as an attribute of the dictionary.
    versioned._metadata = getattr(state, "_metadata", own._metadata)  # type: ignore[attr-defined]
    return versioned


def load_strict(module: nn.Module, state: Mapping[str, Tensor]) -> None:
    """Load a complete state dict. Raises WeightsError if a tensor is missing, unexpected or has another shape."""
    own = module.state_dict()
    mismatches = [f"{name}: missing" for name in own if name not in state]
    mismatches += [f"{name}: not in the model" for name in state if name not in own]
    mismatches += [_mismatch(n, t, own[n]) for n, t in state.items() if n in own and t.shape != own[n].shape]
    if mismatches:
        raise WeightsError(
            f"the weights do not belong to this model: {_list_first(mismatches)}", "use the weights of its own run"
        )
    module.load_state_dict(with_module_versions(module, state))


def load_matching(
    module: nn.Module,
    state: Mapping[str, Tensor],
    head: Sequence[str],
    *,
    adapted: Sequence[str],
    file_head_shapes: Mapping[str, tuple[int, ...]],
    name: str,
) -> LoadResult:
    """Load every tensor that fits. Raises WeightsError if less than nine tenths of the backbone fit.

    head: module paths, which may differ. adapted: notes on the tensors of `state` that were already changed.
    file_head_shapes: name → shape of the tensors in the file, for the notes on the head.
    """
    own = module.state_dict()
    matching = {n: t for n, t in state.items() if n in own and t.shape == own[n].shape}
    notes = list(adapted)
    missing, mismatches = [], []
    for key, tensor in own.items():
        if key in matching:
            continue
        if is_under(key, head):
            file_shape = file_head_shapes.get(key)
            before = f"{tuple(file_shape)} -> " if file_shape is not None else ""
            notes.append(f"{key}: new head, {before}{tuple(tensor.shape)}")
            continue
        missing.append(key)
        mismatches.append(_mismatch(key, state[key], tensor) if key in state else f"{key}: not in the file")
    # Integer buffers (position indices, batch counters) are created by the model; old files do not have them.
    backbone = [k for k, t in own.items() if t.is_floating_point() and not is_under(k, head)]
    num_matching = sum(1 for k in backbone if k in matching)
    if num_matching < MIN_MATCHING_SHARE * len(backbone):
        raise WeightsError(
            f"the weights do not fit {name}: {num_matching} of {len(backbone)} tensors of the backbone; "
            f"{_list_first(mismatches)}",
            "use the model that they are for, or --weights none",
        )
    unexpected = tuple(k for k in state if k not in own)
    module.load_state_dict(with_module_versions(module, matching), strict=False)
    return LoadResult(
        len(matching), tuple(notes), tuple(missing), unexpected, tuple(k for k in matching if is_under(k, head))
    )


def _mismatch(name: str, in_file: Tensor, in_model: Tensor) -> str:
    return f"{name}: {tuple(in_file.shape)} in the file, {tuple(in_model.shape)} in the model"


def _list_first(lines: Sequence[str]) -> str:
    more = len(lines) - _MAX_LISTED
    return "; ".join(lines[:_MAX_LISTED]) + (f"; and {more} more" if more > 0 else "")
