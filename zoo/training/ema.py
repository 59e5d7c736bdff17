"""Exponential moving average (EMA) of the weights."""

from __future__ import annotations

import copy
from collections.abc import Mapping

import torch
from torch import Tensor, nn

from zoo.errors import ModelError

_COUNT = "updates"
_PREFIX = "module."


class ExponentialMovingAverage:
    """`module`: a copy in evaluation mode, the average of the weights and of floating-point buffers in the state dict.

    average ← d · average + (1 − d) · weights after every step, d = min(decay, (1 + t) / (10 + t)) with t updates done
    (the warm-up of tf.train.ExponentialMovingAverage). Other buffers are copied. timm's ModelEmaV3 and torch's
    AveragedModel have other warm-ups; one updates tied weights twice, the other averages constants such as −inf masks.
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
        """Average with the weights of `module`, of the same structure and on the same device."""
        weight = 1 - min(self.decay, (1 + self.num_updates) / (10 + self.num_updates))
        self.num_updates += 1
        state_keys = self.module.state_dict(keep_vars=True).keys()
        averages: list[Tensor] = list(self.module.parameters())
        currents: list[Tensor] = [p.detach() for p in module.parameters()]
        for (name, average), (_, current) in zip(self.module.named_buffers(), module.named_buffers(), strict=True):
            # A non-persistent buffer is a constant; it may be infinite, and then its average is NaN.
            if average.is_floating_point() and name in state_keys:
                averages.append(average)
                currents.append(current)
            else:
                average.copy_(current)
        torch._foreach_lerp_(averages, currents, weight)

    def state(self) -> dict[str, Tensor]:
        """For the checkpoint: "module.NAME" and the number of updates, int64 ()."""
        found = {_PREFIX + name: tensor for name, tensor in self.module.state_dict().items()}
        return {**found, _COUNT: torch.tensor(self.num_updates)}

    def load(self, state: Mapping[str, Tensor]) -> None:
        """Restore `state()`. Raises ModelError if the structure differs."""
        tensors = {name.removeprefix(_PREFIX): tensor for name, tensor in state.items() if name != _COUNT}
        try:
            self.module.load_state_dict(tensors)
            self.num_updates = int(state[_COUNT])
        except (RuntimeError, KeyError) as e:
            raise ModelError(
                "the moving average in the checkpoint does not fit this model", "resume with the recipe of the run"
            ) from e
