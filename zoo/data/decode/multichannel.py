"""Images without a Pillow mode: any number of channels, any bit depth."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from zoo.arrays import Pixels
from zoo.augment.view import View
from zoo.data.decode.errors import UnsupportedPixels
from zoo.data.decode.intensity import to_uint8
from zoo.preprocess import IntensityRange

Array = NDArray[Any]
ChooseView = Callable[[int, int], View]


def _nothing() -> None:
    pass


@dataclass(frozen=True)
class MultichannelImage:
    """The header of an opened file, a context manager that closes it.

    count: number of channels. load: reads the pixel values (H, W, count). kind: "NPY" or "TIFF". alpha: whether the
    last channel is known to be alpha.
    """

    count: int
    load: Callable[[], Array]
    kind: str
    alpha: bool = False
    close: Callable[[], None] = _nothing

    def __enter__(self) -> MultichannelImage:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def pixels(self, channels: int, choose_view: ChooseView | None, intensity_range: IntensityRange) -> Pixels:
        """(H, W, channels) uint8 of the image or of the chosen view. Raises UnsupportedPixels."""
        require_channels(self.count, self.alpha, channels)
        numbers = self.load()
        if choose_view is None:
            return self._channels(to_uint8(numbers, intensity_range), channels)
        height, width = numbers.shape[:2]
        (left, top, right, bottom), view = choose_view(height, width).part(height, width)
        part = to_uint8(numbers[top:bottom, left:right], intensity_range, numbers)
        return view.apply(self._channels(part, channels))

    def _channels(self, pixels: Pixels, channels: int) -> Pixels:
        if pixels.shape[2] == channels:
            return pixels
        if self.alpha:
            opaque = pixels[:, :, -1:].astype(np.uint16)
            over = pixels[:, :, :-1] * opaque + 255 * (255 - opaque)  # at most 255 · 255, within 16 bits
            pixels = ((over + 127) // 255).astype(np.uint8)
        if pixels.shape[2] == channels:
            return pixels
        if channels == 3:
            return np.repeat(pixels, 3, axis=2)
        return np.asarray(Image.fromarray(np.ascontiguousarray(pixels)).convert("L"))[:, :, None]


def require_channels(count: int, alpha: bool, channels: int) -> None:
    """Raises UnsupportedPixels unless `count` channels can be read as `channels`: unchanged, without alpha, or
    converted between grey and colour."""
    colours = count - 1 if alpha else count
    if channels in (count, colours) or (colours in (1, 3) and channels in (1, 3)):
        return
    has = f"{count} channel{'s' if count > 1 else ''}{', the last of them alpha' if alpha else ''}"
    raise UnsupportedPixels(f"{has}, not the {channels} asked for (--in-chans)")
