"""Pairs of 64-bit hashes within a few bits of each other, without comparing all with all.

Multi-index hashing (Norouzi, Punjani and Fleet, "Fast Search in Hamming Space with Multi-Index Hashing", CVPR 2012):
of two hashes at most 7 bits apart, one of the four 16-bit bands is at most 1 bit apart. So each hash is looked up in
four tables under 17 keys each. Nothing within 7 bits is missed; memory is a few megabytes at a time.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from zoo.data.check.thresholds import DISTANCE

__all__ = ["close_pairs", "distances"]

_BANDS = 4
_WIDTH = 16
_PAIRS_PER_STEP = 2_000_000  # pairs looked at in one step
# Pairs looked at in all; a set whose hashes crowd so much is all alike. A minute.
_MAX_PAIRS = 2_000_000_000

Pairs = tuple[NDArray[np.int64], NDArray[np.int64]]


def distances(a: NDArray[np.uint64], b: NDArray[np.uint64]) -> NDArray[np.uint8]:
    """(n,) number of bits in which they differ (the usual parallel count; numpy has its own from version 2 on)."""
    x = a ^ b
    x = x - ((x >> np.uint64(1)) & np.uint64(0x5555555555555555))
    x = (x & np.uint64(0x3333333333333333)) + ((x >> np.uint64(2)) & np.uint64(0x3333333333333333))
    x = (x + (x >> np.uint64(4))) & np.uint64(0x0F0F0F0F0F0F0F0F)
    return np.asarray((x * np.uint64(0x0101010101010101)) >> np.uint64(56), np.uint8)


def close_pairs(hashes: NDArray[np.uint64]) -> tuple[NDArray[np.int64], NDArray[np.int64], bool]:
    """(left, right, complete): left < right, each pair once, of `hashes` (n,) at most DISTANCE bits apart.

    complete is False if the search was given up because the hashes are too much alike.
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
    hashes: NDArray[np.uint64],
    order: NDArray[np.int64],
    first: NDArray[np.int64],
    last: NDArray[np.int64],
    offset: int,
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
