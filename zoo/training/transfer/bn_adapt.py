"""Batch-norm statistics measured anew on the images at hand."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from zoo.errors import TrainingError
from zoo.training.inference import Normalize
from zoo.training.microbatch import MicroBatcher
from zoo.training.module_state import eval_mode

__all__ = ["update_bn_stats"]

_MAX_IMAGES = 10_000  # Wu and Johnson 2021 (2105.07576), section 3: 10^3 to 10^4 images are enough


@dataclass
class _Moments:
    """Of what a layer has met: values a channel, their mean (C,), and the sum of squared distances from it (C,)."""

    count: int
    mean: Tensor
    squares: Tensor

    def add(self, count: int, mean: Tensor, squares: Tensor) -> None:
        # Chan, Golub and LeVeque 1979: exact for parts of any size, and stable where E[x²] − E[x]² is not.
        total = self.count + count
        distance = mean - self.mean
        self.mean += distance * (count / total)
        self.squares += squares + distance.square() * (self.count * count / total)
        self.count = total


@torch.no_grad()
def update_bn_stats(
    module: nn.Module,
    batches: Iterable[tuple[Tensor, Tensor]],
    normalize: Normalize,
    *,
    device: torch.device,
    amp_dtype: torch.dtype | None = None,
    max_images: int = _MAX_IMAGES,
) -> int:
    """Replace mean and variance of every batch norm by those over the images of `batches`; returns how many layers.

    batches: (images (n, C, H, W) uint8, anything), shuffled, without augmentation. No batch is read once `max_images`
    are; those of one image are left out, because a batch norm over pooled features has no variance there.

    Each layer's mean and (unbiased) variance are exact over all values that it meets, whatever the sizes of the
    batches: not torch's moving average, and not the mean of the batches' variances, which lacks the variance between
    them. While measuring, each batch norm works on its batch's own statistics, as in training: layers see what the
    ones before them give then ("precise batch norm", Wu and Johnson 2021, 2105.07576, section 3; before training it
    is AdaBN, Li et al. 2016, 1603.04779). Batches like those of training are therefore best.

    All kinds of torch's batch norm that keep statistics, subclasses included, frozen by a plan or not; those called
    frozen by type (FrozenBatchNorm2d) are not among them. Everything else is in evaluation mode; modes, parameters,
    gradients and the layers' counters come out as they went in. A layer that met nothing keeps its statistics.

    A batch that memory refuses is halved, and those behind it as well.

    Raises TrainingError if there are no two images in any batch.
    """
    layers = [part for part in module.modules() if isinstance(part, _BatchNorm) and part.running_mean is not None]
    if not layers:
        return 0
    totals: dict[nn.Module, _Moments] = {}
    batch_moments: dict[nn.Module, _Moments] = {}
    micro_batcher = MicroBatcher()

    def pass_through(images: Tensor, part: slice) -> None:
        batch_moments.clear()  # what an attempt that memory has refused left behind
        with torch.autocast(device.type, dtype=amp_dtype, enabled=amp_dtype is not None):
            module(normalize(images[part].to(device, non_blocking=True)))
        for layer, moments in batch_moments.items():
            if layer in totals:
                totals[layer].add(moments.count, moments.mean, moments.squares)
            else:
                totals[layer] = moments

    saved_stats = [(layer.running_mean, layer.running_var, layer.num_batches_tracked) for layer in layers]
    hooks = [layer.register_forward_pre_hook(partial(_measure, batch_moments)) for layer in layers]
    images = 0
    with eval_mode(module):
        try:
            for layer in layers:
                layer.training = True  # of itself: timm's carry an activation and a dropout inside
                # Without them torch uses the batch's statistics and writes none.
                layer.running_mean = layer.running_var = layer.num_batches_tracked = None
            for on_host, _ in batches:
                if len(on_host) < 2:
                    continue
                micro_batcher.each(len(on_host), partial(pass_through, on_host))
                images += len(on_host)
                if images >= max_images:
                    break
        finally:
            for hook in hooks:
                hook.remove()
            for layer, (mean, variance, tracked) in zip(layers, saved_stats, strict=True):
                layer.running_mean, layer.running_var, layer.num_batches_tracked = mean, variance, tracked
    if not images:
        raise TrainingError(
            "batch-norm statistics need two images in a batch, and no batch has them", "use a larger --batch-size"
        )
    for layer in layers:
        moments = totals.get(layer)
        if moments is not None and layer.running_mean is not None and layer.running_var is not None:
            layer.running_mean.copy_(moments.mean)
            layer.running_var.copy_(moments.squares / max(moments.count - 1, 1))
    return len(totals)


def _measure(totals: dict[nn.Module, _Moments], layer: nn.Module, inputs: tuple[Any, ...]) -> None:
    values = inputs[0].float()
    others = [d for d in range(values.ndim) if d != 1]
    variance, mean = torch.var_mean(values, dim=others, correction=0)
    count = values.numel() // values.shape[1]
    # Summed over many batches: single precision would lose the small ones; Apple's devices have no other.
    precise = torch.float32 if values.device.type == "mps" else torch.float64
    mean, squares = mean.to(precise), variance.to(precise) * count
    if layer in totals:
        totals[layer].add(count, mean, squares)
    else:
        totals[layer] = _Moments(count, mean, squares)
