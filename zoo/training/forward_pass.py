"""The forward pass of a model on its device, and the loss of its output."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from zoo.losses.check import check_value
from zoo.training.inference import Normalize


@dataclass(frozen=True)
class ForwardPass:
    """Images (n, C, H, W) uint8 → the output of `module`, under autocast to `amp_dtype` (None: float32)."""

    module: nn.Module
    normalize: Normalize
    device: torch.device
    amp_dtype: torch.dtype | None = None

    def autocast(self) -> torch.autocast:
        return torch.autocast(self.device.type, dtype=self.amp_dtype, enabled=self.amp_dtype is not None)

    def __call__(self, images: Tensor) -> Tensor:
        with self.autocast():
            output: Tensor = self.module(self.normalize(images.to(self.device, non_blocking=True)))
        return output


def total_loss(
    output: Any, target: Tensor, loss: Callable[[Tensor, Tensor], Tensor], auxiliary: float
) -> tuple[Tensor, Tensor]:
    """The logits (N, K) of the main head, and the scalar to minimize.

    In training mode, a module with auxiliary heads returns `(logits, [auxiliary logits, ...])`: the loss of each is
    added, times `auxiliary` (Szegedy et al. 2015, 2016). Raises UsageError if `loss` does not return a scalar tensor.
    """
    logits, others = output if isinstance(output, tuple) else (output, [])
    logits = logits.float()  # losses need more precision than bf16 and fp16 have
    total = loss(logits, target)
    check_value(total, loss, logits)
    for other in others:
        total = total + auxiliary * loss(other.float(), target)
    return logits, total
