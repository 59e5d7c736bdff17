"""Whole images, reduced as far as later random crops allow."""

from __future__ import annotations

import math
from dataclasses import dataclass

from PIL import Image

from zoo.augment.view import View, Window
from zoo.preprocess import Preprocess

# Factor above the size at which the smallest crop is not enlarged: images resized twice are softer (docs/speed.md).
RESIZE_MARGIN = 1.1
# The same for JPEGs decoded at 1/2, 1/4 or 1/8 of their size: see `zoo.augment.fit`.
_DECODE_MARGIN = 1.45


@dataclass(frozen=True)
class CropRange:
    """Random crops of `zoo.augment.crop.random_view`: minimum share of the area, and range of width/height."""

    min_scale: float
    ratio: tuple[float, float]


@dataclass(frozen=True)
class Reduced(View):
    """The whole image, reduced so far that no crop has to be enlarged more than the same crop of the original.

    Smaller images are unchanged.
    """

    preprocess: Preprocess
    crops: CropRange

    def size(self, height: int, width: int) -> tuple[int, int]:
        """The (H, W) of the reduced image."""
        preprocess, mode = self.preprocess, self.preprocess.crop_mode
        if mode == "squash":
            min_h, min_w = _min_sides(preprocess.height, preprocess.width, self.crops)
            scales = preprocess.height**2 / min_h / height, preprocess.width**2 / min_w / width
        elif mode == "border":
            # Only the crop's area is known, not its shape; it is not enlarged beyond the model's input.
            scales = (math.sqrt(preprocess.height * preprocess.width / (self.crops.min_scale * height * width)),) * 2
        else:
            min_h, min_w = _min_sides(height, width, self.crops)
            scales = (max(preprocess.height / min_h, preprocess.width / min_w),) * 2
        h, w = (RESIZE_MARGIN * s * side for s, side in zip(scales, (height, width), strict=True))
        return min(height, math.ceil(h)), min(width, math.ceil(w))

    def min_size(self, height: int, width: int) -> tuple[int, int]:
        h, w = self.size(height, width)
        return min(height, math.ceil(_DECODE_MARGIN * h)), min(width, math.ceil(_DECODE_MARGIN * w))

    def window(self, height: int, width: int) -> Window:
        size = self.size(height, width)
        return Window((0, 0, width, height), size, Image.Resampling.BICUBIC, (0, 0, size[1], size[0]))

    def cut(self, image: Image.Image, height: int, width: int, plane: int = 0) -> Image.Image:
        h, w = self.size(height, width)
        return image if image.size == (w, h) else image.resize((w, h), Image.Resampling.BICUBIC)


def _min_sides(height: int, width: int, crops: CropRange) -> tuple[float, float]:
    """The smallest height and the smallest width of a crop of an image, as `random_crop` draws them."""
    area = crops.min_scale * height * width
    low, high = crops.ratio
    return min(math.sqrt(area / high), height, width / low), min(math.sqrt(area * low), width, height * high)
