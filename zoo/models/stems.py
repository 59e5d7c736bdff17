"""Adapt pretrained weights to another number of input channels, by one rule for both libraries.

Filters for S channels become filters for C channels:

    auto     timm's choice (`timm.models.adapt_input_conv`): sum for one channel, repeat for others
    sum      one channel with the sum: the response to a grey image equals that to S copies of it
    repeat   the channels repeated in order, times S/C: the scale of the response is preserved (exactly for equal
             channels if C is a multiple of S)
    mean     the source channels, and their mean for each new one, times S/C: equal channels give the same response;
             with fewer channels than in the source, all are the mean
    zero     the first channels unchanged, new ones zero: a new channel has no effect before training

Mean and standard deviation of the images are adapted alike: repeated in order for `repeat`; for the other rules
existing channels keep theirs, and new ones get the average.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal, get_args

import torch
from torch import Tensor, nn

from zoo.errors import ModelError

StemRule = Literal["auto", "sum", "repeat", "mean", "zero"]


def resolve_stem_rule(rule: str, channels: int) -> StemRule:
    """`rule`, with `auto` resolved for `channels`. Raises ModelError for an unknown rule, or one that does not support
    `channels`.
    """
    known = get_args(StemRule)
    if rule not in known:
        raise ModelError(f"no stem rule {rule!r}", f"choose one of {', '.join(known)}")
    if rule == "sum" and channels != 1:
        raise ModelError(f"the stem rule sum supports 1 channel, not {channels}", "use repeat, mean or zero")
    if rule == "auto":
        return "sum" if channels == 1 else "repeat"
    return rule  # type: ignore[return-value]  # checked above


def adapt_kernel(weight: Tensor, channels: int, rule: str = "auto", *, source: int | None = None) -> Tensor:
    """Adapt a convolution weight (out, S, h, w) → (out, C, h, w), in the same dtype, to `channels`, C.

    source: image channels that `weight` was made for, if different from S: a stem that folds k x k pixels into channels
    has S = k·k·source, with the image channels last, and every pixel is adapted.
    """
    source_channels = weight.shape[1] if source is None else source
    if source_channels == channels:
        return weight
    # (out, pixels, source, …); half precision is summed in float32, as in timm.
    kernel = weight.float().reshape(weight.shape[0], -1, source_channels, *weight.shape[2:])
    return _adapt(kernel, channels, resolve_stem_rule(rule, channels)).flatten(1, 2).to(weight.dtype)


def adapt_patches(weight: Tensor, channels: int, rule: str, *, source: int, channels_last: bool) -> Tensor:
    """Adapt the weight of a linear patch embedding, (out, P·S) → (out, P·C) for patches of P pixels.

    channels_last: a patch is (pixels, channels) (NaFlexVit), else (channels, pixels) (Gemma 4).
    """
    pixels = weight.shape[1] // source
    folded = weight.view(weight.shape[0], pixels, source).mT if channels_last else weight.view(-1, source, pixels)
    adapted = adapt_kernel(folded.unsqueeze(-1), channels, rule).squeeze(-1)
    return (adapted.mT if channels_last else adapted).flatten(1)


def adapt_stems(model: nn.Module, tensors: dict[str, Tensor], paths: Sequence[str], channels: int, rule: str) -> None:
    """Replace the weights of the stems `paths` in `tensors` by weights for `channels` image channels.

    model: the model of `channels` image channels; stems that are not convolutions are linear patch embeddings.
    """
    source = _channels_in(model, tensors, paths, channels)
    for path in paths:
        key = f"{path}.weight"
        if key not in tensors or source == channels:
            continue
        if tensors[key].ndim == 4:
            tensors[key] = adapt_kernel(tensors[key], channels, rule, source=source)
        elif (channels_last := _folded_patches(model, path)) is not None:
            tensors[key] = adapt_patches(tensors[key], channels, rule, source=source, channels_last=channels_last)


def _channels_in(model: nn.Module, tensors: Mapping[str, Tensor], stems: Sequence[str], in_chans: int) -> int:
    """Image channels of the file's stem, from the ratio of filter channels to image channels in the model."""
    for path in stems:
        kernel = tensors.get(f"{path}.weight")
        if kernel is None:
            continue
        module = model.get_submodule(path)
        if isinstance(module, nn.Conv2d) and kernel.ndim == 4:
            # A stem that folds pixels into channels has several per image channel.
            return max(1, kernel.shape[1] * in_chans * module.groups // module.in_channels)
        if isinstance(module, nn.Linear) and kernel.ndim == 2 and _folded_patches(model, path) is not None:
            return max(1, kernel.shape[1] * in_chans // module.in_features)
    return in_chans


def _folded_patches(model: nn.Module, path: str) -> bool | None:
    """Whether a linear patch embedding has the channels last; None for any other module."""
    embedding = model.get_submodule(path.rpartition(".")[0])
    if type(embedding).__name__ == "Gemma4PatchEmbed":
        return False
    channels_last = getattr(embedding, "channels_last", None)
    return bool(channels_last) if type(embedding).__name__ == "NaFlexEmbeds" and channels_last is not None else None


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
    """Mean or standard deviation per channel, for another number of channels."""
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
    """Path of the first convolution in the order of definition, which is the stem in torchvision's classifiers."""
    paths: list[str] = [path for path, part in module.named_modules() if isinstance(part, nn.Conv2d)]
    return paths[0]


def replace_first_convolution(module: nn.Module, channels: int) -> str:
    """Replace the first convolution by a random one for `channels`, with the same std; return its path."""
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
