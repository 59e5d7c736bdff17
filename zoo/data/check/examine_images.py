"""An image -> its record, or the reason why it cannot be read. Runs in worker processes."""

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
from zoo.data.check import image_record as r
from zoo.data.check.perceptual_hash import SIDE, fill_hashes, luma_std
from zoo.data.check.thresholds import BLANK_LEVELS, DETAIL, GREY_LEVELS, NEAR_SIDE
from zoo.data.dataset import ImageDataset
from zoo.data.decode.errors import UnreadableImage
from zoo.data.decode.read import check_bytes, read_multichannel_header, read_preview
from zoo.data.file_dataset import FileDataset

_ORIENTATION = 0x0112
_SAME_FORMAT = {"MPO": "JPEG", "DIB": "BMP"}  # MPO: a phone's JPEG with several images; DIB: a BMP without file header
_HIGH_BIT_DEPTH_MODES = ("I", "F", "I;16", "I;16L", "I;16B", "I;16N")
# Errors of Pillow for a damaged header or checksum; `check_bytes` gives the message.
_DAMAGED = (OSError, SyntaxError, ValueError, EOFError, struct.error, zlib.error)


@dataclass(frozen=True)
class ExaminedImages:
    """rows: (n,) records. reasons: index in `rows` -> why the image cannot be read."""

    rows: r.Records
    reasons: dict[int, str]


class _Reduced(View):
    """The whole image at 32x32, without its aspect ratio."""

    def min_size(self, height: int, width: int) -> tuple[int, int]:
        return min(height, SIDE), min(width, SIDE)

    def cut(self, image: Image.Image, height: int, width: int, plane: int = 0) -> Image.Image:
        return image.resize((SIDE, SIDE), Image.Resampling.BILINEAR, reducing_gap=3.0)


def examine_files(source: FileDataset) -> ExaminedImages:
    """Read and decode each file once; a JPEG at reduced size, at least 32 pixels per side."""
    rows = np.zeros(len(source), dtype=r.RECORD)
    reduced = np.zeros((len(source), SIDE, SIDE, 3), dtype=np.uint8)
    reasons = {}
    for i in range(len(source)):
        try:
            reduced[i] = _examine(source.read_file_bytes(i), source.where(i), rows[i])
        except UnreadableImage as e:
            reasons[i] = e.reason
    _finish(rows, reduced, lambda i: read_preview(source.read_file_bytes(i), source.where(i)))
    return ExaminedImages(rows, reasons)


def _examine(data: bytes, path: str, row: np.void) -> NDArray[np.uint8]:
    """Fill `row`, except the fields of `_finish`; returns a thumbnail (32, 32, 3). Raises UnreadableImage."""

    def choose_view(height: int, width: int) -> View:
        row["height"], row["width"] = height, width
        return _Reduced()

    reduced = read_preview(data, path, choose_view)
    try:
        flags = _facts(data, path, row)
        if row["format"] == b"PNG":
            with Image.open(io.BytesIO(data)) as image:
                image.verify()  # checksums, which decoding does not verify
    except _DAMAGED as e:
        raise UnreadableImage(path, check_bytes(data, path, decode=True) or f"damaged file ({e})") from e
    row["content"] = np.frombuffer(hashlib.blake2b(data, digest_size=16).digest(), dtype="<u8")
    row["flags"] = flags | r.READABLE
    return reduced


def _facts(data: bytes, path: str, row: np.void) -> int:
    bands = read_multichannel_header(data, path)
    if bands is not None:
        row["format"], row["mode"], row["orientation"] = bands.kind.encode(), f"{bands.count} ch".encode(), 1
        return _wrong_extension_flag(path, bands.kind) | (r.TRANSPARENT if bands.alpha else 0)
    with Image.open(io.BytesIO(data)) as image:
        return _facts_of(image, path, row)


def _wrong_extension_flag(path: str, kind: str) -> int:
    """The flag for an extension of another format; 0 without an extension, as for images stored in a table."""
    extension = os.path.splitext(path)[1].lower()
    named = "NPY" if extension == ".npy" else _extensions().get(extension)
    return 0 if named in (None, kind) else r.WRONG_EXTENSION


def _facts_of(image: Image.Image, path: str, row: np.void) -> int:
    kind = image.format or ""
    kind = _SAME_FORMAT.get(kind, kind)
    row["format"], row["mode"] = kind.encode()[:10], image.mode.encode()[:6]
    orientation = image.getexif().get(_ORIENTATION, 1)
    row["orientation"] = orientation if orientation in range(1, 9) else 1
    flags = _wrong_extension_flag(path, kind)
    if image.mode in ("RGBA", "RGBa", "LA", "La", "PA") or "transparency" in image.info:
        flags |= r.TRANSPARENT
    if image.mode in _HIGH_BIT_DEPTH_MODES:
        flags |= r.HIGH_BIT_DEPTH
    if image.format != "MPO" and getattr(image, "is_animated", False):
        flags |= r.ANIMATED
    return flags


@functools.cache
def _extensions() -> dict[str, str]:
    """Extension -> format, from Pillow."""
    return {extension: _SAME_FORMAT.get(kind, kind) for extension, kind in Image.registered_extensions().items()}


def examine_images(source: ImageDataset, indices: Sequence[int]) -> ExaminedImages:
    """As `examine_files`, for images that are not files: size, pixels and perceptual hash only."""
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
        rows[i]["flags"] = r.READABLE
        rows[i]["orientation"] = 1
        seen = pixels if pixels.shape[2] == 3 else np.repeat(pixels[:, :, :1], 3, axis=2)
        reduced[i] = _Reduced().apply(np.ascontiguousarray(seen))
    _finish(rows, reduced, lambda i: source.read(indices[i]))
    return ExaminedImages(rows, reasons)


def pixel_hashes(source: FileDataset) -> NDArray[np.uint64]:
    """(n, 2) hash of the decoded pixels of each file; 0 if it is unreadable now."""
    found = np.zeros((len(source), 2), dtype=np.uint64)
    for i in range(len(source)):
        try:
            found[i] = _digest_pixels(read_preview(source.read_file_bytes(i), source.where(i)))
        except UnreadableImage:
            continue
    return found


def _finish(rows: r.Records, reduced: NDArray[np.uint8], read: Callable[[int], NDArray[np.uint8]]) -> None:
    """Fill the fields that are computed for all rows together. read: returns the whole image of a row."""
    if not len(rows):
        return
    red, green, blue = planes = np.ascontiguousarray(reduced.transpose(3, 0, 1, 2))
    fill_hashes(planes, rows)
    readable = (rows["flags"] & r.READABLE) > 0
    spread = np.maximum(np.maximum(red, green), blue) - np.minimum(np.minimum(red, green), blue)
    grey = spread.reshape(len(rows), -1).max(axis=1) <= GREY_LEVELS
    flat = planes.reshape(3, len(rows), -1)
    flat = (flat.max(axis=2) - flat.min(axis=2)).max(axis=0) <= BLANK_LEVELS
    large = np.minimum(rows["width"], rows["height"]) >= NEAR_SIDE
    rows["flags"] |= np.where(readable & grey, r.GREY, 0).astype(np.uint16)
    rows["flags"] |= np.where(readable & large & (luma_std(rows) >= DETAIL), r.DETAILED, 0).astype(np.uint16)
    for i in np.flatnonzero(readable & flat):
        # The averages in the thumbnail may be equal although the pixels differ.
        if np.ptp(read(int(i)), axis=(0, 1)).max() <= BLANK_LEVELS:
            rows["flags"][i] |= r.BLANK


def _digest_pixels(pixels: NDArray[np.uint8]) -> NDArray[np.uint64]:
    digest = hashlib.blake2b(repr(pixels.shape).encode(), digest_size=16)
    digest.update(np.ascontiguousarray(pixels).data)
    return np.frombuffer(digest.digest(), dtype="<u8")
