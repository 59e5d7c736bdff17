"""Standardization of regression targets, folded into the saved weights."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from zoo.errors import ModelError
from zoo.models.heads import output_layers


@dataclass(frozen=True)
class TargetScaler:
    """Mean and standard deviation (K,) float32 of each target over the training images, in the user's units.

    The loss uses (y - mean) / std, so that one learning rate fits all units. The last layer of the saved weights is
    rescaled, so that it returns the user's units.
    """

    mean: Tensor
    std: Tensor

    @classmethod
    def fit(cls, targets: NDArray[Any]) -> TargetScaler:
        """From targets (N, K). A constant target gets std 1."""
        values = torch.from_numpy(np.asarray(targets, dtype=np.float64))
        std = values.std(0, correction=0)
        return cls(values.mean(0).float(), torch.where(std > 0, std, 1.0).float())

    def to(self, device: torch.device) -> TargetScaler:
        return TargetScaler(self.mean.to(device), self.std.to(device))

    def transform(self, values: Tensor) -> Tensor:
        """(n, K) in the user's units → (n, K) with mean 0 and standard deviation 1 over the training images."""
        return (values - self.mean) / self.std

    def inverse_transform(self, outputs: Tensor) -> Tensor:
        """The network's outputs → the user's units."""
        return outputs * self.std + self.mean

    def layers(self, module: nn.Module, head: Sequence[str]) -> tuple[str, ...]:
        """Paths of the output layers. Raises ModelError if one has no bias or is not linear."""
        found = tuple(output_layers(module, head, len(self.mean)))
        if not found or any(module.get_submodule(path).bias is None for path in found):
            raise ModelError(
                "regression needs a head that ends in a linear layer with a bias; this model's does not",
                "choose another model, for example resnet18 or vit_tiny_patch16_224",
            )
        return found

    def fold_into_state(self, state: dict[str, Tensor], layers: Sequence[str]) -> dict[str, Tensor]:
        """`state` with scale and mean multiplied into the weight (K, …) and bias (K,) of each of `layers`."""
        folded = dict(state)
        for path in layers:
            weight, bias = state[f"{path}.weight"], state[f"{path}.bias"]
            std, mean = self.std.to(weight), self.mean.to(weight)
            folded[f"{path}.weight"] = weight * std.view(-1, *[1] * (weight.ndim - 1))
            folded[f"{path}.bias"] = bias * std + mean
        return folded
