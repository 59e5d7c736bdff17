"""Evaluation mode for a while."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import nn

__all__ = ["eval_mode", "preserve_module_state"]


@contextmanager
def preserve_module_state(module: nn.Module) -> Iterator[None]:
    """Buffers (batch-norm statistics), gradients and torch's CPU random state come out as they went in."""
    saved_buffers = {name: buffer.clone() for name, buffer in module.named_buffers()}
    with torch.random.fork_rng(devices=[]):
        try:
            yield
        finally:
            module.zero_grad(set_to_none=True)
            with torch.no_grad():
                for name, buffer in module.named_buffers():
                    buffer.copy_(saved_buffers[name])


@contextmanager
def eval_mode(module: nn.Module) -> Iterator[None]:
    """`module` in evaluation mode inside; afterwards every part is in the mode that it had, frozen ones included."""
    modes = [(submodule, submodule.training) for submodule in module.modules()]
    module.eval()
    try:
        yield
    finally:
        for submodule, training in modes:
            submodule.training = training
