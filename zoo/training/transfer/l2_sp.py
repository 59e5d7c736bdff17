"""L2-SP: weight decay towards the pretrained weights instead of towards zero."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from zoo.errors import ModelError


class L2SP:
    """alpha / 2 · Σ ‖w − w0‖² over the backbone + beta / 2 · Σ ‖w‖² over the new head, a scalar to add to the loss.

    Li et al. 2018 (1802.01483), section 3. Only trainable matrices and kernels count, not biases and norms, as in the
    authors' code (holyseven/TransferLearningClassification; its example has alpha 0.1, beta 0.01 and no weight decay).

    Args:
        module: the model on its device.
        start: the pretrained weights w0 by name; other parameters belong to the new head.
        head: names that belong to the new head.

    Raises:
        ModelError: if a tensor of `start` has another shape than the module's.
    """

    def __init__(
        self, module: nn.Module, start: Mapping[str, Tensor], *, head: Collection[str] = (), alpha: float, beta: float
    ) -> None:
        self.alpha, self.beta = alpha, beta
        self._pretrained: list[tuple[Tensor, Tensor]] = []
        self._new: list[Tensor] = []
        for name, parameter in module.named_parameters():
            if parameter.ndim <= 1:
                continue
            if name in head or name not in start:
                self._new.append(parameter)
                continue
            origin = start[name]
            if origin.shape != parameter.shape:
                raise ModelError(
                    f"{name} has shape {tuple(parameter.shape)}, and {tuple(origin.shape)} in the L2-SP start weights",
                    "the start weights must be of the same architecture",
                )
            self._pretrained.append((parameter, origin.detach().to(parameter, copy=True)))

    def __call__(self) -> Tensor:
        """The penalty, a scalar; 0 without gradient if nothing is trained."""
        pretrained = [(p, origin) for p, origin in self._pretrained if p.requires_grad]
        new = [p for p in self._new if p.requires_grad]
        parameters = [p for p, _ in pretrained] + new
        if not parameters:
            return torch.zeros(())
        total: Tensor = _Penalty.apply(self.alpha, self.beta, [origin for _, origin in pretrained], *parameters)
        return total


class _Penalty(torch.autograd.Function):
    """A custom gradient, for speed: one pass over memory each for distances, norms and gradients."""

    @staticmethod
    def forward(ctx: Any, alpha: float, beta: float, origins: list[Tensor], *parameters: Tensor) -> Tensor:
        pretrained, new = list(parameters[: len(origins)]), list(parameters[len(origins) :])
        terms = ((alpha, [*torch._foreach_sub(pretrained, origins)] if pretrained else []), (beta, new))
        total = torch.zeros((), device=parameters[0].device)
        for weight, distances in terms:
            if distances:
                total = total + weight / 2 * torch.stack(torch._foreach_norm(distances)).square().sum()
        ctx.weights = [weight for weight, distances in terms for _ in distances]
        ctx.save_for_backward(*(distance for _, distances in terms for distance in distances))
        return total

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Any, ...]:
        gradients: list[Tensor] = []
        for weight, distance in zip(ctx.weights, ctx.saved_tensors, strict=True):
            gradients.append(distance * (grads[0] * weight))
        return None, None, None, *gradients
