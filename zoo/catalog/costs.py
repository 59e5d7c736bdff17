"""Costs of a model: parameters and multiply-accumulates (MACs), counted on the meta device.

MACs are half of the FLOPs of `torch.utils.flop_counter.FlopCounterMode`: convolutions, matrix products and attention
(both of its products), not norms, activations or pooling, as in papers that state GMACs. ResNet-50 has 4.09 GMACs.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import nn

__all__ = ["count_macs", "count_params", "why_uncountable"]


def count_params(module: nn.Module) -> int:
    """Number of parameters, shared ones counted once; buffers such as batch-norm statistics are not parameters."""
    return sum(p.numel() for p in module.parameters())


def count_macs(module: nn.Module, input_size: tuple[int, int, int]) -> int:
    """Multiply-accumulates for one image of `input_size` (C, H, W) in evaluation mode.

    Moves `module` to the meta device, and raises what its forward pass raises there.
    """
    import torch
    from torch.utils.flop_counter import FlopCounterMode

    module.eval().to("meta")
    # Gradients stay enabled: without them some models (pit) and torch's fused attention use operations that the meta
    # device or the counter does not support.
    counter = FlopCounterMode(display=False)
    with counter:
        module(torch.empty(1, *input_size, device="meta"))
    return int(counter.get_total_flops()) // 2


def why_uncountable(error: Exception) -> str:
    """The error in one line."""
    first = str(error).strip().splitlines() or [""]
    return f"{type(error).__name__}: {first[0][:160]}"
