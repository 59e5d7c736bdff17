"""Resizing an array of bytes as Pillow does, to within a grey level or two, the fastest way that the processor has."""

from __future__ import annotations

import math
from functools import cache

import numpy as np
from PIL import Image

from zoo.arrays import Pixels
from zoo.augment.view import Window, to_array, to_pil

__all__ = ["horizontal_flip", "resize", "resize_and_crop"]


# PyTorch's names of the filters that it has as Pillow does, averaging over the source pixels where it shrinks.
_TORCH = {Image.Resampling.BILINEAR: "bilinear", Image.Resampling.BICUBIC: "bicubic"}


def resize(
    pixels: Pixels, size: tuple[int, int], resample: Image.Resampling, box: tuple[float, float, float, float]
) -> Pixels:
    """The part `box` (left, top, right, bottom) of (H, W, C) with 1 or 3 channels → (*size, C), a copy.

    On processors with AVX2 PyTorch needs a third of Pillow's time (300x400 to 224x224 in RGB: 0.23 for 0.75 ms), on
    others more. Its weights have 8 bits or more where Pillow's have 22, so that a few levels in a thousand differ, by 1
    (bilinear) or 2 (bicubic): 70 dB or more. It knows no parts of a pixel: for a box with such, and for other filters,
    Pillow does it.
    """
    # No pixel from outside may bleed in, as in torchvision's crops.
    left, top, right, bottom = box
    x, y = int(left), int(top)
    part = pixels[y : math.ceil(bottom), x : math.ceil(right)]
    # One copy, as the part may lie apart in memory, upside down, or not to be written to.
    part = np.array(part, order="C")
    mode = _TORCH.get(resample)
    if mode is None or any(side % 1 for side in box) or not _has_fast_torch():
        end_x, end_y = min(right - x, part.shape[1]), min(bottom - y, part.shape[0])
        image = to_pil(part).resize(size[::-1], resample, (left - x, top - y, end_x, end_y))
        return np.array(to_array(image))
    import torch

    batch = torch.from_numpy(part.reshape(1, *part.shape)).permute(0, 3, 1, 2)
    resized = torch.nn.functional.interpolate(batch, size, mode=mode, antialias=True)
    done: Pixels = resized[0].permute(1, 2, 0).numpy()
    return done


def resize_and_crop(pixels: Pixels, window: Window, factor: int = 1) -> Pixels:
    """`window` of an image of 1 or 3 channels, which was `factor` times as large before it was reduced."""
    left, top, right, bottom = window.box
    box = (left / factor, top / factor, right / factor, bottom / factor)
    x, y, end_x, end_y = window.cut
    return resize(pixels, window.size, window.resample, box)[y:end_y, x:end_x]


def horizontal_flip(pixels: Pixels) -> Pixels:
    """(H, W, C) with left and right swapped, a copy. NumPy takes 20 times as long, Pillow 6 times."""
    import torch

    flipped: Pixels = torch.from_numpy(np.require(pixels, requirements=["C", "W"])).flip(1).numpy()
    return flipped


@cache
def _has_fast_torch() -> bool:
    import torch

    capability: str = torch.backends.cpu.get_cpu_capability()
    return capability in ("AVX2", "AVX512")
