"""Images that look alike: a 64-bit perceptual hash to find candidates, small reductions to confirm them.

The hash is pHash as in Zauner, "Implementation and Benchmarking of Perceptual Image Hash Functions" (2010): of the
32x32 DCT of the grey levels the 8x8 coefficients from (1, 1), a bit for each that exceeds their median. His
7x7 mean filter is left out: the reduction averages already. Alone it takes different digits for each other; two images
count as near-duplicates if their 16x16 grey reductions correlate as well, and their colours agree (`thresholds`).
Neither changes with brightness, contrast, size or compression. Crops, turns and mirror images are other pictures to it.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from zoo.data.check.records import GREY, Records
from zoo.data.check.thresholds import COLOUR, SAME_SHAPE, SIMILAR

__all__ = ["SIDE", "confirmed_correlation", "fill_hashes", "luma_std"]

SIDE = 32
_BITS = np.arange(64, dtype=np.uint64)
_PAIRS = 16_384  # compared at a time: 2 x 16 MB


def _dct_matrix(n: int) -> NDArray[np.float32]:
    k, x = np.arange(n)[:, None], np.arange(n)[None, :]
    return np.cos(np.pi * (2 * x + 1) * k / (2 * n)).astype(np.float32)


_DCT = _dct_matrix(SIDE)[1:9]


def fill_hashes(planes: NDArray[np.uint8], into: Records) -> None:
    """Fill phash, luma and colour of the rows `into` from (3, n, 32, 32) reductions: red, green, blue."""
    rgb = planes.astype(np.float32)
    luma = np.float32(0.299) * rgb[0] + np.float32(0.587) * rgb[1] + np.float32(0.114) * rgb[2]
    low = (_DCT @ luma @ _DCT.T).reshape(len(luma), 64)
    bits = low > np.median(low, axis=1, keepdims=True)
    into["phash"] = (bits.astype(np.uint64) << _BITS).sum(axis=1, dtype=np.uint64)
    into["luma"] = np.rint(luma.reshape(-1, 16, 2, 16, 2).mean(axis=(2, 4)))
    red, green, blue = rgb.reshape(3, -1, 4, 8, 4, 8).mean(axis=(3, 5))
    # Red and blue against green, halved to fit a signed byte.
    into["colour"] = np.rint(np.stack([red - green, blue - green], axis=-1) / 2)


def luma_std(rows: Records) -> NDArray[np.float32]:
    """(n,) standard deviation of the 16x16 grey levels."""
    return np.asarray(rows["luma"].reshape(len(rows), -1).std(axis=1, dtype=np.float32))


def confirmed_correlation(rows: Records, left: NDArray[np.int64], right: NDArray[np.int64]) -> NDArray[np.float32]:
    """(n,) correlation of the pairs rows[left], rows[right]; 0 where it, colour or shape say that they differ."""
    found = np.zeros(len(left), dtype=np.float32)
    for start in range(0, len(left), _PAIRS):
        a, b = rows[left[start : start + _PAIRS]], rows[right[start : start + _PAIRS]]
        correlation = (_normal(a) * _normal(b)).sum(axis=1)
        colour = 2 * np.abs(a["colour"].astype(np.int16) - b["colour"]).mean(axis=(1, 2, 3))
        one_grey = ((a["flags"] | b["flags"]) & GREY) > 0
        shape = np.log((a["width"] / a["height"]) / (b["width"] / b["height"]))
        alike = (correlation >= SIMILAR) & ((colour <= COLOUR) | one_grey) & (np.abs(shape) <= np.log(SAME_SHAPE))
        found[start : start + _PAIRS] = np.where(alike, correlation, 0)
    return found


def _normal(rows: Records) -> NDArray[np.float32]:
    """(n, 256) grey levels with mean 0 and length 1."""
    levels = rows["luma"].reshape(len(rows), -1).astype(np.float32)
    levels -= levels.mean(axis=1, keepdims=True)
    return np.asarray(levels / np.maximum(np.linalg.norm(levels, axis=1, keepdims=True), 1e-6))
