"""Random resized crops for each crop mode."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np
from PIL import Image

from zoo.augment.fit import border_colour
from zoo.augment.view import Region, View, Window, resample_filter
from zoo.preprocess import Preprocess

Box = tuple[float, float, float, float]  # left, top, right, bottom

RATIO = (3 / 4, 4 / 3)  # Szegedy et al. 2015, "Going deeper with convolutions", section 6


# Side in pixels below which crops are not rounded to whole pixels.
_MIN_SNAP_SIDE = 32


@dataclass(frozen=True)
class Crop(View):
    """The region `box` (left, top, right, bottom; may be fractional) of an image, resized to `size` (H, W)."""

    box: Box
    size: tuple[int, int]
    resample: Image.Resampling

    def min_size(self, height: int, width: int) -> tuple[int, int]:
        """The (H, W) below which the crop would have to be enlarged."""
        left, top, right, bottom = self.box
        return math.ceil(height * self.size[0] / (bottom - top)), math.ceil(width * self.size[1] / (right - left))

    def window(self, height: int, width: int) -> Window:
        return Window(self.box, self.size, self.resample, (0, 0, self.size[1], self.size[0]))

    def part(self, height: int, width: int) -> tuple[Region, Crop]:
        left, top, right, bottom = self.box
        x, y, end_x, end_y = int(left), int(top), min(width, math.ceil(right)), min(height, math.ceil(bottom))
        return (x, y, end_x, end_y), replace(self, box=(left - x, top - y, right - x, bottom - y))

    def cut(self, image: Image.Image, height: int, width: int, plane: int = 0) -> Image.Image:
        x, y = image.width / width, image.height / height
        left, top, right, bottom = self.box[0] * x, self.box[1] * y, self.box[2] * x, self.box[3] * y
        # Crop before resizing, as torchvision does: pixels outside the crop have no influence.
        whole = (int(left), int(top), min(image.width, math.ceil(right)), min(image.height, math.ceil(bottom)))
        part = image.crop(whole)
        right, bottom = min(right - whole[0], part.width), min(bottom - whole[1], part.height)
        box = (left - whole[0], top - whole[1], right, bottom)
        return part.resize((self.size[1], self.size[0]), self.resample, box)


@dataclass(frozen=True)
class PaddedCrop(View):
    """`crop` centred in an image of `size` (H, W), padded with the mean colour of `preprocess`."""

    crop: Crop
    size: tuple[int, int]
    preprocess: Preprocess

    def min_size(self, height: int, width: int) -> tuple[int, int]:
        return self.crop.min_size(height, width)

    def part(self, height: int, width: int) -> tuple[Region, View]:
        region, crop = self.crop.part(height, width)
        return region, replace(self, crop=crop)

    def cut(self, image: Image.Image, height: int, width: int, plane: int = 0) -> Image.Image:
        colour = border_colour(self.preprocess, len(image.getbands()), plane)
        padded = Image.new(image.mode, self.size[::-1], colour if len(colour) > 1 else colour[0])
        middle = self.crop.cut(image, height, width)
        padded.paste(middle, ((padded.width - middle.width) // 2, (padded.height - middle.height) // 2))
        return padded


def random_view(
    height: int,
    width: int,
    rng: np.random.Generator,
    *,
    preprocess: Preprocess,
    scale: tuple[float, float],
    ratio: tuple[float, float],
) -> View:
    """A random crop (`random_crop`) in the crop mode of `preprocess`.

    "center": `ratio` is that of the crop, which is resized to the model's input. "squash": `ratio` is that of the crop
    in the squashed image. "border": `ratio` is relative to the image's aspect ratio; the crop is padded.
    """
    size, resample = (preprocess.height, preprocess.width), resample_filter(preprocess.interpolation)
    if preprocess.crop_mode not in ("squash", "border"):
        return random_crop(height, width, rng, size=size, scale=scale, ratio=ratio, resample=resample)
    frame = size if preprocess.crop_mode == "squash" else (1, 1)
    drawn = random_crop(*frame, rng, size=size, scale=scale, ratio=ratio, resample=resample)
    x, y = width / frame[1], height / frame[0]
    left, top, right, bottom = drawn.box
    box = (left * x, top * y, right * x, bottom * y)
    if preprocess.crop_mode == "squash":
        return replace(drawn, box=box)
    shrink = max((box[3] - box[1]) / size[0], (box[2] - box[0]) / size[1])
    inner = (max(1, round((box[3] - box[1]) / shrink)), max(1, round((box[2] - box[0]) / shrink)))
    return PaddedCrop(Crop(box, inner, resample), size, preprocess)


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
    """A random crop with an area share in `scale` and an aspect ratio (width/height) in `ratio`, resized to `size`.

    Szegedy et al. 2015, as torchvision's RandomResizedCrop, but with fractional corners, so that small images have as
    many different crops as large ones. If the drawn shape does not fit ten times, the largest centred crop of the
    nearest allowed ratio is used.
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
    return Crop(_snap_to_grid((left, top, left + w, top + h), height, width, size), size, resample)


def _snap_to_grid(box: Box, height: int, width: int, size: tuple[int, int]) -> Box:
    """`box` rounded to whole pixels of the image as a JPEG decoder may reduce it (by 2, 4 or 8) for `size`, which is
    faster to read. Small images are not rounded: they would have few different crops."""
    if min(height, width) < _MIN_SNAP_SIDE:
        return box
    left, top, right, bottom = box
    shrink = min((bottom - top) / size[0], (right - left) / size[1])
    step = next(s for s in (8, 4, 2, 1) if shrink >= s or s == 1)
    left, top = step * round(left / step), step * round(top / step)
    right, bottom = min(width, step * round(right / step)), min(height, step * round(bottom / step))
    return left, top, max(right, left + 1), max(bottom, top + 1)
