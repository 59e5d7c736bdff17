"""The record of one image, a row of 400 bytes: 100,000 images take 40 MB."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

__all__ = [
    "ANIMATED",
    "BLANK",
    "DETAILED",
    "GREY",
    "HIGH_BIT_DEPTH",
    "READABLE",
    "RECORD",
    "TRANSPARENT",
    "WRONG_EXTENSION",
    "Records",
]

# key: identity of the file in the cache, 0 if there is none. content: hash of the file's bytes, or of the pixels if the
# source has no files. pixels: hash of the decoded image, 0 if not computed. phash, luma, colour: see
# `zoo.data.check.perceptual_hash`. width, height: after EXIF orientation. format, mode: Pillow's names.
RECORD = np.dtype(
    [
        ("key", "<u8", (2,)),
        ("content", "<u8", (2,)),
        ("pixels", "<u8", (2,)),
        ("phash", "<u8"),
        ("width", "<u4"),
        ("height", "<u4"),
        ("format", "S10"),
        ("mode", "S6"),
        ("flags", "<u2"),
        ("orientation", "u1"),
        ("luma", "u1", (16, 16)),
        ("colour", "i1", (4, 4, 2)),
    ]
)
Records = NDArray[np.void]

READABLE = 1  # decoded without error; without it the other fields are empty
GREY = 2  # all pixels are grey, whatever the stored mode
BLANK = 4  # a single level
TRANSPARENT = 8
HIGH_BIT_DEPTH = 16  # more than 8 bits per channel
WRONG_EXTENSION = 32  # the file extension belongs to another format
ANIMATED = 64  # several frames or pages
DETAILED = 128  # large and varied enough for its perceptual hash to be meaningful
