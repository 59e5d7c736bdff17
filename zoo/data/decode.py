"""A file → (H, W, C) uint8, or an `UnreadableImage` with the reason. The rules for pixels are stated here.

- EXIF orientation is applied. Of a moving picture or a file of several pages the first is read.
- Transparency (alpha, or a palette's transparent entry) is composited over white, as a web page would show it.
- 16-bit levels are scaled by 255/65535: by the type's range, not the image's, so that equal values stay equal.
- Floating point levels must lie in 0..1 (scaled by 255) or else in 0..255 (rounded); NaN and anything else is refused.
- Grey is repeated in three channels for a model of three; colour becomes luminance (ITU-R 601) for a model of one.
- An image of more than 178,956,970 pixels (Pillow's limit) is refused as a decompression bomb.
- A truncated file is refused, never padded.
"""

from __future__ import annotations

import os
import stat
import struct
import zlib
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps, UnidentifiedImageError

from zoo.augment.view import View, to_array
from zoo.errors import DataError

__all__ = [
    "EXTENSIONS",
    "Choose",
    "UnreadableImage",
    "check_image",
    "is_image_name",
    "read_image",
    "require_channels",
    "shown",
]

Pixels = NDArray[np.uint8]
Choose = Callable[[int, int], View]

# File name endings that are taken for images; what Pillow reads without further libraries.
EXTENSIONS = frozenset(
    {".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".webp", ".bmp", ".dib", ".gif"}
    | {".tif", ".tiff", ".ppm", ".pgm", ".pbm", ".pnm", ".avif", ".tga", ".jp2"}
)

# What Pillow's decoders raise on damaged files; SyntaxError is its PNG reader's "broken file".
_BROKEN = (
    OSError,
    SyntaxError,
    ValueError,
    EOFError,
    IndexError,
    KeyError,
    TypeError,
    OverflowError,
    struct.error,
    zlib.error,
    Image.DecompressionBombError,
)
_ORIENTATION = 0x0112
_ON_ITS_SIDE = 5  # EXIF orientations from here on swap width and height
_WIDE_INTEGER = ("I;16", "I;16L", "I;16B", "I;16N", "I")


class _UnknownScale(ValueError):
    """Sound levels whose meaning as grey levels is not known."""


class UnreadableImage(DataError):
    """`path` holds no readable image; `reason` says why."""

    def __init__(self, path: str, reason: str) -> None:
        super().__init__(f"cannot read {shown(path)}: {reason}", "replace or remove the file")
        self.path = path
        self.reason = reason

    def __reduce__(self) -> tuple[type[UnreadableImage], tuple[str, str]]:
        return UnreadableImage, (self.path, self.reason)


def shown(path: str) -> str:
    """`path` fit to print: bytes that are no valid UTF-8 become replacement characters."""
    return path.encode("utf-8", "surrogateescape").decode("utf-8", "replace")


def is_image_name(name: str) -> bool:
    return os.path.splitext(name)[1].lower() in EXTENSIONS


def require_channels(channels: int) -> None:
    """Raises DataError unless image files can be read with that many channels."""
    if channels not in (1, 3):
        raise DataError(
            f"image files are read with 1 or 3 channels, not {channels}", "use a model with 1 or 3 input channels"
        )


def read_image(path: str, channels: int, choose: Choose | None = None) -> Pixels:
    """(H, W, channels) uint8 of the file at `path`, by the rules at the top of this module.

    With `choose`, only the view that it returns for the image's (height, width). A JPEG is then decoded at 1/2, 1/4 or
    1/8 where a random crop does not have to be enlarged for it: within a grey level or so of decoding in full, and two
    to four times as fast. Raises UnreadableImage.
    """
    require_channels(channels)
    image = _open(path)
    try:
        with image:
            turn = _orientation(image)
            width, height = image.size if turn < _ON_ITS_SIDE else image.size[::-1]
            view = choose(height, width) if choose else None
            if view is not None:
                h, w = view.at_least(height, width)
                image.draft(None, (w, h) if turn < _ON_ITS_SIDE else (h, w))
            image.load()
            if turn != 1:
                image = ImageOps.exif_transpose(image)
            image = _converted(image, channels)
            if view is not None:
                image = view.cut(image, height, width)
            return to_array(image)
    except _BROKEN as e:
        raise UnreadableImage(path, _reason(e)) from e


def check_image(path: str, *, decode: bool) -> str:
    """Why the file at `path` is unreadable, "" if it is not. `decode`: read to the end, else only the header.

    A JPEG's whole stream is read at an eighth of its size, which finds a missing end as a full decode would, sooner. A
    PNG's checksums are compared, which decoding does not do: a flipped bit would pass as a picture.
    """
    try:
        with _open(path) as image:
            if decode:
                image.draft(None, (max(1, image.width // 8), max(1, image.height // 8)))
                image.load()
                if image.mode in _WIDE_INTEGER or image.mode == "F":
                    _levels(image)
                if image.format == "PNG":
                    with _open(path) as again:
                        again.verify()
    except UnreadableImage as e:
        return e.reason
    except _BROKEN as e:
        return _reason(e)
    return ""


def _open(path: str) -> Image.Image:
    try:
        info = os.stat(path)
        if not stat.S_ISREG(info.st_mode):
            raise UnreadableImage(path, not_a_file(info.st_mode))
        if info.st_size == 0:
            raise UnreadableImage(path, "empty file (zero bytes)")
        return Image.open(path)
    except UnidentifiedImageError:
        raise UnreadableImage(path, _what_it_is(path)) from None
    except _BROKEN as e:
        raise UnreadableImage(path, _reason(e)) from e


def not_a_file(mode: int) -> str:
    """What a thing that is no regular file is. Opening a FIFO or device would wait or never end."""
    kinds = {
        stat.S_IFDIR: "a directory",
        stat.S_IFIFO: "a FIFO",
        stat.S_IFSOCK: "a socket",
        stat.S_IFCHR: "a device",
        stat.S_IFBLK: "a device",
    }
    return f"not a file but {kinds.get(stat.S_IFMT(mode), 'something else')}"


def _what_it_is(path: str) -> str:
    with open(path, "rb") as f:
        start = f.read(64).lstrip().lower()
    if start.startswith((b"<!doctype html", b"<html", b"<head", b"<?xml", b"<svg")):
        return "not an image: the file holds " + ("SVG or XML" if start.startswith((b"<?xml", b"<svg")) else "HTML")
    if start.startswith(b"version https://git-lfs"):
        return "not an image: a Git LFS pointer (run git lfs pull)"
    return "not an image that Pillow can identify"


def _reason(error: BaseException) -> str:
    if isinstance(error, Image.DecompressionBombError):
        return f"more than {2 * (Image.MAX_IMAGE_PIXELS or 0):,} pixels, a possible decompression bomb"
    if isinstance(error, _UnknownScale):
        return str(error)
    if isinstance(error, OSError) and error.strerror:
        return error.strerror.lower()
    text = str(error) or type(error).__name__
    return "truncated file" if "truncated" in text.lower() else f"damaged file ({text})"


def _orientation(image: Image.Image) -> int:
    try:
        value = image.getexif().get(_ORIENTATION, 1)
    except _BROKEN:  # damaged camera data beside sound pixels: as if there were none
        return 1
    return value if value in range(2, 9) else 1


def _converted(image: Image.Image, channels: int) -> Image.Image:
    """`image` in mode "L" or "RGB", by the rules at the top of this module."""
    if image.mode in _WIDE_INTEGER or image.mode == "F":
        image = Image.fromarray(_levels(image))
    elif image.mode in ("RGBA", "RGBa", "LA", "La", "PA") or "transparency" in image.info:
        colour = image.convert("RGBA")
        image = Image.new("RGB", image.size, "white")
        image.paste(colour, mask=colour.getchannel("A"))
    wanted = "L" if channels == 1 else "RGB"
    if image.mode == wanted:
        return image
    # CMYK, YCbCr, LAB and HSV know the way to RGB only.
    image = image if image.mode in ("L", "RGB", "1", "P") else image.convert("RGB")
    return image.convert(wanted)


def _levels(image: Image.Image) -> Pixels:
    """(H, W) uint8 of an image with levels beyond 8 bits. Raises _UnknownScale."""
    levels = np.asarray(image, dtype=np.float32)
    low, high = float(levels.min()), float(levels.max())
    if image.mode == "F":
        if not (low >= 0 and high <= 255):  # also false for NaN
            raise _UnknownScale(f"floating point levels from {low:g} to {high:g}; scale them to 0..1 or 0..255")
        scale = 255.0 if high <= 1 else 1.0
    else:
        if low < 0 or high > 65535:
            raise _UnknownScale(f"levels from {low:.0f} to {high:.0f}, beyond 16 bits; scale them to 0..65535")
        scale = 255 / 65535
    scaled: Pixels = np.rint(levels * np.float32(scale)).astype(np.uint8)
    return scaled
