"""Context managers that restore a module's mode, buffers and gradients."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import nn


@contextmanager
def preserve_module_state(module: nn.Module) -> Iterator[None]:
    """Restore buffers and torch's CPU random state; gradients are cleared."""
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
    """Evaluation mode; afterwards each submodule is in its own previous mode."""
    modes = [(submodule, submodule.training) for submodule in module.modules()]
    module.eval()
    try:
        yield
    finally:
        for submodule, training in modes:
            submodule.training = training
