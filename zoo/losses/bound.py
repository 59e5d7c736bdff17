"""A user's function with its parameters."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from torch import Tensor, nn

from zoo.losses.check import loss_name


class BoundFunction(nn.Module):
    """Calls `function(output, target, **params)`. Tensors among the parameters move with `.to(device)`."""

    def __init__(self, function: Callable[..., Tensor], params: Mapping[str, Any]) -> None:
        super().__init__()
        self.function = function
        self.params = {k: v for k, v in params.items() if not isinstance(v, Tensor)}
        for name, value in params.items():
            if isinstance(value, Tensor):
                self.register_buffer(f"tensor_{name}", value)
        self._tensors = tuple(k for k, v in params.items() if isinstance(v, Tensor))
        # Messages name the function, as the user wrote it.
        self.__name__ = loss_name(function)

    def forward(self, output: Tensor, target: Tensor) -> Tensor:
        tensors = {name: self.get_buffer(f"tensor_{name}") for name in self._tensors}
        return self.function(output, target, **self.params, **tensors)
