"""What a model sees of an image, decided before the image is decoded, so that the decoder can spare itself the rest."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass

import numpy as np
from PIL import Image

from zoo.arrays import Pixels
from zoo.errors import UsageError, nearest

__all__ = ["RESAMPLE", "Region", "View", "Window", "resample_filter", "to_array", "to_pil"]

Region = tuple[int, int, int, int]  # left, top, right, bottom, in pixels

# Pillow's filters; all but nearest average over the source pixels when they shrink (antialiasing).
RESAMPLE = {
    "nearest": Image.Resampling.NEAREST,
    "bilinear": Image.Resampling.BILINEAR,
    "bicubic": Image.Resampling.BICUBIC,
    "box": Image.Resampling.BOX,
    "hamming": Image.Resampling.HAMMING,
    "lanczos": Image.Resampling.LANCZOS,
}


@dataclass(frozen=True)
class Window:
    """A view in numbers: the part `box` of an image (fractions of a pixel allowed), resized to `size` (H, W), and of
    that `cut`."""

    box: tuple[float, float, float, float]
    size: tuple[int, int]
    resample: Image.Resampling
    cut: Region


class View(ABC):
    """A part of an image at a size of its own."""

    @abstractmethod
    def min_size(self, height: int, width: int) -> tuple[int, int]:
        """The (H, W) to which an image of (height, width) may be reduced for this view."""

    @abstractmethod
    def cut(self, image: Image.Image, height: int, width: int, plane: int = 0) -> Image.Image:
        """This view of `image` (mode "L" or "RGB"), which was (height, width) before it was reduced.

        `plane` is the channel that a grey image stands for.
        """

    def window(self, height: int, width: int) -> Window | None:
        """This view of an image of (height, width) in numbers, None if they do not say it all."""
        return None

    def part(self, height: int, width: int) -> tuple[Region, View]:
        """What this view needs of an image of (height, width), and the view that, of this part, is the same."""
        return (0, 0, width, height), self

    def apply(self, image: Pixels) -> Pixels:
        """This view of an (H, W, C) array."""
        height, width, channels = image.shape
        if channels in (1, 3):
            return to_array(self.cut(to_pil(image), height, width))
        planes = [self.cut(Image.fromarray(image[:, :, c]), height, width, c) for c in range(channels)]
        return np.stack([np.asarray(p) for p in planes], axis=2)


def resample_filter(name: str) -> Image.Resampling:
    """Pillow's filter of that name. Raises UsageError if there is none."""
    try:
        return RESAMPLE[name]
    except KeyError:
        close = nearest(name, RESAMPLE)
        raise UsageError(f"no interpolation named {name!r}", f"known: {', '.join(close or RESAMPLE)}") from None


def to_pil(image: Pixels) -> Image.Image:
    """A grey or RGB Pillow image of an (H, W, C) array with 1 or 3 channels."""
    return Image.fromarray(image[:, :, 0] if image.shape[2] == 1 else image)


def to_array(image: Image.Image) -> Pixels:
    """(H, W, C) uint8 of a grey or RGB Pillow image; not to be written to."""
    pixels = np.asarray(image)
    return pixels[:, :, None] if pixels.ndim == 2 else pixels
