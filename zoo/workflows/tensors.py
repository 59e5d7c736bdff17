"""The numbers in a tensor, summed up."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from torch import Tensor

__all__ = ["TensorSummary", "summarise"]


@dataclass(frozen=True)
class TensorSummary:
    """mean and std (of the whole tensor, the population's) are None for an empty tensor."""

    name: str
    shape: tuple[int, ...]
    dtype: str
    mean: float | None
    std: float | None

    def to_dict(self) -> dict[str, Any]:
        return {
            "name": self.name,
            "shape": list(self.shape),
            "dtype": self.dtype,
            "mean": self.mean,
            "std": self.std,
        }


def summarise(tensors: Mapping[str, Tensor]) -> tuple[TensorSummary, ...]:
    """One summary for each tensor, in the given order."""
    return tuple(
        TensorSummary(
            name=name,
            shape=tuple(tensor.shape),
            dtype=str(tensor.dtype).removeprefix("torch."),
            mean=float(tensor.detach().double().mean()) if tensor.numel() else None,
            std=float(tensor.detach().double().std(correction=0)) if tensor.numel() else None,
        )
        for name, tensor in tensors.items()
    )
