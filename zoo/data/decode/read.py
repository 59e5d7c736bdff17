"""A file → (H, W, C) uint8, or an `UnreadableImage` with the reason. The rules for pixels; docs/pixels.md has a table.

- EXIF orientation is applied. Of a moving picture the first frame is read; pages of a TIFF: `zoo.data.decode.tiff`.
- Transparency (alpha, or a palette's transparent entry) is composited over white, as a web page would show it; if four
  channels are asked for (of grey: two), it is the last of them.
- Levels of more than 8 bits are scaled by the type's range, or the data set's where it was measured
(`IntensityRange`), not by
  the image's own, so that equal values stay equal. NaN, infinity and negative levels are refused.
- Grey is repeated in three channels for a model of three; colour becomes luminance (ITU-R 601) for a model of one. What
  else has another number of channels than asked for is refused: none is left out or made up.
- An image of more than 178,956,970 pixels (Pillow's limit) is refused as a decompression bomb.
- A truncated file is refused, never padded.
"""

from __future__ import annotations

import io
import os
import stat
from collections.abc import Callable

import numpy as np
from PIL import Image, UnidentifiedImageError

from zoo.arrays import Pixels
from zoo.data.decode.errors import (
    DECODE_ERRORS,
    EXTENSIONS,
    UnreadableImage,
    describe_content,
    describe_non_file,
    error_reason,
    is_image_name,
    printable,
)
from zoo.data.decode.intensity import (
    DTYPE_RANGE,
    IntensityStats,
    measure_intensity,
    min_max,
    require_known_range,
    white_level,
)
from zoo.data.decode.multichannel import ChooseView, MultichannelImage, require_channels
from zoo.data.decode.npy import MAGIC, open_npy, read_npy
from zoo.data.decode.pillow import (
    FIRST_SWAPPED_ORIENTATION,
    HIGH_BIT_DEPTH_MODES,
    ORIENTATION,
    read_high_bit_depth,
    read_pillow,
    require_mode_channels,
)
from zoo.data.decode.tiff import is_tiff, read_pages, read_tifffile
from zoo.preprocess import IntensityRange

__all__ = [
    "EXTENSIONS",
    "ChooseView",
    "UnreadableImage",
    "check_bytes",
    "check_image",
    "describe_non_file",
    "intensity_stats",
    "is_image_name",
    "printable",
    "read_bytes",
    "read_image",
    "read_multichannel_header",
    "read_pil",
    "read_preview",
]

Opened = Image.Image | MultichannelImage


def read_image(
    path: str, channels: int, choose_view: ChooseView | None = None, intensity_range: IntensityRange = DTYPE_RANGE
) -> Pixels:
    """(H, W, channels) uint8 of the file at `path`, by the rules at the top of this module.

    With `choose_view`, only the view that it returns for the image's (height, width): a JPEG is then read by
    `zoo.data.decode.jpeg`, at 1/2, 1/4 or 1/8 of its size where the view leaves room. Raises UnreadableImage.
    """
    return _read(lambda: _open(path, path, channels), path, channels, choose_view, intensity_range)


def read_bytes(
    data: bytes,
    name: str,
    channels: int,
    choose_view: ChooseView | None = None,
    intensity_range: IntensityRange = DTYPE_RANGE,
) -> Pixels:
    """As `read_image`, of a file's bytes; `name` is what errors call it."""
    return _read(lambda: _open(data, name, channels), name, channels, choose_view, intensity_range)


def read_pil(
    image: Image.Image,
    name: str,
    channels: int,
    choose_view: ChooseView | None = None,
    intensity_range: IntensityRange = DTYPE_RANGE,
) -> Pixels:
    """As `read_image`, of an opened image, which is closed afterwards; `name` is what errors call it."""
    return _read(lambda: image, name, channels, choose_view, intensity_range)


def read_preview(file: str | bytes, name: str, choose_view: ChooseView | None = None) -> Pixels:
    """(H, W, 3) uint8 of a path or a file's bytes, to look at and compare by: of other channels than grey and colour
    the first three or the first one, levels by the depth that holds the image's own. Raises UnreadableImage."""
    try:
        with _open(file, name, None) as opened:
            if not isinstance(opened, MultichannelImage):
                return read_pillow(opened, 3, choose_view, DTYPE_RANGE)
            numbers = opened.load()
            high = min_max(numbers)[1] if numbers.dtype.kind in "uif" else 1
            intensity_range = IntensityRange((white_level(high),), (1 if high <= 1 else white_level(high),))
            few = numbers if opened.count in (1, 3) or opened.alpha else numbers[:, :, : 3 if opened.count > 3 else 1]
            shown_as = MultichannelImage(few.shape[2], lambda: few, opened.kind, opened.alpha)
            return shown_as.pixels(3, choose_view, intensity_range)
    except DECODE_ERRORS as e:
        raise UnreadableImage(name, error_reason(e)) from e


def intensity_stats(file: str | bytes, name: str) -> IntensityStats:
    """The levels of an image beyond 8 bits; what cannot be read has none."""
    try:
        with _open(file, name, None) as opened:
            if isinstance(opened, MultichannelImage):
                return measure_intensity(opened.load())
            return (
                measure_intensity(read_high_bit_depth(opened).load())
                if opened.mode in HIGH_BIT_DEPTH_MODES
                else IntensityStats()
            )
    except (UnreadableImage, *DECODE_ERRORS):
        return IntensityStats()


def read_multichannel_header(file: str | bytes, name: str) -> MultichannelImage | None:
    """The header of an image that Pillow cannot read as one picture, closed; None for all others."""
    with _open(file, name, None) as opened:
        return opened if isinstance(opened, MultichannelImage) else None


def check_image(path: str, *, decode: bool, channels: int | None = None) -> str:
    """Why the file at `path` is unreadable, "" if it is not. `decode`: read to the end, else only the header.
    `channels`: that a model reads, if it is known.

    A JPEG's whole stream is read at an eighth of its size, which finds a missing end as a full decode would, sooner. A
    PNG's checksums are compared, which decoding does not do: a flipped bit would pass as a picture.
    """
    return _check(lambda: _open(path, path, channels), decode=decode, channels=channels)


def check_bytes(data: bytes, name: str, *, decode: bool, channels: int | None = None) -> str:
    """As `check_image`, of a file's bytes."""
    return _check(lambda: _open(data, name, channels), decode=decode, channels=channels)


def _read(
    opened: Callable[[], Opened],
    name: str,
    channels: int,
    choose_view: ChooseView | None,
    intensity_range: IntensityRange,
) -> Pixels:
    try:
        with opened() as image:
            if isinstance(image, MultichannelImage):
                return image.pixels(channels, choose_view, intensity_range)
            return read_pillow(image, channels, choose_view, intensity_range)
    except DECODE_ERRORS as e:
        raise UnreadableImage(name, error_reason(e)) from e


def _check(opened: Callable[[], Opened], *, decode: bool, channels: int | None) -> str:
    try:
        with opened() as image:
            if isinstance(image, MultichannelImage):
                if channels is not None:
                    require_channels(image.count, image.alpha, channels)
                if decode:
                    require_known_range(image.load())
                return ""
            if channels is not None:
                require_mode_channels(image, channels)
            if decode:
                image.draft(None, (max(1, image.width // 8), max(1, image.height // 8)))
                image.load()
                if image.mode in HIGH_BIT_DEPTH_MODES:
                    require_known_range(np.asarray(image))
                if image.format == "PNG":
                    with opened() as again:
                        again.verify()  # type: ignore[union-attr]
    except UnreadableImage as e:
        return e.reason
    except DECODE_ERRORS as e:
        return error_reason(e)
    return ""


def _open(file: str | bytes, name: str, channels: int | None) -> Opened:
    """`channels` helps to tell which axis of an array they are. Raises UnreadableImage."""
    try:
        if isinstance(file, str):
            info = os.stat(file)
            if not stat.S_ISREG(info.st_mode):
                raise UnreadableImage(name, describe_non_file(info.st_mode))
            empty = info.st_size == 0
        else:
            empty = not file
        if empty:
            raise UnreadableImage(name, "empty file (zero bytes)")
        try:
            image = Image.open(file if isinstance(file, str) else io.BytesIO(file))
        except UnidentifiedImageError:
            return _open_other(file, name, channels)
        if image.format != "TIFF":
            return image
        with image:
            bands = read_pages(image, file)
            tags = image.tag_v2  # type: ignore[attr-defined]
        if bands is not None:
            return bands
        if isinstance(file, str) and tags.get(ORIENTATION, 1) >= FIRST_SWAPPED_ORIENTATION:
            with open(file, "rb") as f:  # Pillow maps a file into memory, and then with width and height exchanged
                return Image.open(io.BytesIO(f.read()))
        return Image.open(file if isinstance(file, str) else io.BytesIO(file))
    except DECODE_ERRORS as e:
        raise UnreadableImage(name, error_reason(e)) from e


def _open_other(file: str | bytes, name: str, channels: int | None) -> MultichannelImage:
    """What Pillow does not know."""
    if isinstance(file, str):
        with open(file, "rb") as f:
            start = f.read(64)
    else:
        start = file[:64]
    if start.startswith(MAGIC):
        array = open_npy(file, channels) if isinstance(file, str) else read_npy(file, channels)
        return MultichannelImage(array.shape[2], lambda: array, "NPY")
    if is_tiff(start):
        return read_tifffile(file)
    raise UnreadableImage(name, describe_content(start))
