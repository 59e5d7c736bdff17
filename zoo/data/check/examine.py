"""A file → its row of the table, and why it cannot be read if it cannot. Runs in worker processes."""

from __future__ import annotations

import functools
import hashlib
import io
import os
import struct
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from zoo.augment.view import View
from zoo.data.check import records as r
from zoo.data.check.similarity import SIDE, describe, spread
from zoo.data.check.thresholds import BLANK_LEVELS, DETAIL, GREY_LEVELS, NEAR_SIDE
from zoo.data.dataset import ImageSource
from zoo.data.decode.read import UnreadableImage, band_facts, check_bytes, read_preview
from zoo.data.file_dataset import FileSource

__all__ = ["Examined", "examine_files", "examine_images", "pixel_hashes"]

_ORIENTATION = 0x0112
_SAME_FORMAT = {"MPO": "JPEG", "DIB": "BMP"}  # a phone's JPEG of several pictures; a BMP without its file header
_DEEP = ("I", "F", "I;16", "I;16L", "I;16B", "I;16N")
# What Pillow raises on a damaged header or checksum; the words for it come from `check_bytes`.
_DAMAGED = (OSError, SyntaxError, ValueError, EOFError, struct.error, zlib.error)


@dataclass(frozen=True)
class Examined:
    """rows: a record for each image. reasons: why it cannot be read, by place in `rows`."""

    rows: r.Records
    reasons: dict[int, str]


class _Reduced(View):
    """The whole image at 32x32, whatever its shape."""

    def at_least(self, height: int, width: int) -> tuple[int, int]:
        return min(height, SIDE), min(width, SIDE)

    def cut(self, image: Image.Image, height: int, width: int, plane: int = 0) -> Image.Image:
        return image.resize((SIDE, SIDE), Image.Resampling.BILINEAR, reducing_gap=3.0)


def examine_files(source: FileSource) -> Examined:
    """Read each file once, to its end; a JPEG at an eighth of its size, where that is still 32 pixels a side."""
    rows = np.zeros(len(source), dtype=r.RECORD)
    reduced = np.zeros((len(source), SIDE, SIDE, 3), dtype=np.uint8)
    reasons = {}
    for i in range(len(source)):
        try:
            reduced[i] = _examine(source.raw(i), source.where(i), rows[i])
        except UnreadableImage as e:
            reasons[i] = e.reason
    _finish(rows, reduced, lambda i: read_preview(source.raw(i), source.where(i)))
    return Examined(rows, reasons)


def _examine(data: bytes, path: str, row: np.void) -> NDArray[np.uint8]:
    """Fill `row` but for what `_finish` does; (32, 32, 3) of the image. Raises UnreadableImage."""

    def choose(height: int, width: int) -> View:
        row["height"], row["width"] = height, width
        return _Reduced()

    reduced = read_preview(data, path, choose)
    try:
        flags = _facts(data, path, row)
        if row["format"] == b"PNG":
            with Image.open(io.BytesIO(data)) as image:
                image.verify()  # checksums, which decoding does not compare
    except _DAMAGED as e:
        raise UnreadableImage(path, check_bytes(data, path, decode=True) or f"damaged file ({e})") from e
    row["content"] = np.frombuffer(hashlib.blake2b(data, digest_size=16).digest(), dtype="<u8")
    row["flags"] = flags | r.READ
    return reduced


def _facts(data: bytes, path: str, row: np.void) -> int:
    bands = band_facts(data, path)
    if bands is not None:
        row["format"], row["mode"], row["orientation"] = bands.kind.encode(), f"{bands.count} ch".encode(), 1
        return _misnamed(path, bands.kind) | (r.TRANSPARENT if bands.alpha else 0)
    with Image.open(io.BytesIO(data)) as image:
        return _facts_of(image, path, row)


def _misnamed(path: str, kind: str) -> int:
    """The flag of a file whose name says another format; a name that says none, as in a table of images, is no lie."""
    ending = os.path.splitext(path)[1].lower()
    named = "NPY" if ending == ".npy" else _endings().get(ending)
    return 0 if named in (None, kind) else r.MISNAMED


def _facts_of(image: Image.Image, path: str, row: np.void) -> int:
    kind = image.format or ""
    kind = _SAME_FORMAT.get(kind, kind)
    row["format"], row["mode"] = kind.encode()[:10], image.mode.encode()[:6]
    turn = image.getexif().get(_ORIENTATION, 1)
    row["orientation"] = turn if turn in range(1, 9) else 1
    flags = _misnamed(path, kind)
    if image.mode in ("RGBA", "RGBa", "LA", "La", "PA") or "transparency" in image.info:
        flags |= r.TRANSPARENT
    if image.mode in _DEEP:
        flags |= r.DEEP
    if image.format != "MPO" and getattr(image, "is_animated", False):
        flags |= r.ANIMATED
    return flags


@functools.cache
def _endings() -> dict[str, str]:
    """Ending → format, as Pillow's plugins state them."""
    return {ending: _SAME_FORMAT.get(kind, kind) for ending, kind in Image.registered_extensions().items()}


def examine_images(source: ImageSource, indices: Sequence[int]) -> Examined:
    """As `examine_files` for images that are no files of their own: size, pixels and likeness only."""
    rows = np.zeros(len(indices), dtype=r.RECORD)
    reduced = np.zeros((len(indices), SIDE, SIDE, 3), dtype=np.uint8)
    reasons = {}
    for i, index in enumerate(indices):
        try:
            pixels = source.read(index)
        except UnreadableImage as e:
            reasons[i] = e.reason
            continue
        rows[i]["height"], rows[i]["width"] = pixels.shape[:2]
        rows[i]["content"] = rows[i]["pixels"] = _digest_pixels(pixels)
        rows[i]["flags"] = r.READ
        rows[i]["orientation"] = 1
        seen = pixels if pixels.shape[2] == 3 else np.repeat(pixels[:, :, :1], 3, axis=2)
        reduced[i] = _Reduced().apply(np.ascontiguousarray(seen))
    _finish(rows, reduced, lambda i: source.read(indices[i]))
    return Examined(rows, reasons)


def pixel_hashes(source: FileSource) -> NDArray[np.uint64]:
    """(n, 2) hash of what a model is given of each file, decoded in full; 0 if it has become unreadable."""
    found = np.zeros((len(source), 2), dtype=np.uint64)
    for i in range(len(source)):
        try:
            found[i] = _digest_pixels(read_preview(source.raw(i), source.where(i)))
        except UnreadableImage:
            continue
    return found


def _finish(rows: r.Records, reduced: NDArray[np.uint8], read: Callable[[int], NDArray[np.uint8]]) -> None:
    """What is done for all rows at once. `read`: the whole image of a row, for those that may be blank."""
    if not len(rows):
        return
    red, green, blue = planes = np.ascontiguousarray(reduced.transpose(3, 0, 1, 2))
    describe(planes, rows)
    readable = (rows["flags"] & r.READ) > 0
    levels = np.maximum(np.maximum(red, green), blue) - np.minimum(np.minimum(red, green), blue)
    grey = levels.reshape(len(rows), -1).max(axis=1) <= GREY_LEVELS
    flat = planes.reshape(3, len(rows), -1)
    flat = (flat.max(axis=2) - flat.min(axis=2)).max(axis=0) <= BLANK_LEVELS
    large = np.minimum(rows["width"], rows["height"]) >= NEAR_SIDE
    rows["flags"] |= np.where(readable & grey, r.GREY, 0).astype(np.uint16)
    rows["flags"] |= np.where(readable & large & (spread(rows) >= DETAIL), r.DETAILED, 0).astype(np.uint16)
    for i in np.flatnonzero(readable & flat):
        # Averages over many pixels may be alike where the pixels are not.
        if np.ptp(read(int(i)), axis=(0, 1)).max() <= BLANK_LEVELS:
            rows["flags"][i] |= r.BLANK


def _digest_pixels(pixels: NDArray[np.uint8]) -> NDArray[np.uint64]:
    digest = hashlib.blake2b(repr(pixels.shape).encode(), digest_size=16)
    digest.update(np.ascontiguousarray(pixels).data)
    return np.frombuffer(digest.digest(), dtype="<u8")
