"""Any number of input channels from weights made for another number, by one rule for both libraries.

The rule is timm's (`timm.models.adapt_input_conv`): for one channel the kernels of the source channels are summed, so
that a grey picture gives what the same picture copied into all channels would; for more they are repeated in order and
scaled by source/target channels, which keeps the size of the response. Mean and standard deviation follow: averaged for
one channel, repeated in order otherwise.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

__all__ = ["adapt_kernel", "extend_statistics", "first_convolution", "replace_first_convolution"]


def adapt_kernel(weight: Tensor, channels: int) -> Tensor:
    """(out, source, h, w) → (out, channels, h, w)."""
    from timm.models import adapt_input_conv

    return adapt_input_conv(channels, weight, base_chans=weight.shape[1])


def extend_statistics(values: tuple[float, ...], channels: int) -> tuple[float, ...]:
    """One mean or standard deviation a channel, from those of another number of channels."""
    if len(values) == channels:
        return values
    if channels == 1:
        return (sum(values) / len(values),)
    return tuple(values[i % len(values)] for i in range(channels))


def first_convolution(module: nn.Module) -> str:
    """Path of the first convolution in the order of definition: in torchvision's classifiers the one that sees the
    image.
    """
    paths: list[str] = [path for path, part in module.named_modules() if isinstance(part, nn.Conv2d)]
    return paths[0]


def replace_first_convolution(module: nn.Module, channels: int) -> str:
    """Give `module` a first convolution for `channels`, random with the spread of the one it replaces. Returns its
    path.
    """
    path = first_convolution(module)
    old = module.get_submodule(path)
    assert isinstance(old, nn.Conv2d)
    new = nn.Conv2d(
        channels,
        old.out_channels,
        old.kernel_size,  # type: ignore[arg-type]  # torch annotates the attribute as tuple[int, ...]
        stride=old.stride,  # type: ignore[arg-type]
        padding=old.padding,  # type: ignore[arg-type]
        dilation=old.dilation,  # type: ignore[arg-type]
        bias=old.bias is not None,
        padding_mode=old.padding_mode,
        device=old.weight.device,
    )
    with torch.no_grad():
        if old.weight.device.type != "meta":
            new.weight.normal_(0.0, float(old.weight.std()))
        if old.bias is not None and new.bias is not None:
            new.bias.copy_(old.bias)
    parent, _, name = path.rpartition(".")
    setattr(module.get_submodule(parent), name, new)
    return path
