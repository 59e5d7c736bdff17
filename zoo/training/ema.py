"""A moving average of the weights, which is often the better model early in training."""

from __future__ import annotations

import copy
from collections.abc import Mapping

import torch
from torch import Tensor, nn

from zoo.errors import ModelError

__all__ = ["ExponentialMovingAverage"]

_COUNT = "updates"
_PREFIX = "module."


class ExponentialMovingAverage:
    """`module`: a copy of a module, in evaluation mode and without gradients, that follows the module's weights.

    average ← d · average + (1 − d) · weights after every update, for parameters and for buffers of floating type that
    the state dict holds (batch-norm statistics); other buffers are copied. d = min(decay, (1 + t) / (10 + t)), t
    updates done before: TensorFlow's warm-up (tf.train.ExponentialMovingAverage, `num_updates`), without which the
    starting weights would weigh decay^t for thousands of steps.
    """

    def __init__(self, module: nn.Module, decay: float) -> None:
        self.decay = decay
        self.num_updates = 0
        self.module = copy.deepcopy(module).eval()
        for parameter in self.module.parameters():
            parameter.requires_grad_(False)
            parameter.grad = None

    @torch.no_grad()
    def update(self, module: nn.Module) -> None:
        """Move a step towards `module`, which has the structure and the devices of the one it was made from."""
        weight = 1 - min(self.decay, (1 + self.num_updates) / (10 + self.num_updates))
        self.num_updates += 1
        state_keys = self.module.state_dict(keep_vars=True).keys()
        averages: list[Tensor] = []
        currents: list[Tensor] = []
        for (_, average), (_, current) in zip(self.module.named_parameters(), module.named_parameters(), strict=True):
            averages.append(average)
            currents.append(current.detach())
        for (name, average_), (_, current_) in zip(self.module.named_buffers(), module.named_buffers(), strict=True):
            # A table that no state dict holds is a constant, and may hold infinities, which do not average.
            if average_.is_floating_point() and name in state_keys:
                averages.append(average_)
                currents.append(current_)
            else:
                average_.copy_(current_)
        torch._foreach_lerp_(averages, currents, weight)

    @torch.no_grad()
    def reset(self, module: nn.Module) -> None:
        """Start anew from the weights that `module` has now."""
        self.num_updates = 0
        for parameter, current in zip(self.module.parameters(), module.parameters(), strict=True):
            parameter.copy_(current)
        for buffer, current_ in zip(self.module.buffers(), module.buffers(), strict=True):
            buffer.copy_(current_)

    def state(self) -> dict[str, Tensor]:
        """For the checkpoint: the average's tensors as "module.NAME" and the number of updates, int64 ()."""
        found = {_PREFIX + name: tensor for name, tensor in self.module.state_dict().items()}
        return {**found, _COUNT: torch.tensor(self.num_updates)}

    def load(self, state: Mapping[str, Tensor]) -> None:
        """Continue from what `state()` gave. Raises ModelError if it is of another structure."""
        tensors = {name.removeprefix(_PREFIX): tensor for name, tensor in state.items() if name != _COUNT}
        try:
            self.module.load_state_dict(tensors)
            self.num_updates = int(state[_COUNT])
        except (RuntimeError, KeyError) as e:
            raise ModelError(
                "the checkpoint's moving average does not fit this model", "resume with the recipe of the run"
            ) from e
