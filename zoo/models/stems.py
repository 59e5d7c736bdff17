"""Any number of input channels from weights made for another number, by one named rule for both libraries.

Kernels of S source channels become kernels of C channels:

    auto     timm's choice (`timm.models.adapt_input_conv`), and the default: sum for one channel, repeat for others
    sum      one channel that holds the sum: a grey image gives what it would give copied into all S channels
    repeat   the channels in order, again and again, times S/C: the response keeps its size (exactly, for equal
             channels, if C is a multiple of S)
    mean     the source channels, and for each new one their mean, times S/C: equal channels give the same response;
             with fewer channels than the source had, all are the mean
    zero     the first channels as they are, new ones zero: a new channel changes nothing before it is trained

Mean and standard deviation of the pixels follow: repeated in order under `repeat`; under the other rules the channels
that are kept keep theirs, and new ones get the average.
"""

from __future__ import annotations

from typing import Literal, get_args

import torch
from torch import Tensor, nn

from zoo.errors import ModelError

__all__ = [
    "StemRule",
    "adapt_kernel",
    "adapt_patches",
    "extend_statistics",
    "first_convolution",
    "replace_first_convolution",
    "resolve_stem_rule",
]

StemRule = Literal["auto", "sum", "repeat", "mean", "zero"]


def resolve_stem_rule(rule: str, channels: int) -> StemRule:
    """`rule` with `auto` settled for an image of `channels`. Raises ModelError for a rule that does not exist, or that
    makes another number of channels.
    """
    known = get_args(StemRule)
    if rule not in known:
        raise ModelError(f"no stem rule {rule!r}", f"the rules are {', '.join(known)}")
    if rule == "sum" and channels != 1:
        raise ModelError(f"the stem rule sum makes 1 channel, not {channels}", "use repeat, mean or zero")
    if rule == "auto":
        return "sum" if channels == 1 else "repeat"
    return rule  # type: ignore[return-value]  # one of them, as was checked above


def adapt_kernel(weight: Tensor, channels: int, rule: str = "auto", *, source: int | None = None) -> Tensor:
    """(out, S, h, w) → (out, C, h, w), in the dtype of `weight`; unchanged if the file has that many channels already.

    source: channels of the images that `weight` was made for, where they differ from S: a stem that folds squares of
    k x k pixels into channels has S = k·k·source, the image's channels running fastest, and each pixel is adapted.
    """
    source_channels = weight.shape[1] if source is None else source
    if source_channels == channels:
        return weight
    # (out, pixels, source, …); half precision is summed in float, as timm does.
    kernel = weight.float().reshape(weight.shape[0], -1, source_channels, *weight.shape[2:])
    return _adapt(kernel, channels, resolve_stem_rule(rule, channels)).flatten(1, 2).to(weight.dtype)


def adapt_patches(weight: Tensor, channels: int, rule: str, *, source: int, channels_last: bool) -> Tensor:
    """(out, P·S) → (out, P·C): the weight of a linear stem on flattened patches of P pixels, each pixel adapted.

    channels_last: the patch is (pixels, channels), the channel running fastest (NaFlexVit), else (channels, pixels)
    (Gemma 4).
    """
    pixels = weight.shape[1] // source
    folded = weight.view(weight.shape[0], pixels, source).mT if channels_last else weight.view(-1, source, pixels)
    adapted = adapt_kernel(folded.unsqueeze(-1), channels, rule).squeeze(-1)
    return (adapted.mT if channels_last else adapted).flatten(1)


def _adapt(kernel: Tensor, channels: int, rule: StemRule) -> Tensor:
    source = kernel.shape[2]
    if rule == "sum":
        return kernel.sum(2, keepdim=True)
    if rule == "repeat":
        repeats = [1, 1, -(-channels // source)] + [1] * (kernel.ndim - 3)
        return kernel.repeat(repeats)[:, :, :channels] * (source / channels)
    new = kernel.mean(2, keepdim=True) if rule == "mean" else torch.zeros_like(kernel[:, :, :1])
    if rule == "mean" and channels < source:
        return new.expand(-1, -1, channels, *kernel.shape[3:]) * (source / channels)
    copied = kernel[:, :, :channels]
    extended = torch.cat([copied, new.expand(-1, -1, channels - copied.shape[2], *kernel.shape[3:])], dim=2)
    return extended * (source / channels) if rule == "mean" else extended


def extend_statistics(values: tuple[float, ...], channels: int, rule: str = "auto") -> tuple[float, ...]:
    """One mean or standard deviation a channel, from those of another number of channels."""
    if len(values) == channels:
        return values
    average = sum(values) / len(values)
    resolved = resolve_stem_rule(rule, channels)
    if resolved == "sum" or (resolved == "mean" and channels < len(values)):
        return (average,) * channels
    if resolved == "repeat":
        return tuple(values[i % len(values)] for i in range(channels))
    return (values + (average,) * channels)[:channels]


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
