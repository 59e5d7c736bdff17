"""Near-duplicates: a 64-bit perceptual hash finds candidate pairs, small thumbnails confirm them.

The hash is pHash (Zauner, "Implementation and Benchmarking of Perceptual Image Hash Functions", 2010): the 8x8
coefficients from (1, 1) of the DCT of a 32x32 grey thumbnail, one bit for each coefficient above their median. The
paper's 7x7 mean filter is omitted, because resizing already averages. The hash alone confuses different digits. So two
images are near-duplicates only if their 16x16 grey thumbnails correlate and their colours agree too (`thresholds`).
Brightness, contrast, size and compression change neither. Crops, rotations and flips count as different images.

Candidate pairs are found by multi-index hashing (Norouzi, Punjani and Fleet, "Fast Search in Hamming Space with
Multi-Index Hashing", CVPR 2012): if two hashes differ in at most 7 bits, one of their four 16-bit bands differs in at
most 1 bit. So each hash is looked up in four tables under 17 keys each. No pair within 7 bits is missed, and it takes a
few megabytes of memory.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from zoo.data.check.image_record import GREY, Records
from zoo.data.check.thresholds import COLOUR, DISTANCE, SAME_SHAPE, SIMILAR

SIDE = 32
_BITS = np.arange(64, dtype=np.uint64)
_PAIRS = 16_384  # compared at a time: 2 x 16 MB
_BANDS = 4
_WIDTH = 16
_PAIRS_PER_STEP = 2_000_000  # pairs compared at a time
# Pairs compared in all, about a minute. More are needed only if nearly all images look the same.
_MAX_PAIRS = 2_000_000_000

Pairs = tuple[NDArray[np.int64], NDArray[np.int64]]


def _dct_matrix(n: int) -> NDArray[np.float32]:
    k, x = np.arange(n)[:, None], np.arange(n)[None, :]
    return np.cos(np.pi * (2 * x + 1) * k / (2 * n)).astype(np.float32)


_DCT = _dct_matrix(SIDE)[1:9]


def fill_hashes(planes: NDArray[np.uint8], into: Records) -> None:
    """Fill phash, luma and colour of the rows `into` from thumbnails (3, n, 32, 32): red, green, blue."""
    rgb = planes.astype(np.float32)
    luma = np.float32(0.299) * rgb[0] + np.float32(0.587) * rgb[1] + np.float32(0.114) * rgb[2]
    low = (_DCT @ luma @ _DCT.T).reshape(len(luma), 64)
    bits = low > np.median(low, axis=1, keepdims=True)
    into["phash"] = (bits.astype(np.uint64) << _BITS).sum(axis=1, dtype=np.uint64)
    into["luma"] = np.rint(luma.reshape(-1, 16, 2, 16, 2).mean(axis=(2, 4)))
    red, green, blue = rgb.reshape(3, -1, 4, 8, 4, 8).mean(axis=(3, 5))
    # Red and blue relative to green, halved to fit a signed byte.
    into["colour"] = np.rint(np.stack([red - green, blue - green], axis=-1) / 2)


def luma_std(rows: Records) -> NDArray[np.float32]:
    """(n,) standard deviation of the 16x16 grey levels."""
    return np.asarray(rows["luma"].reshape(len(rows), -1).std(axis=1, dtype=np.float32))


def confirmed_correlation(rows: Records, left: NDArray[np.int64], right: NDArray[np.int64]) -> NDArray[np.float32]:
    """(n,) correlation of the pairs rows[left], rows[right]; 0 for pairs that are no near-duplicates."""
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


def distances(a: NDArray[np.uint64], b: NDArray[np.uint64]) -> NDArray[np.uint8]:
    """(n,) number of bits that differ (parallel bit count; numpy has `bitwise_count` from version 2)."""
    x = a ^ b
    x = x - ((x >> np.uint64(1)) & np.uint64(0x5555555555555555))
    x = (x & np.uint64(0x3333333333333333)) + ((x >> np.uint64(2)) & np.uint64(0x3333333333333333))
    x = (x + (x >> np.uint64(4))) & np.uint64(0x0F0F0F0F0F0F0F0F)
    return np.asarray((x * np.uint64(0x0101010101010101)) >> np.uint64(56), np.uint8)


def close_pairs(hashes: NDArray[np.uint64]) -> tuple[NDArray[np.int64], NDArray[np.int64], bool]:
    """(left, right, complete): left < right, each pair once, of `hashes` (n,) at most DISTANCE bits apart.

    complete is False if the search stopped early because too many hashes are similar.
    """
    found: list[NDArray[np.int64]] = []
    compared, n = 0, len(hashes)
    for band in range(_BANDS):
        keys = ((hashes >> np.uint64(band * _WIDTH)) & np.uint64(0xFFFF)).astype(np.int64)
        order = np.argsort(keys, kind="stable")
        ends = np.cumsum(np.bincount(keys, minlength=1 << _WIDTH))
        starts = np.concatenate([[0], ends[:-1]])
        for flip in (0, *(1 << bit for bit in range(_WIDTH))):
            first, last = starts[keys ^ flip], ends[keys ^ flip]
            cumulated = np.cumsum(last - first)
            compared += int(cumulated[-1]) if n else 0
            if compared > _MAX_PAIRS:
                return *_unique(found, n), False
            done = 0
            while done < n:
                base = cumulated[done - 1] if done else 0
                stop = max(done + 1, int(np.searchsorted(cumulated, base + _PAIRS_PER_STEP, side="right")))
                found.append(_within(hashes, order, first[done:stop], last[done:stop], done))
                done = stop
    return *_unique(found, n), True


def _within(
    hashes: NDArray[np.uint64], order: NDArray[np.int64], first: NDArray[np.int64], last: NDArray[np.int64], offset: int
) -> NDArray[np.int64]:
    """Pairs as left * n + right of hash offset + i with each in order[first[i]:last[i]]."""
    sizes = last - first
    left = np.repeat(np.arange(len(first)) + offset, sizes)
    indices = np.arange(len(left)) - np.repeat(np.cumsum(sizes) - sizes, sizes) + np.repeat(first, sizes)
    right = order[indices]
    once = left < right
    left, right = left[once], right[once]
    close = distances(hashes[left], hashes[right]) <= DISTANCE
    pairs: NDArray[np.int64] = left[close] * len(hashes) + right[close]
    return pairs


def _unique(found: list[NDArray[np.int64]], n: int) -> Pairs:
    codes = np.unique(np.concatenate(found)) if found else np.empty(0, np.int64)
    return codes // max(n, 1), codes % max(n, 1)
