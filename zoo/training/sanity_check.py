"""One step on a few images before anything is written: early errors are reported here."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

import torch
from torch import Tensor, nn

from zoo.errors import ModelError, UsageError
from zoo.losses.check import check_value, loss_name
from zoo.training.forward_pass import total_loss
from zoo.training.inference import Normalize
from zoo.training.microbatch import is_out_of_memory
from zoo.training.module_state import preserve_module_state

T = TypeVar("T")


def has_unused_parameters(module: nn.Module, step: Callable[[Tensor], Tensor], images: Tensor) -> bool:
    """Whether a trainable parameter gets no gradient from `step(images)`; call it in `preserve_module_state`."""
    step(images).backward()  # type: ignore[no-untyped-call]
    return any(p.requires_grad and p.grad is None for p in module.parameters())


def check_step(
    module: nn.Module,
    normalize: Normalize,
    loss: Callable[[Tensor, Tensor], Tensor],
    images: Tensor,
    targets: Tensor,
    *,
    auxiliary: float = 0.0,
    callback: Callable[[Callable[[Tensor], Tensor]], T],
) -> T:
    """Forward pass and loss of `images` (n, C, H, W) uint8 with `targets` (n,) on the module's device; then
    `callback(step)`, where `step(images) → loss` computes the same, with the targets repeated. The module is unchanged.

    auxiliary: weight of auxiliary heads' losses. Out-of-memory errors pass.

    Raises ModelError if the model cannot take images of this size, UsageError if the loss fails or is no scalar tensor,
    TrainingError if it is not finite.
    """
    with preserve_module_state(module):
        try:
            output = module(normalize(images))
        except (RuntimeError, ValueError, AssertionError, IndexError) as e:
            if is_out_of_memory(e):
                raise
            size = "x".join(map(str, images.shape[1:]))
            raise ModelError(
                f"the model cannot take {size} images: {str(e).strip().splitlines()[0]}",
                "choose another --img-size (the model's own is shown by `zoo inspect`) or a smaller --batch-size",
            ) from e
        logits = output[0] if isinstance(output, tuple) else output
        name = loss_name(loss)
        try:
            _, first = total_loss(output, targets, loss, auxiliary)
        except (RuntimeError, ValueError, TypeError, IndexError, AttributeError) as e:
            if is_out_of_memory(e):
                raise
            raise UsageError(
                f"the loss {name} failed on logits {tuple(logits.shape)} and targets {tuple(targets.shape)}: {e}",
                "a loss takes (output, target) and returns a scalar tensor",
            ) from e
        check_value(first, loss, logits, finite=True)

        def step(sample: Tensor) -> Tensor:
            indices = torch.arange(len(sample), device=targets.device) % len(targets)
            return total_loss(module(normalize(sample)), targets[indices], loss, auxiliary)[1]

        return callback(step)
