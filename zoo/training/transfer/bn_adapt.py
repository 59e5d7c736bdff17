"""Re-estimation of batch-norm statistics on new images (AdaBN, precise batch norm)."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from zoo.errors import TrainingError
from zoo.training.forward_pass import ForwardPass
from zoo.training.microbatch import MicroBatcher
from zoo.training.module_state import eval_mode

_MAX_IMAGES = 10_000  # Wu and Johnson 2021 (2105.07576), section 3: 10^3 to 10^4 images are enough


@dataclass
class _Moments:
    """Values per channel, their mean (C,), and the sum of squared distances from it (C,)."""

    count: int
    mean: Tensor
    squares: Tensor

    def add(self, count: int, mean: Tensor, squares: Tensor) -> None:
        # Chan, Golub and LeVeque 1979: exact for any sizes, and numerically stable, unlike E[x²] − E[x]².
        total = self.count + count
        distance = mean - self.mean
        self.mean += distance * (count / total)
        self.squares += squares + distance.square() * (self.count * count / total)
        self.count = total


@torch.no_grad()
def update_bn_stats(
    forward: ForwardPass, batches: Iterable[tuple[Tensor, Tensor]], *, max_images: int = _MAX_IMAGES
) -> int:
    """Replace mean and variance of every batch norm by those over `batches`; returns the number of layers.

    Mean and unbiased variance are exact over all values, for any batch sizes: not torch's moving average, nor the mean
    of the batches' variances. Each batch norm meanwhile normalizes with its batch's own statistics, as in training
    ("precise batch norm", Wu and Johnson 2021, 2105.07576, section 3; before training it is AdaBN, Li et al. 2016,
    1603.04779). Everything else is in evaluation mode; modes, parameters, gradients and counters are restored. A layer
    without input, and layers that are frozen by type (FrozenBatchNorm2d), keep their statistics.

    Args:
        forward: the model.
        batches: shuffled images (n, C, H, W) uint8 without augmentation, and anything. Batches of one image are left
            out: a batch norm after pooling has no variance there.
        max_images: images after which no batch is read.

    Raises:
        TrainingError: if no batch has two images.
    """
    layers = [m for m in forward.module.modules() if isinstance(m, _BatchNorm) and m.running_mean is not None]
    if not layers:
        return 0
    totals: dict[nn.Module, _Moments] = {}
    batch_moments: dict[nn.Module, _Moments] = {}
    micro_batcher = MicroBatcher()

    def pass_through(images: Tensor, part: slice) -> None:
        batch_moments.clear()  # left over from an attempt that ran out of memory
        forward(images[part])
        for layer, moments in batch_moments.items():
            if layer in totals:
                totals[layer].add(moments.count, moments.mean, moments.squares)
            else:
                totals[layer] = moments

    saved_stats = [(layer.running_mean, layer.running_var, layer.num_batches_tracked) for layer in layers]
    hooks = [layer.register_forward_pre_hook(partial(_measure, batch_moments)) for layer in layers]
    images = 0
    with eval_mode(forward.module):
        try:
            for layer in layers:
                layer.training = True  # not .train(): timm's layers contain an activation and dropout
                # Without running statistics, torch uses the batch's and stores none.
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
            "batch-norm statistics need two images in a batch, and no batch has two", "use a larger --batch-size"
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
    # float32 loses precision when summed over many batches; Apple's devices have no float64.
    precise = torch.float32 if values.device.type == "mps" else torch.float64
    mean, squares = mean.to(precise), variance.to(precise) * count
    if layer in totals:
        totals[layer].add(count, mean, squares)
    else:
        totals[layer] = _Moments(count, mean, squares)
