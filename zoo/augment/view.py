"""Views: regions of an image at a given size, chosen before decoding, so that the decoder can skip the rest."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass

import numpy as np
from PIL import Image

from zoo.arrays import Pixels
from zoo.errors import UsageError, nearest

Region = tuple[int, int, int, int]  # left, top, right, bottom, in pixels

# Pillow's filters; all but nearest use antialiasing.
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
    """The region `box` of an image (may be fractional), resized to `size` (H, W), then cropped to `cut`."""

    box: tuple[float, float, float, float]
    size: tuple[int, int]
    resample: Image.Resampling
    cut: Region


class View(ABC):
    """A region of an image at a given size."""

    @abstractmethod
    def min_size(self, height: int, width: int) -> tuple[int, int]:
        """The minimum (H, W) to which an image of (height, width) may be reduced for this view."""

    @abstractmethod
    def cut(self, image: Image.Image, height: int, width: int, plane: int = 0) -> Image.Image:
        """This view of `image` (mode "L" or "RGB"), originally of (height, width). `plane`: channel number of a grey
        image."""

    def window(self, height: int, width: int) -> Window | None:
        """This view of an image of (height, width) as numbers; None if not possible."""
        return None

    def part(self, height: int, width: int) -> tuple[Region, View]:
        """The region of an image of (height, width) that this view needs, and the equivalent view of that region."""
        return (0, 0, width, height), self

    def apply(self, image: Pixels) -> Pixels:
        """This view of an (H, W, C) array."""
        height, width, channels = image.shape
        if channels in (1, 3):
            return to_array(self.cut(to_pil(image), height, width))
        planes = [self.cut(Image.fromarray(image[:, :, c]), height, width, c) for c in range(channels)]
        return np.stack([np.asarray(p) for p in planes], axis=2)


def resample_filter(name: str) -> Image.Resampling:
    """Pillow's filter `name`. Raises UsageError if it is unknown."""
    try:
        return RESAMPLE[name]
    except KeyError:
        close = nearest(name, RESAMPLE)
        raise UsageError(f"no interpolation named {name!r}", f"known: {', '.join(close or RESAMPLE)}") from None


def to_pil(image: Pixels) -> Image.Image:
    """A grey or RGB Pillow image of an (H, W, C) array with 1 or 3 channels."""
    return Image.fromarray(image[:, :, 0] if image.shape[2] == 1 else image)


def to_array(image: Image.Image) -> Pixels:
    """(H, W, C) uint8 of a grey or RGB Pillow image, read-only."""
    pixels = np.asarray(image)
    return pixels[:, :, None] if pixels.ndim == 2 else pixels
