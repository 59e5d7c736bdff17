"""An optimizer without parameters, for a schedule to be tried on."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch.optim import Optimizer

__all__ = ["StandIn"]


class StandIn(Optimizer):
    """Has the groups of another one with all their settings, and nothing to learn."""

    def __init__(self, of: Optimizer) -> None:
        groups = [
            {**{k: v for k, v in group.items() if k != "params"}, "params": [torch.zeros(())]}
            for group in of.param_groups
        ]
        super().__init__(groups, dict(of.defaults))

    def step(self, closure: Callable[[], Any] | None = None) -> None:  # type: ignore[override]
        """Nothing moves."""
