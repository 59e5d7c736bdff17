"""Base class and helpers of the losses: float32 outside autocast, two kinds of targets, class weights.

Shapes in this package: outputs are logits (N, C) or (N, C, H, W), with any dimensions after C. Targets are either class
numbers, integers of that shape without C, or labels, a number for every output. With a single output (C = 1), class
numbers 0 and 1 are its label.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

Weights = Tensor | Sequence[float] | None


class LogitsLoss(nn.Module):
    """Computes in float32 also under autocast (in float64 for float64 outputs)."""

    def forward(self, output: Tensor, target: Tensor) -> Tensor:
        with torch.autocast(output.device.type, enabled=False):
            return self.compute(output if output.dtype == torch.float64 else output.float(), target)

    def compute(self, output: Tensor, target: Tensor) -> Tensor:
        raise NotImplementedError

    def register_weights(self, name: str, values: Weights) -> None:
        """Register a buffer `name` (C,), or None. Raises ValueError unless all are finite from 0, and some positive."""
        if values is not None:
            try:
                values = torch.as_tensor(values, dtype=torch.float32)
            except (TypeError, ValueError, RuntimeError) as e:
                raise ValueError(f"{name} is a list of one number for each class, not {values!r}") from e
            if values.ndim != 1 or not bool((values.isfinite() & (values >= 0)).all()) or not bool(values.any()):
                raise ValueError(f"{name} is a list of finite numbers from 0, not all 0; got {values.tolist()}")
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
    """Raises ValueError if `value` is not a whole number."""
    if isinstance(value, bool) or not isinstance(value, int):
        raise ValueError(f"{name} is a whole number, not {value!r}")
    return value


def one_of(name: str, value: str, known: Sequence[str]) -> str:
    """Raises ValueError if `value` is not among the `known`."""
    if value not in known:
        raise ValueError(f"{name} is {' or '.join(known)}, not {value!r}")
    return value


def has_classes(output: Tensor, target: Tensor) -> bool:
    """True for class numbers, False for a number per output. Raises ValueError for anything else."""
    if target.shape == output.shape:
        return False
    if target.ndim == output.ndim - 1 and target.shape == output.shape[:1] + output.shape[2:]:
        if target.is_floating_point() or target.dtype == torch.bool:
            raise ValueError(f"targets of shape {tuple(target.shape)} are class numbers: integers, not {target.dtype}")
        return True
    raise ValueError(f"targets of shape {tuple(target.shape)} do not fit outputs of shape {tuple(output.shape)}")


def same_shape(output: Tensor, target: Tensor) -> Tensor:
    """The targets in the outputs' dtype. Raises ValueError if the shapes differ."""
    if target.shape != output.shape:  # torch would broadcast (N,) against (N, 1) to (N, N)
        raise ValueError(f"targets of shape {tuple(target.shape)} do not fit outputs of shape {tuple(output.shape)}")
    return target.to(output.dtype)


def labels(output: Tensor, target: Tensor, ignore_index: int | None = None) -> tuple[Tensor, Tensor | None]:
    """(labels of the outputs' shape and dtype, mask (N, 1, …) of the positions that count or None for all).

    Class numbers become one-hot, zeros at `ignore_index`.
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
    """(C,) → (1, C, 1, …) in the outputs' dtype. Raises ValueError if the number is wrong."""
    if weights is None:
        return None
    if len(weights) != output.shape[1]:
        raise ValueError(f"{name} holds {len(weights)} numbers for {output.shape[1]} outputs")
    return weights.to(output).view(1, -1, *[1] * (output.ndim - 2))


def mean_of(values: Tensor, counts: Tensor | None) -> Tensor:
    """The mean of `values` (N, C, …) over the mask `counts` (N, 1, …); 0 if it is empty."""
    if counts is None:
        return values.mean()
    shares = counts.to(values.dtype).expand_as(values)
    return ratio((values * shares).sum(), shares.sum())


def ratio(total: Tensor, parts: Tensor) -> Tensor:
    """total / parts, and 0 with gradient 0 where both are 0."""
    return total / parts.where(parts > 0, torch.ones_like(parts))
