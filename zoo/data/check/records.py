"""What is kept of an image: a row of a table, 400 bytes, so that 100,000 of them take 40 MB."""

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

# width, height: as seen, after EXIF orientation. content: hash of the file's bytes (of the pixels, where the source has
# no files). pixels: hash of what a model would be given, 0 where nobody has asked. phash, luma, colour: see
# `zoo.data.check.similarity`. key: identity of the file in the cache, 0 if it has none. format, mode: as Pillow says.
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

READABLE = 1  # decoded without complaint; the other columns hold nothing without it
GREY = 2  # no colour in it, however it is stored
BLANK = 4  # one level all over
TRANSPARENT = 8
HIGH_BIT_DEPTH = 16  # levels beyond 8 bits
WRONG_EXTENSION = 32  # the ending of its name says another format
ANIMATED = 64  # several frames or pages
DETAILED = 128  # large and varied enough to be recognised by its perceptual hash
