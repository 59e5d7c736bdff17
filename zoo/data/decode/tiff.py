"""Multichannel TIFF files: pages as channels, many samples per pixel, high bit depth.

Only pages of the first page's size and type count, without those marked as reduced copies (thumbnails, pyramids).
Several grey pages are the channels of one image, in order; of several colour pages the first is read.
"""

from __future__ import annotations

import io
import logging
import math
from typing import Any

import numpy as np
import tifffile
from numpy.typing import NDArray
from PIL import Image

from zoo.data.decode.errors import DECODE_ERRORS, UnsupportedPixels
from zoo.data.decode.multichannel import MultichannelImage

Array = NDArray[Any]

# TIFF and BigTIFF, either byte order.
_MAGIC = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
_GREY = ("1", "L", "I", "F", "I;16", "I;16L", "I;16B", "I;16N")
_SUBFILE, _BITS, _PHOTOMETRIC, _ORIENTATION, _SAMPLES = 254, 258, 262, 274, 277
_REDUCED = 1  # bit 0 of _SUBFILE
_BLACK_IS_0, _RGB = 1, 2
_ALPHA = (1, 2)  # of ExtraSamples: premultiplied or not
# Further errors that tifffile raises on files with inconsistent metadata.
_TIFF_ERRORS = (*DECODE_ERRORS, RuntimeError, ZeroDivisionError, MemoryError, AssertionError, AttributeError)

# Hides tifffile's warnings about unusual tags, which would go to stderr without a handler.
logging.getLogger("tifffile").addHandler(logging.NullHandler())


def is_tiff(start: bytes) -> bool:
    return start.startswith(_MAGIC)


def read_pages(image: Any, file: str | bytes) -> MultichannelImage | None:
    """The channels of the TIFF `file`, opened by Pillow as `image`; None if Pillow reads it as a single image.

    Raises UnsupportedPixels and what Pillow raises.
    """
    tags = image.tag_v2
    several = tags.get(_SAMPLES, 1) > 1
    deep = max(tags.get(_BITS, (1,))) > 8 or len(image.getbands()) == 1  # Pillow reads 8 bits, or a single plane
    if several and deep and tags.get(_PHOTOMETRIC) in (_BLACK_IS_0, _RGB):
        return read_tifffile(file)
    if several or image.n_frames == 1 or image.mode not in _GREY:
        return None
    mode, size, used = image.mode, image.size, []
    for number in range(image.n_frames):
        image.seek(number)
        if (image.mode, image.size) == (mode, size) and not image.tag_v2.get(_SUBFILE, 0) & _REDUCED:
            used.append(number)
    if len(used) < 2:
        return None
    if tags.get(_ORIENTATION, 1) > 1:  # Pillow applies it, but not to memory-mapped files
        return read_tifffile(file)

    def load() -> Array:
        stack = []
        with Image.open(file if isinstance(file, str) else io.BytesIO(file)) as again:
            for number in used:
                again.seek(number)
                stack.append(np.array(again))
        return np.stack(stack, axis=2)

    return MultichannelImage(len(used), load, "TIFF")


def read_tifffile(file: str | bytes) -> MultichannelImage:
    """The channels of a TIFF that Pillow cannot read, or only with 8 bits.

    Raises UnsupportedPixels: invalid or truncated file, too many pixels, or a compression that needs imagecodecs.
    """
    try:
        opened = tifffile.TiffFile(file if isinstance(file, str) else io.BytesIO(file))
    except _TIFF_ERRORS as e:
        raise UnsupportedPixels(f"damaged file ({e})") from e
    try:
        return _read_channels(opened)
    except UnsupportedPixels:
        opened.close()
        raise
    except _TIFF_ERRORS as e:
        opened.close()
        raise UnsupportedPixels(f"damaged file ({e or type(e).__name__})") from e


def _read_channels(opened: tifffile.TiffFile) -> MultichannelImage:
    pages: list[Any] = [page for page in opened.pages if isinstance(page, tifffile.TiffPage)]
    if len(pages) != len(opened.pages):
        raise UnsupportedPixels("damaged file (pages without headers)")
    first = pages[0]
    used = [
        page
        for page in pages
        if (page.shape, page.axes, page.dtype) == (first.shape, first.axes, first.dtype)
        and not (page is not first and page.subfiletype & _REDUCED)
    ]
    if first.axes not in ("YX", "YXS", "SYX") or 0 in first.shape or first.dtype is None:
        raise UnsupportedPixels(f"a TIFF page of axes {first.axes} and shape {first.shape}; one is YX, YXS or SYX")
    if first.imagewidth * first.imagelength > 2 * (Image.MAX_IMAGE_PIXELS or math.inf):
        raise Image.DecompressionBombError
    if first.axes != "YX":
        used = [first]
    for page in used:
        _require_whole(page, opened.filehandle.size)
    orientation = int(first.tags[_ORIENTATION].value) if _ORIENTATION in first.tags else 1
    samples = len(used) if first.axes == "YX" else first.samplesperpixel

    def load() -> Array:
        try:
            if first.axes == "YX":
                stacked = np.stack([page.asarray() for page in used], axis=2)
            else:
                stacked = first.asarray()
                stacked = stacked.transpose(1, 2, 0) if first.axes == "SYX" else stacked
        except _TIFF_ERRORS as e:
            if "imagecodecs" in str(e):
                name = getattr(first.compression, "name", first.compression)
                raise UnsupportedPixels(f"TIFF compressed by {name}: pip install imagecodecs to read it") from e
            raise UnsupportedPixels(f"damaged file ({e or type(e).__name__})") from e
        return apply_orientation(stacked, orientation)

    alpha = first.axes != "YX" and bool(first.extrasamples) and first.extrasamples[-1] in _ALPHA
    return MultichannelImage(samples, load, "TIFF", alpha, opened.close)


def _require_whole(page: Any, size: int) -> None:
    """Raises UnsupportedPixels if the file ends before the page's last strip, which tifffile would fill with black."""
    ends = [start + count for start, count in zip(page.dataoffsets, page.databytecounts, strict=False)]
    short = page.compression == 1 and sum(page.databytecounts) < page.nbytes
    if not ends or max(ends) > size or short:
        raise UnsupportedPixels("truncated file")


def apply_orientation(array: Array, orientation: int) -> Array:
    """Apply an EXIF orientation, 1 to 8, to an array (H, W, …)."""
    if orientation in (5, 6, 7, 8):
        array = array.swapaxes(0, 1)
    if orientation in (2, 3, 6, 7):
        array = array[:, ::-1]
    if orientation in (3, 4, 7, 8):
        array = array[::-1]
    return array
