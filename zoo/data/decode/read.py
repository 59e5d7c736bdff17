"""Decode a file to (H, W, C) uint8, or raise `UnreadableImage` with the reason. See also the table in docs/pixels.md.

- EXIF orientation is applied. Animations give their first frame; for TIFF pages see `zoo.data.decode.tiff`.
- Transparency (alpha, or a transparent palette entry) is composited over white, as on a web page; if four channels are
  requested (two for grey), the last one is alpha.
- Values of more than 8 bits are scaled by the range of the type, or of the data set where it was measured
  (`IntensityRange`), never of the single image, so that equal values stay equal. NaN, infinity and negative values are
  refused.
- Grey is repeated in three channels for a 3-channel model; colour becomes luminance (ITU-R 601) for a 1-channel model.
  Any other mismatch of channels is refused: no channel is dropped or invented.
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
    UnreadableImage,
    describe_content,
    describe_non_file,
    error_reason,
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

Opened = Image.Image | MultichannelImage


def read_image(
    path: str, channels: int, choose_view: ChooseView | None = None, intensity_range: IntensityRange = DTYPE_RANGE
) -> Pixels:
    """Read an image file by the rules at the top of this module.

    Args:
        path: path of the file.
        channels: number of channels.
        choose_view: function of (height, width) that returns the view to decode; None for the whole image.
        intensity_range: the range of images of more than 8 bits.

    Returns:
        (H, W, channels) uint8.

    Raises:
        UnreadableImage: the file cannot be read as such an image.
    """
    return _read(lambda: _open(path, path, channels), path, channels, choose_view, intensity_range)


def read_bytes(
    data: bytes,
    name: str,
    channels: int,
    choose_view: ChooseView | None = None,
    intensity_range: IntensityRange = DTYPE_RANGE,
) -> Pixels:
    """As `read_image`, from the bytes of a file; `name` is used in errors."""
    return _read(lambda: _open(data, name, channels), name, channels, choose_view, intensity_range)


def read_pil(
    image: Image.Image,
    name: str,
    channels: int,
    choose_view: ChooseView | None = None,
    intensity_range: IntensityRange = DTYPE_RANGE,
) -> Pixels:
    """As `read_image`, from an opened image, which is closed; `name` is used in errors."""
    return _read(lambda: image, name, channels, choose_view, intensity_range)


def read_preview(file: str | bytes, name: str, choose_view: ChooseView | None = None) -> Pixels:
    """(H, W, 3) uint8 of a path or the bytes of a file, for display and comparison.

    Multichannel images show their first three channels (or the first one), scaled by the image's own bit depth. Raises
    UnreadableImage.
    """
    try:
        with _open(file, name, None) as opened:
            if not isinstance(opened, MultichannelImage):
                return read_pillow(opened, 3, choose_view, DTYPE_RANGE)
            numbers = opened.load()
            high = min_max(numbers)[1] if numbers.dtype.kind in "uif" else 1
            intensity_range = IntensityRange((white_level(high),), (1 if high <= 1 else white_level(high),))
            visible = (
                numbers if opened.count in (1, 3) or opened.alpha else numbers[:, :, : 3 if opened.count > 3 else 1]
            )
            shown = MultichannelImage(visible.shape[2], lambda: visible, opened.kind, opened.alpha)
            return shown.pixels(3, choose_view, intensity_range)
    except DECODE_ERRORS as e:
        raise UnreadableImage(name, error_reason(e)) from e


def intensity_stats(file: str | bytes, name: str) -> IntensityStats:
    """Intensity statistics of an image of more than 8 bits; empty for other and unreadable images."""
    try:
        with _open(file, name, None) as opened:
            if isinstance(opened, MultichannelImage):
                return measure_intensity(opened.load())
            if opened.mode in HIGH_BIT_DEPTH_MODES:
                return measure_intensity(read_high_bit_depth(opened).load())
    except (UnreadableImage, *DECODE_ERRORS):
        pass
    return IntensityStats()


def read_multichannel_header(file: str | bytes, name: str) -> MultichannelImage | None:
    """The header of a multichannel image, closed; None for images that Pillow reads."""
    with _open(file, name, None) as opened:
        return opened if isinstance(opened, MultichannelImage) else None


def check_image(path: str, *, decode: bool, channels: int | None = None) -> str:
    """The reason why the file at `path` is unreadable, or "" if it is readable.

    JPEGs are decoded at an eighth of their size, which detects truncation as a full decode would. The checksums of PNGs
    are compared, which decoding does not do.

    Args:
        path: path of the file.
        decode: whether to decode the whole file, not only its header.
        channels: number of channels of the model, if known.
    """
    return _check(lambda: _open(path, path, channels), decode=decode, channels=channels)


def check_bytes(data: bytes, name: str, *, decode: bool, channels: int | None = None) -> str:
    """As `check_image`, from the bytes of a file."""
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
    """`channels` helps to find the channel axis of an array. Raises UnreadableImage."""
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
            with open(file, "rb") as f:  # Pillow memory-maps a path, and then swaps width and height
                return Image.open(io.BytesIO(f.read()))
        return Image.open(file if isinstance(file, str) else io.BytesIO(file))
    except DECODE_ERRORS as e:
        raise UnreadableImage(name, error_reason(e)) from e


def _open_other(file: str | bytes, name: str, channels: int | None) -> MultichannelImage:
    """Open a file that Pillow cannot identify."""
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
