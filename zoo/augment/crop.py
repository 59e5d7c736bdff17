"""The random crop that imgaug lacks."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from PIL import Image

from zoo.augment.view import View

__all__ = ["RATIO", "Crop", "random_crop"]

RATIO = (3 / 4, 4 / 3)  # Szegedy et al. 2015, "Going deeper with convolutions", section 6


@dataclass(frozen=True)
class Crop(View):
    """The part `box` (left, top, right, bottom; fractions of a pixel allowed) of an image, at `size` (H, W)."""

    box: tuple[float, float, float, float]
    size: tuple[int, int]
    resample: Image.Resampling

    def at_least(self, height: int, width: int) -> tuple[int, int]:
        """The (H, W) below which the crop would have to be enlarged."""
        left, top, right, bottom = self.box
        return math.ceil(height * self.size[0] / (bottom - top)), math.ceil(width * self.size[1] / (right - left))

    def cut(self, image: Image.Image, height: int, width: int, plane: int = 0) -> Image.Image:
        x, y = image.width / width, image.height / height
        left, top, right, bottom = self.box[0] * x, self.box[1] * y, self.box[2] * x, self.box[3] * y
        # Cut before resizing: no pixel from outside may bleed in, as in torchvision's crops.
        whole = (int(left), int(top), min(image.width, math.ceil(right)), min(image.height, math.ceil(bottom)))
        part = image.crop(whole)
        right, bottom = min(right - whole[0], part.width), min(bottom - whole[1], part.height)
        box = (left - whole[0], top - whole[1], right, bottom)
        return part.resize((self.size[1], self.size[0]), self.resample, box)


def random_crop(
    height: int,
    width: int,
    rng: np.random.Generator,
    *,
    size: tuple[int, int],
    scale: tuple[float, float],
    ratio: tuple[float, float],
    resample: Image.Resampling,
) -> Crop:
    """A random share (`scale`, of the area) and aspect ratio (`ratio`, width/height) of an image, to be seen at `size`.

    Szegedy et al. 2015, as torchvision's RandomResizedCrop, but the corners need not fall on whole pixels, so
    that an 8x8 image has as many different crops as a large one and no crop is empty. Where the drawn shape
    does not fit, it is redrawn up to ten times; then the largest centred crop of the nearest allowed ratio is taken.
    """
    low, high = math.log(ratio[0]), math.log(ratio[1])
    for _ in range(10):
        area = height * width * rng.uniform(scale[0], scale[1])
        aspect = math.exp(rng.uniform(low, high))
        w, h = math.sqrt(area * aspect), math.sqrt(area / aspect)
        if w <= width and h <= height:
            left, top = rng.uniform(0, width - w), rng.uniform(0, height - h)
            break
    else:
        aspect = min(max(width / height, ratio[0]), ratio[1])
        w, h = min(float(width), height * aspect), min(float(height), width / aspect)
        left, top = (width - w) / 2, (height - h) / 2
    return Crop((left, top, left + w, top + h), size, resample)
