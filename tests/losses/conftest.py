from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor


@pytest.fixture
def sample() -> Callable[..., tuple[Tensor, Tensor]]:
    """(outputs, targets) of a task and a shape (N, C, …), fixed by the seed."""

    def draw(
        task: str, shape: tuple[int, ...], seed: int = 0, dtype: torch.dtype = torch.float32
    ) -> tuple[Tensor, Tensor]:
        random = torch.Generator().manual_seed(seed)
        output = torch.randn(shape, generator=random, dtype=dtype)
        if task == "single-label":
            return output, torch.randint(shape[1], shape[:1] + shape[2:], generator=random)
        if task == "multi-label":
            return output, torch.randint(2, shape, generator=random).to(dtype)
        return output, torch.randn(shape, generator=random, dtype=dtype)

    return draw
