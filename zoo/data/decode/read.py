"""A file → (H, W, C) uint8, or an `UnreadableImage` with the reason. The rules for pixels; docs/pixels.md has a table.

- EXIF orientation is applied. Of a moving picture the first frame is read; pages of a TIFF: `zoo.data.decode.tiff`.
- Transparency (alpha, or a palette's transparent entry) is composited over white, as a web page would show it; if four
  channels are asked for (of grey: two), it is the last of them.
- Levels of more than 8 bits are scaled by the type's range, or the data set's where it was measured (`Levels`), not by
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
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from zoo.data.decode.errors import (
    BROKEN,
    EXTENSIONS,
    UnreadableImage,
    is_image_name,
    not_a_file,
    reason_of,
    shown,
    what_starts_so,
)
from zoo.data.decode.intensity import BY_TYPE, Extent, depth_of, extent, measure, refuse_unknown
from zoo.data.decode.multichannel import Bands, Choose, require_fit
from zoo.data.decode.npy import MAGIC, open_npy, read_npy
from zoo.data.decode.pillow import DEEP, ON_ITS_SIDE, ORIENTATION, deep, picture, require_mode
from zoo.data.decode.tiff import by_tifffile, is_tiff, pages
from zoo.preprocess import Levels

__all__ = [
    "EXTENSIONS",
    "Choose",
    "UnreadableImage",
    "band_facts",
    "check_bytes",
    "check_image",
    "is_image_name",
    "level_range",
    "not_a_file",
    "read_bytes",
    "read_image",
    "read_pil",
    "read_preview",
    "shown",
]

Pixels = NDArray[np.uint8]
Opened = Image.Image | Bands


def read_image(path: str, channels: int, choose: Choose | None = None, levels: Levels = BY_TYPE) -> Pixels:
    """(H, W, channels) uint8 of the file at `path`, by the rules at the top of this module.

    With `choose`, only the view that it returns for the image's (height, width): a JPEG is then read by
    `zoo.data.decode.jpeg`, at 1/2, 1/4 or 1/8 of its size where the view leaves room. Raises UnreadableImage.
    """
    return _read(lambda: _open(path, path, channels), path, channels, choose, levels)


def read_bytes(data: bytes, name: str, channels: int, choose: Choose | None = None, levels: Levels = BY_TYPE) -> Pixels:
    """As `read_image`, of a file's bytes; `name` is what errors call it."""
    return _read(lambda: _open(data, name, channels), name, channels, choose, levels)


def read_pil(
    image: Image.Image, name: str, channels: int, choose: Choose | None = None, levels: Levels = BY_TYPE
) -> Pixels:
    """As `read_image`, of an opened image, which is closed behind; `name` is what errors call it."""
    return _read(lambda: image, name, channels, choose, levels)


def read_preview(file: str | bytes, name: str, choose: Choose | None = None) -> Pixels:
    """(H, W, 3) uint8 of a path or a file's bytes, to look at and compare by: of other channels than grey and colour
    the first three or the first one, levels by the depth that holds the image's own. Raises UnreadableImage."""
    try:
        with _open(file, name, None) as opened:
            if not isinstance(opened, Bands):
                return picture(opened, 3, choose, BY_TYPE)
            numbers = opened.load()
            high = extent(numbers)[1] if numbers.dtype.kind in "uif" else 1
            levels = Levels((depth_of(high),), (1 if high <= 1 else depth_of(high),))
            few = numbers if opened.count in (1, 3) or opened.alpha else numbers[:, :, : 3 if opened.count > 3 else 1]
            shown_as = Bands(few.shape[2], lambda: few, opened.kind, opened.alpha)
            return shown_as.pixels(3, choose, levels)
    except BROKEN as e:
        raise UnreadableImage(name, reason_of(e)) from e


def level_range(file: str | bytes, name: str) -> Extent:
    """The levels of an image beyond 8 bits; what cannot be read has none."""
    try:
        with _open(file, name, None) as opened:
            if isinstance(opened, Bands):
                return measure(opened.load())
            return measure(deep(opened).load()) if opened.mode in DEEP else Extent()
    except (UnreadableImage, *BROKEN):
        return Extent()


def band_facts(file: str | bytes, name: str) -> Bands | None:
    """The header of an image that Pillow cannot read as one picture, closed; None for all others."""
    with _open(file, name, None) as opened:
        return opened if isinstance(opened, Bands) else None


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


def _read(opened: Callable[[], Opened], name: str, channels: int, choose: Choose | None, levels: Levels) -> Pixels:
    try:
        with opened() as image:
            if isinstance(image, Bands):
                return image.pixels(channels, choose, levels)
            return picture(image, channels, choose, levels)
    except BROKEN as e:
        raise UnreadableImage(name, reason_of(e)) from e


def _check(opened: Callable[[], Opened], *, decode: bool, channels: int | None) -> str:
    try:
        with opened() as image:
            if isinstance(image, Bands):
                if channels is not None:
                    require_fit(image.count, image.alpha, channels)
                if decode:
                    refuse_unknown(image.load())
                return ""
            if channels is not None:
                require_mode(image, channels)
            if decode:
                image.draft(None, (max(1, image.width // 8), max(1, image.height // 8)))
                image.load()
                if image.mode in DEEP:
                    refuse_unknown(np.asarray(image))
                if image.format == "PNG":
                    with opened() as again:
                        again.verify()  # type: ignore[union-attr]
    except UnreadableImage as e:
        return e.reason
    except BROKEN as e:
        return reason_of(e)
    return ""


def _open(file: str | bytes, name: str, channels: int | None) -> Opened:
    """`channels` helps to tell which axis of an array they are. Raises UnreadableImage."""
    try:
        if isinstance(file, str):
            info = os.stat(file)
            if not stat.S_ISREG(info.st_mode):
                raise UnreadableImage(name, not_a_file(info.st_mode))
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
            bands = pages(image, file)
            tags = image.tag_v2  # type: ignore[attr-defined]
        if bands is not None:
            return bands
        if isinstance(file, str) and tags.get(ORIENTATION, 1) >= ON_ITS_SIDE:
            with open(file, "rb") as f:  # Pillow maps a file into memory, and then with width and height exchanged
                return Image.open(io.BytesIO(f.read()))
        return Image.open(file if isinstance(file, str) else io.BytesIO(file))
    except BROKEN as e:
        raise UnreadableImage(name, reason_of(e)) from e


def _open_other(file: str | bytes, name: str, channels: int | None) -> Bands:
    """What Pillow does not know."""
    if isinstance(file, str):
        with open(file, "rb") as f:
            start = f.read(64)
    else:
        start = file[:64]
    if start.startswith(MAGIC):
        array = open_npy(file, channels) if isinstance(file, str) else read_npy(file, channels)
        return Bands(array.shape[2], lambda: array, "NPY")
    if is_tiff(start):
        return by_tifffile(file)
    raise UnreadableImage(name, what_starts_so(start))
