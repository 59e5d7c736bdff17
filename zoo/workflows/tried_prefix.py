"""What a network's frozen beginning is, found and timed once for each model, plan and machine."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass

import timm
import torch
import torchvision
from torch import Tensor

from zoo.models import Model, record
from zoo.strategy.freeze import FreezePlan
from zoo.training.kept_features import seconds_an_image
from zoo.training.measured import machine, recall, remember
from zoo.training.pieces import AtOnce
from zoo.training.prefix import Prefix, find_prefix

__all__ = ["TriedPrefix", "try_prefix"]

_TRIED = 3  # images


@dataclass(frozen=True)
class TriedPrefix:
    """seconds: that it takes for an image. dtype, channels_last, row_bytes: of the features."""

    prefix: Prefix
    seconds: float
    dtype: torch.dtype
    channels_last: bool

    @property
    def row_bytes(self) -> int:
        return self.prefix.numbers * self.dtype.itemsize


def try_prefix(model: Model, plan: FreezePlan, images: Tensor, amp_dtype: torch.dtype | None) -> TriedPrefix | None:
    """`find_prefix` and `seconds_an_image` for normalised `images` (n, C, H, W), or what an earlier run found.

    The module is in the training mode of `plan`. Weights do not matter: that two ways of computing are the same is a
    matter of the structure, and so is the time.
    """
    module = model.module
    key = {
        "model": record(model),
        "frozen": sorted(plan.frozen),
        "training": module.training,
        "image": list(images.shape[1:]),
        "last": images.is_contiguous(memory_format=torch.channels_last),
        "amp": str(amp_dtype),
        "versions": [torch.__version__, torchvision.__version__, timm.__version__],
        **machine(images.device),
    }
    with suppress(KeyError, TypeError, ValueError, AttributeError):
        if known := recall("prefix", key):
            prefix = Prefix.from_dict(module, known["prefix"])
            module.get_submodule(prefix.end)
            return TriedPrefix(prefix, known["seconds"], getattr(torch, known["dtype"]), known["channels_last"])
    found = find_prefix(module, plan.frozen_modules, images[:_TRIED])
    if found is None:
        return None
    seconds, features = AtOnce().first(len(images), lambda n: seconds_an_image(found, images[:n], amp_dtype))
    last = features.ndim == 4 and features.is_contiguous(memory_format=torch.channels_last)
    tried = TriedPrefix(found, seconds, features.dtype, last and not features.is_contiguous())
    if said := found.to_dict():
        dtype = str(tried.dtype).removeprefix("torch.")
        remember(
            "prefix", key, {"prefix": said, "seconds": seconds, "dtype": dtype, "channels_last": tried.channels_last}
        )
    return tried
