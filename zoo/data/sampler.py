"""The images of an epoch: which, how often, and in which order.

How often: in `none` every image once. The others draw class c in proportion to n_c^q, n_c its number of images, as the
samplers that Kang et al. compare ("Decoupling Representation and Classifier for Long-Tailed Recognition", ICLR 2020,
equation 1): `oversample` with q = 0, every class equally often, `sqrt` with q = 1/2. An epoch stays as long as the data
set. With several labels an image counts by its rarest one, as in the repeat factor sampling of Gupta, Dollár and
Girshick ("LVIS", CVPR 2019, section 5.2): max over its labels of (t / f)^(1 - q), f a label's share of the images.
There t, from which on labels are rare, is a number; here it is the largest f, so that all others are. Images without a
label count as those of the most frequent one.

Each image is then used as often as its expectation says, rounded down or up: by systematic sampling (Madow, "On the
Theory of Systematic Sampling, II", Annals of Mathematical Statistics 20, 1949), one random offset for all of them, so
that the length of the epoch is exact and that of every class too, but for one image. Drawing each image on its own with
replacement would give the same on average, with a third of a class missing in each epoch.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray

from zoo.arrays import Indices

__all__ = ["BALANCES", "Balance", "cumulative_count", "describe_balance", "epoch_order", "expected_class_counts"]

Targets = NDArray[np.int64] | NDArray[np.float32]
Balance = Literal["none", "oversample", "sqrt"]
BALANCES: tuple[Balance, ...] = get_args(Balance)

_EXPONENT: dict[str, float] = {"none": 1.0, "sqrt": 0.5, "oversample": 0.0}

# Shards that are shuffled together, and the images that they hold at least: so much of an archive stays in the system's
# cache while it is read, and neighbours in a shard are far apart in the epoch.
_MIN_SHARDS = 8
_MIN_IMAGES = 8192

_MAX_NAMED = 8  # classes named in a sentence


def epoch_order(
    n: int, *, targets: Targets, balance: Balance, shards: Indices | None, rng: np.random.Generator
) -> Indices:
    """(n,) indices of the images of an epoch in their order; the same for the same state of `rng`.

    targets: (n,) int64, or (n, K) of 0 and 1. shards: (n,) the shard of each image; shards come in random order, and
    as few are shuffled together as hold 8,192 images, 8 at least. None: all images are shuffled together.
    """
    images = np.arange(n)
    if balance != "none":
        images = np.repeat(images, _draw_counts(expected_counts(targets, balance), targets, rng))
    if shards is None:
        return rng.permutation(images)
    return images[np.lexsort((rng.random(n), _windows(shards, rng)[images]))]


def cumulative_count(order: Indices) -> Indices:
    """(n,) how often each entry of `order` stands before it: 0 the first time."""
    by_image = np.argsort(order, kind="stable")
    ordered = order[by_image]
    starts = np.flatnonzero(np.r_[True, ordered[1:] != ordered[:-1]]) if len(order) else np.zeros(0, np.int64)
    lengths = np.diff(np.r_[starts, len(order)])
    before = np.empty(len(order), np.int64)
    before[by_image] = np.arange(len(order)) - np.repeat(starts, lengths)
    return before


def expected_counts(targets: Targets, balance: Balance) -> NDArray[np.float64]:
    """(n,) how often an epoch of n images shows each, on average; they sum to n."""
    n = len(targets)
    power = 1 - _EXPONENT[balance]
    if targets.ndim == 1:
        counts = np.bincount(np.asarray(targets, np.int64)).astype(np.float64)
        weights = (1 / np.maximum(counts, 1) ** power)[np.asarray(targets, np.int64)]
    else:
        positive = targets > 0
        counts = np.count_nonzero(positive, axis=0).astype(np.float64)
        factors = (counts.max(initial=1) / np.maximum(counts, 1)) ** power
        weights = np.ones(n)
        for label, factor in enumerate(factors.tolist()):  # a column at a time: (n, K) of float64 would be large
            np.maximum(weights, np.where(positive[:, label], factor, 1), out=weights)
    return np.asarray(weights * (n / weights.sum()))


def expected_class_counts(targets: Targets, classes: int, balance: Balance) -> NDArray[np.float64]:
    """(K,) images of each class or label that an epoch shows, on average."""
    times = expected_counts(targets, balance)
    if targets.ndim == 1:
        return np.asarray(np.bincount(np.asarray(targets, np.int64), times, minlength=classes), np.float64)
    return np.array([times[targets[:, k] > 0].sum() for k in range(classes)])


def describe_balance(targets: Targets, classes: Sequence[str], balance: Balance) -> str:
    """A sentence about what an epoch shows, "" if it shows every image once."""
    if balance == "none":
        return ""
    there = np.bincount(targets, minlength=len(classes)) if targets.ndim == 1 else np.count_nonzero(targets, axis=0)
    shown = np.rint(expected_class_counts(targets, len(classes), balance)).astype(np.int64)
    order = np.argsort(there, kind="stable").tolist()
    cut = order if len(order) <= _MAX_NAMED else [*order[: _MAX_NAMED // 2], *order[-_MAX_NAMED // 2 :]]
    parts = [f"{classes[k]} {shown[k]:,} (of {there[k]:,})" for k in cut]
    if len(cut) < len(order):
        parts.insert(_MAX_NAMED // 2, "…")
    return f"balance {balance}: an epoch draws {len(targets):,} times: {', '.join(parts)}"


def _draw_counts(wanted: NDArray[np.float64], targets: Targets, rng: np.random.Generator) -> Indices:
    """How often each image is used: `wanted` rounded down or up, n in all, by systematic sampling along the classes."""
    n = len(wanted)
    shuffled = rng.permutation(n)
    keys = targets if targets.ndim == 1 else wanted
    along = shuffled[np.argsort(keys[shuffled], kind="stable")]  # class by class, within one in random order
    ends = np.cumsum(wanted[along])
    ends[-1:] = n  # but for rounding it is
    marks = np.floor(ends + rng.random()).astype(np.int64)
    times = np.empty(n, np.int64)
    times[along] = np.diff(marks, prepend=0)
    return times


def _windows(shards: Indices, rng: np.random.Generator) -> Indices:
    """(n,) the window that the shard of each image falls into, the shards in random order."""
    _, shard, images = np.unique(shards, return_inverse=True, return_counts=True)
    window = np.empty(len(images), np.int64)
    number = held = together = 0
    for s in rng.permutation(len(images)).tolist():
        if together >= _MIN_SHARDS and held >= _MIN_IMAGES:
            number, held, together = number + 1, 0, 0
        window[s] = number
        held, together = held + int(images[s]), together + 1
    return window[shard.ravel()]
