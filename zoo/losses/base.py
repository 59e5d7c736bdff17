"""Shared by the losses: float32 outside autocast, the two forms of targets, class weights.

Shape, in all losses: outputs are logits (N, C) or (N, C, H, W), with any number of dimensions after C. Targets are
either *class indices*, integers of the shape without C: (N,) or (N, H, W); or *labels*, one number per output: (N, C)
or (N, C, H, W). With a single output per position (C = 1), the class indices 0 and 1 are a label.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

__all__ = [
    "LogitsLoss",
    "Weights",
    "broadcast_weights",
    "has_classes",
    "labels",
    "mean_of",
    "number",
    "one_of",
    "ratio",
    "same_shape",
    "whole",
]

Weights = Tensor | Sequence[float] | None


class LogitsLoss(nn.Module):
    """Computes in float32 under autocast, too (in float64 if the outputs are float64); gradients have the dtype of the
    outputs."""

    def forward(self, output: Tensor, target: Tensor) -> Tensor:
        with torch.autocast(output.device.type, enabled=False):
            return self.compute(output if output.dtype == torch.float64 else output.float(), target)

    def compute(self, output: Tensor, target: Tensor) -> Tensor:
        raise NotImplementedError

    def register_weights(self, name: str, values: Weights) -> None:
        """A buffer `name` (C,) of factors, which moves to the device with the loss; None stays None.

        Raises ValueError if they are not a list of finite numbers of at least 0, or all 0.
        """
        if values is not None:
            try:
                values = torch.as_tensor(values, dtype=torch.float32)
            except (TypeError, ValueError, RuntimeError) as e:
                raise ValueError(f"{name} is a list of one number for each class, not {values!r}") from e
            if values.ndim != 1 or not bool((values.isfinite() & (values >= 0)).all()) or not bool(values.any()):
                raise ValueError(f"{name} is a list of finite numbers of at least 0, not all 0; got {values.tolist()}")
        self.register_buffer(name, values)


def number(
    name: str, value: float, *, least: float = -math.inf, above: float = -math.inf, most: float = math.inf
) -> float:
    """`value` as float. Raises ValueError if it is not a finite number from `least` (or `above`) to `most`."""
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise ValueError(f"{name} is a number, not {value!r}")
    if not (math.isfinite(value) and above < value <= most and value >= least):
        low = f"above {above:g}" if above > least else f"at least {least:g}"
        spans = [low] * (max(least, above) > -math.inf) + [f"at most {most:g}"] * (most < math.inf)
        raise ValueError(f"{name} must be {' and '.join(spans or ['finite'])}, not {value}")
    return float(value)


def whole(name: str, value: int) -> int:
    """Raises ValueError if `value` is not an integer."""
    if isinstance(value, bool) or not isinstance(value, int):
        raise ValueError(f"{name} is an integer, not {value!r}")
    return value


def one_of(name: str, value: str, known: Sequence[str]) -> str:
    """Raises ValueError if `value` is not among the `known`."""
    if value not in known:
        raise ValueError(f"{name} is {' or '.join(known)}, not {value!r}")
    return value


def has_classes(output: Tensor, target: Tensor) -> bool:
    """True if the targets are class indices, False if there is one per output.

    Raises ValueError if they are neither.
    """
    if target.shape == output.shape:
        return False
    if target.ndim == output.ndim - 1 and target.shape == output.shape[:1] + output.shape[2:]:
        if target.is_floating_point() or target.dtype == torch.bool:
            raise ValueError(f"targets of shape {tuple(target.shape)} are class indices: integers, not {target.dtype}")
        return True
    raise ValueError(f"targets of shape {tuple(target.shape)} do not fit outputs of shape {tuple(output.shape)}")


def same_shape(output: Tensor, target: Tensor) -> Tensor:
    """The targets in the dtype of the outputs. Raises ValueError unless there is one per output."""
    if target.shape != output.shape:  # torch would broadcast (N,) against (N, 1) to (N, N)
        raise ValueError(f"targets of shape {tuple(target.shape)} do not fit outputs of shape {tuple(output.shape)}")
    return target.to(output.dtype)


def labels(output: Tensor, target: Tensor, ignore_index: int | None = None) -> tuple[Tensor, Tensor | None]:
    """(labels in shape and dtype of the outputs, mask of the counted positions (N, 1, …) or None for all).

    Class indices become one-hot, all 0 where they are `ignore_index`; labels stay unchanged.
    """
    if not has_classes(output, target):
        return target.to(output.dtype), None
    target = target.long().unsqueeze(1)
    counts = None
    if ignore_index is not None:
        counts = target != ignore_index
        target = target.where(counts, 0)
    if output.shape[1] == 1:
        return target.to(output.dtype), counts
    ones = torch.ones_like(target, dtype=output.dtype) if counts is None else counts.to(output.dtype)
    return torch.zeros_like(output).scatter(1, target, ones), counts


def broadcast_weights(weights: Tensor | None, output: Tensor, name: str) -> Tensor | None:
    """(C,) → (1, C, 1, …) in the dtype of the outputs. Raises ValueError unless there is one per output."""
    if weights is None:
        return None
    if len(weights) != output.shape[1]:
        raise ValueError(f"{name} has {len(weights)} numbers for {output.shape[1]} outputs")
    return weights.to(output).view(1, -1, *[1] * (output.ndim - 2))


def mean_of(values: Tensor, counts: Tensor | None) -> Tensor:
    """The mean of `values` (N, C, …) over the counted positions (N, 1, …); 0 if there are none."""
    if counts is None:
        return values.mean()
    shares = counts.to(values.dtype).expand_as(values)
    return ratio((values * shares).sum(), shares.sum())


def ratio(total: Tensor, parts: Tensor) -> Tensor:
    """total / parts; 0 with gradient 0 where parts (and total) are 0."""
    return total / parts.where(parts > 0, torch.ones_like(parts))
