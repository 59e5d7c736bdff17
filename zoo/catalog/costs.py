"""What one model costs: parameters and multiply-accumulates, counted without computing or storing anything.

The module lives on the meta device, where tensors have shapes and no memory. Multiply-accumulates are half of what
`torch.utils.flop_counter.FlopCounterMode` counts: convolutions, matrix products and attention (its two products
included), not norms, activations or pooling. That is the convention of the papers that print GMACs; ResNet-50 gives
4.09.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import nn

__all__ = ["count_macs", "count_params", "why_uncountable"]


def count_params(module: nn.Module) -> int:
    """Parameters of `module`, shared ones once; buffers such as batch-norm statistics are not parameters."""
    return sum(p.numel() for p in module.parameters())


def count_macs(module: nn.Module, input_size: tuple[int, int, int]) -> int:
    """Multiply-accumulates of one image of `input_size` (C, H, W) in evaluation mode.

    Moves `module` to the meta device: give one that is not needed afterwards. Raises what its forward raises there.
    """
    import torch
    from torch.utils.flop_counter import FlopCounterMode

    module.eval().to("meta")
    # Gradients stay enabled: without them some models (pit) and torch's fused attention take paths that the meta
    # device or the counter does not know.
    counter = FlopCounterMode(display=False)
    with counter:
        module(torch.empty(1, *input_size, device="meta"))
    return int(counter.get_total_flops()) // 2


def why_uncountable(error: Exception) -> str:
    """One line of `error` for a log."""
    first = str(error).strip().splitlines() or [""]
    return f"{type(error).__name__}: {first[0][:160]}"
