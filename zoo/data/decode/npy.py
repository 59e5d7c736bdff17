"""`.npy` files as images. The header is checked against the file size before memory is allocated."""

from __future__ import annotations

import io
import math
import os
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from zoo.data.decode.errors import UnsupportedPixels

Array = NDArray[Any]

MAGIC = b"\x93NUMPY"


def open_npy(path: str, channels: int | None) -> Array:
    """The memory-mapped array (H, W, C) of the file at `path`. See `to_channels_last`.

    Raises UnsupportedPixels or ValueError: invalid header, Python objects, invalid shape, or truncated file.
    """
    with open(path, "rb") as f:
        shape, order, dtype = _header(f, os.fstat(f.fileno()).st_size)
        whole = np.memmap(f, dtype=dtype, mode="r", offset=f.tell(), shape=shape, order=order)
    return to_channels_last(whole, channels)


def read_npy(data: bytes, channels: int | None) -> Array:
    """As `open_npy`, from the bytes of a file."""
    f = io.BytesIO(data)
    shape, order, dtype = _header(f, len(data))
    flat = np.frombuffer(data, dtype, math.prod(shape), f.tell())
    return to_channels_last(flat.reshape(shape, order=order), channels)


def _header(f: BinaryIO, size: int) -> tuple[tuple[int, ...], Any, np.dtype[Any]]:
    version = np.lib.format.read_magic(f)
    if version not in ((1, 0), (2, 0)):
        raise UnsupportedPixels(f"a .npy file of version {version}, which holds no plain numbers")
    read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    shape, is_fortran, dtype = read(f)
    if dtype.hasobject:
        raise UnsupportedPixels("an array of Python objects, which is not loaded: it could run code")
    if dtype.kind not in "buif":
        raise UnsupportedPixels(f"an array of type {dtype}; pixels are bool, uint8, uint16 or floating point")
    if len(shape) not in (2, 3) or 0 in shape:
        raise UnsupportedPixels(f"an array of shape {shape}; an image is (H, W), (H, W, C) or (C, H, W)")
    wanted, there = math.prod(shape) * dtype.itemsize, size - f.tell()
    if wanted > there:
        raise UnsupportedPixels(
            f"truncated file: shape {shape} of {dtype} is {wanted:,} bytes, and {there:,} are there"
        )
    return shape, "F" if is_fortran else "C", dtype


def to_channels_last(array: Array, channels: int | None) -> Array:
    """An (H, W, C) view of an array (H, W), (H, W, C) or (C, H, W).

    The channel axis is the first or last axis: the one with `channels` entries (the last if both have). If neither
    has, or `channels` is None, it is the shorter one (the last if equal). Raises UnsupportedPixels on another shape,
    Pillow's DecompressionBombError above its pixel limit.
    """
    if array.ndim == 2:
        array = array[:, :, None]
    elif array.ndim != 3 or 0 in array.shape:
        raise UnsupportedPixels(f"an array of shape {array.shape}; an image is (H, W), (H, W, C) or (C, H, W)")
    else:
        first, last = array.shape[0], array.shape[2]
        leads = first < last if channels not in (first, last) else last != channels
        if leads:
            array = array.transpose(1, 2, 0)
    if array.shape[0] * array.shape[1] > 2 * (Image.MAX_IMAGE_PIXELS or math.inf):
        raise Image.DecompressionBombError
    return array
