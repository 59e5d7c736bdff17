"""An image opened by Pillow → an array with the requested channels."""

from __future__ import annotations

import numpy as np
from PIL import Image, ImageOps

from zoo.arrays import Pixels
from zoo.augment.resize import resize_and_crop
from zoo.augment.view import to_array
from zoo.data.decode.errors import DECODE_ERRORS, UnsupportedPixels
from zoo.data.decode.jpeg import decode_view
from zoo.data.decode.multichannel import ChooseView, MultichannelImage, require_channels
from zoo.preprocess import IntensityRange

HIGH_BIT_DEPTH_MODES = ("I;16", "I;16L", "I;16B", "I;16N", "I", "F")  # modes of more than 8 bits, all grey
ORIENTATION = 0x0112
FIRST_SWAPPED_ORIENTATION = 5  # EXIF orientations from here on swap width and height
_ALPHA = {"RGBA": "RGBA", "RGBa": "RGBA", "PA": "RGBA", "LA": "LA", "La": "LA"}  # mode → the mode it is converted to


def read_pillow(
    image: Image.Image, channels: int, choose_view: ChooseView | None, intensity_range: IntensityRange
) -> Pixels:
    """(H, W, channels) uint8 of an opened image or of a view. Raises UnsupportedPixels and what Pillow raises."""
    require_mode_channels(image, channels)
    if image.mode in HIGH_BIT_DEPTH_MODES:
        return read_high_bit_depth(image).pixels(channels, choose_view, intensity_range)
    if image.format == "TIFF":  # Pillow applies its orientation itself, and may swap its size before or after loading
        image.load()
    orientation = _orientation(image)
    width, height = image.size if orientation < FIRST_SWAPPED_ORIENTATION else image.size[::-1]
    view = choose_view(height, width) if choose_view else None
    if view is not None:
        fast = decode_view(image, view, channels, orientation)
        if fast is not None:
            return fast
        h, w = view.min_size(height, width)
        image.draft(None, (w, h) if orientation < FIRST_SWAPPED_ORIENTATION else (h, w))
    image.load()
    if orientation != 1:
        image = ImageOps.exif_transpose(image)
    image = _convert(image, channels)
    if view is None:
        return to_array(image)
    if channels not in (1, 3):
        # Pillow would weight colours by alpha when resizing; here alpha is an ordinary channel.
        return view.apply(to_array(image))
    window = view.window(height, width) if image.size == (width, height) else None
    return resize_and_crop(to_array(image), window) if window else to_array(view.cut(image, height, width))


def _orientation(image: Image.Image) -> int:
    try:
        value = image.getexif().get(ORIENTATION, 1)
    except DECODE_ERRORS:  # damaged EXIF data in an intact image is ignored
        return 1
    return value if value in range(2, 9) else 1


def read_high_bit_depth(image: Image.Image) -> MultichannelImage:
    """A grey image of more than 8 bits."""
    image.load()  # applies and removes a TIFF's orientation tag
    upright = ImageOps.exif_transpose(image)
    return MultichannelImage(1, lambda: np.asarray(upright)[:, :, None], image.format or "")


def _has_alpha(image: Image.Image) -> bool:
    return image.mode in _ALPHA or "transparency" in image.info


def require_mode_channels(image: Image.Image, channels: int) -> None:
    """Raises UnsupportedPixels unless an image of this mode can be read with `channels`."""
    if channels not in (1, 3):
        mode = _ALPHA.get(image.mode, "RGBA") if _has_alpha(image) else image.mode
        count = 3 if mode == "P" else Image.getmodebands(mode)
        if mode == "CMYK" and channels == count:
            raise UnsupportedPixels("4 channels of CMYK, which are print colours (--in-chans 3 converts them to RGB)")
        require_channels(count, mode in ("LA", "RGBA"), channels)


def _convert(image: Image.Image, channels: int) -> Image.Image:
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
    # CMYK, YCbCr, LAB and HSV convert to RGB only.
    image = image if image.mode in ("L", "RGB", "1", "P") else image.convert("RGB")
    return image.convert(wanted)
