"""An image that Pillow has opened → the channels that are asked for."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps

from zoo.augment.resize import look
from zoo.augment.view import to_array
from zoo.data.decode.errors import BROKEN, UnknownPixels
from zoo.data.decode.jpeg import view_of
from zoo.data.decode.multichannel import Bands, Choose, require_fit
from zoo.preprocess import Levels

__all__ = ["DEEP", "ON_ITS_SIDE", "ORIENTATION", "deep", "picture", "require_mode"]

Pixels = NDArray[np.uint8]

DEEP = ("I;16", "I;16L", "I;16B", "I;16N", "I", "F")  # modes of more than 8 bits, all of them grey
ORIENTATION = 0x0112
ON_ITS_SIDE = 5  # EXIF orientations from here on swap width and height
_ALPHA = {"RGBA": "RGBA", "RGBa": "RGBA", "PA": "RGBA", "LA": "LA", "La": "LA"}  # mode → as which it is read


def picture(image: Image.Image, channels: int, choose: Choose | None, levels: Levels) -> Pixels:
    """(H, W, channels) of an opened image, with `choose` of its view only. Raises UnknownPixels; what Pillow raises."""
    require_mode(image, channels)
    if image.mode in DEEP:
        return deep(image).pixels(channels, choose, levels)
    if image.format == "TIFF":  # which Pillow turns itself, and whose size it swaps before that or after
        image.load()
    turn = _orientation(image)
    width, height = image.size if turn < ON_ITS_SIDE else image.size[::-1]
    view = choose(height, width) if choose else None
    if view is not None:
        quick = view_of(image, view, channels, turn)
        if quick is not None:
            return quick
        h, w = view.at_least(height, width)
        image.draft(None, (w, h) if turn < ON_ITS_SIDE else (h, w))
    image.load()
    if turn != 1:
        image = ImageOps.exif_transpose(image)
    image = _converted(image, channels)
    if view is None:
        return to_array(image)
    if channels not in (1, 3):
        # Pillow would weigh colours by an alpha channel when it resizes; here it is a channel as the others.
        return view.apply(to_array(image))
    window = view.window(height, width) if image.size == (width, height) else None
    return look(to_array(image), window) if window else to_array(view.cut(image, height, width))


def _orientation(image: Image.Image) -> int:
    try:
        value = image.getexif().get(ORIENTATION, 1)
    except BROKEN:  # damaged camera data beside sound pixels: as if there were none
        return 1
    return value if value in range(2, 9) else 1


def deep(image: Image.Image) -> Bands:
    """A grey image of more than 8 bits."""
    image.load()  # which turns a TIFF, so that the tag is not followed twice
    upright = ImageOps.exif_transpose(image)
    return Bands(1, lambda: np.asarray(upright)[:, :, None], image.format or "")


def _has_alpha(image: Image.Image) -> bool:
    return image.mode in _ALPHA or "transparency" in image.info


def require_mode(image: Image.Image, channels: int) -> None:
    """Raises UnknownPixels unless an image of its mode can be read with `channels`."""
    if channels not in (1, 3):
        mode = _ALPHA.get(image.mode, "RGBA") if _has_alpha(image) else image.mode
        count = 3 if mode == "P" else Image.getmodebands(mode)
        if mode == "CMYK" and channels == count:
            raise UnknownPixels("the 4 channels of CMYK, which mean colours of print (--in-chans 3 reads them)")
        require_fit(count, mode in ("LA", "RGBA"), channels)


def _converted(image: Image.Image, channels: int) -> Image.Image:
    """`image` in mode "L" or "RGB", with its alpha "LA" or "RGBA", by the rules of `zoo.data.decode.read`."""
    if channels not in (1, 3):
        return image.convert(_ALPHA.get(image.mode, "RGBA")) if _has_alpha(image) else image
    if _has_alpha(image):
        colour = image.convert("RGBA")
        image = Image.new("RGB", image.size, "white")
        image.paste(colour, mask=colour.getchannel("A"))
    wanted = "L" if channels == 1 else "RGB"
    if image.mode == wanted:
        return image
    # CMYK, YCbCr, LAB and HSV know the way to RGB only.
    image = image if image.mode in ("L", "RGB", "1", "P") else image.convert("RGB")
    return image.convert(wanted)
