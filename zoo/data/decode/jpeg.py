"""Fast decoding of a view of a JPEG: only the rows that the view needs, at a reduced size where possible.

- If the view downsamples enough, the JPEG is decoded at 1/2, 1/4 or 1/8 of its size: the decoder then computes the
  mean of each block instead of its pixels.
- Decoding stops below the last row of the view, by lowering the height in the file header (no decoder has a Python
  call for it). Only files with an end marker are read this way, so that truncated files are still detected.
"""

from __future__ import annotations

import io
import math

import numpy as np
from PIL import Image, ImageFile

from zoo.arrays import Pixels
from zoo.augment.resize import resize_and_crop
from zoo.augment.view import View, to_array

_FACTORS = (8, 4, 2, 1)
_END_MARKER = b"\xff\xd9"
# Pixel rows coded together, at most 4 blocks of 8. The rows below are needed for smooth chroma upsampling.
_ROWS = 32
# EXIF orientation → the operations that make the image upright: transpose, reverse rows, reverse columns.
_ORIENTATIONS = {
    1: (False, False, False),
    2: (False, False, True),
    3: (False, True, True),
    4: (False, True, False),
    5: (True, False, False),
    6: (True, False, True),
    7: (True, True, True),
    8: (True, True, False),
}


def decode_view(image: Image.Image, view: View, channels: int, orientation: int) -> Pixels | None:
    """`view` of an opened, not yet loaded JPEG with the EXIF orientation `orientation`, (H, W, channels) uint8.

    None if fast decoding does not apply (neither grey nor RGB, a view without a window, a damaged file); the caller
    then decodes the whole image, which reports damage. Raises what Pillow's decoder raises.
    """
    if not isinstance(image, ImageFile.ImageFile) or image.format not in ("JPEG", "MPO"):
        return None
    if image.mode not in ("L", "RGB") or channels not in (1, 3) or image.fp is None:
        return None
    width, height = image.size[::-1] if _ORIENTATIONS[orientation][0] else image.size
    window = view.window(height, width)
    if window is None:
        return None
    least_h, least_w = view.min_size(height, width)
    factor = next(f for f in _FACTORS if (height >= f * least_h and width >= f * least_w) or f == 1)
    image.fp.seek(0)
    data = bytearray(image.fp.read())
    mode = "L" if channels == 1 else "RGB"
    rows = image.height
    if orientation == 1 and image.format == "JPEG":
        rows = _needed_rows(data, math.ceil(window.box[3]), height)
    pixels = _decode_with_pillow(data, mode, rows, factor)
    if pixels is None:
        return None
    seen = resize_and_crop(_upright(pixels, orientation), window, factor)
    return seen if seen.shape[2] == channels else np.repeat(seen, channels, axis=2)


def _needed_rows(data: bytearray, bottom: int, height: int) -> int:
    """Number of rows to decode for the rows above `bottom`; all if the end marker is missing."""
    rows = (bottom // _ROWS + 2) * _ROWS
    return rows if rows < height and data.endswith(_END_MARKER) else height


def _decode_with_pillow(data: bytearray, mode: str, rows: int, factor: int) -> Pixels | None:
    offset = _height_at(data)
    if offset is None:
        return None
    data[offset : offset + 2] = rows.to_bytes(2, "big")
    with Image.open(io.BytesIO(data), formats=("JPEG",)) as image:
        width, height = image.size
        image.draft(mode, (max(1, width // factor), max(1, height // factor)))
        if image.size != (-(-width // factor), -(-height // factor)):
            return None
        image.decodermaxblock = len(data)  # the data is in memory: decode it in one block
        image.load()
        return to_array(image)


def _height_at(data: bytearray) -> int | None:
    """Offset of the image height (two bytes) in a JPEG header."""
    at = 2
    while at + 9 < len(data) and data[at] == 0xFF:
        marker = data[at + 1]
        if 0xC0 <= marker <= 0xC2:  # baseline, extended, progressive
            return at + 5
        if marker == 0xFF:  # a byte of padding
            at += 1
        else:
            at += 2 + int.from_bytes(data[at + 2 : at + 4], "big")
    return None


def _upright(pixels: Pixels, orientation: int) -> Pixels:
    transposed, rows, columns = _ORIENTATIONS[orientation]
    if transposed:
        pixels = pixels.swapaxes(0, 1)
    return pixels[:: -1 if rows else 1, :: -1 if columns else 1]
