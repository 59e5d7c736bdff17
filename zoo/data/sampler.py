"""The images of one epoch: which, how often, and in which order.

With balance `none`, every image once. Otherwise a class of n images is drawn in proportion to n^q (Kang et al.,
"Decoupling Representation and Classifier for Long-Tailed Recognition", ICLR 2020, equation 1): with `oversample` q is
0, so that all classes are equally frequent; with `sqrt` it is 1/2. The length of an epoch does not change.

An image with several labels is drawn as one of its rarest label, an image without labels as one of the most frequent
label. This is repeat factor sampling (Gupta, Dollár and Girshick, "LVIS", CVPR 2019, section 5.2), with the frequency
of the most frequent label as the threshold t.

How often an image is used is its expected number, rounded down or up by systematic sampling (Madow, "On the Theory of
Systematic Sampling, II", Annals of Mathematical Statistics 20, 1949). All images share one random offset, so the total
is exact, and that of each class up to one image. Drawing with replacement would omit a third of a class per epoch.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray

from zoo.arrays import Indices
from zoo.data.dataset import Targets, class_counts

Balance = Literal["none", "oversample", "sqrt"]
BALANCES: tuple[Balance, ...] = get_args(Balance)

_EXPONENT: dict[str, float] = {"none": 1.0, "sqrt": 0.5, "oversample": 0.0}

# At least so many shards and images are shuffled together: that much of an archive stays in the file system cache.
_MIN_SHARDS = 8
_MIN_IMAGES = 8192

_MAX_NAMED = 8  # classes named in a sentence


def epoch_order(
    n: int, *, targets: Targets, balance: Balance, shards: Indices | None, rng: np.random.Generator
) -> Indices:
    """(n,) indices of the images of an epoch in their order; the same for the same state of `rng`.

    targets: (n,) int64, or (n, K) of 0 and 1. shards: (n,) the shard of each image. The shards come in random order,
    and the images of at least 8 shards, and at least 8,192 images, are shuffled together. None: all images are.
    """
    images = np.arange(n)
    if balance != "none":
        images = np.repeat(images, _draw_counts(expected_counts(targets, balance), targets, rng))
    if shards is None:
        return rng.permutation(images)
    return images[np.lexsort((rng.random(n), _windows(shards, rng)[images]))]


def cumulative_count(order: Indices) -> Indices:
    """(n,) how often the same index occurs earlier in `order`: 0 the first time."""
    by_image = np.argsort(order, kind="stable")
    ordered = order[by_image]
    starts = np.flatnonzero(np.r_[True, ordered[1:] != ordered[:-1]]) if len(order) else np.zeros(0, np.int64)
    lengths = np.diff(np.r_[starts, len(order)])
    before = np.empty(len(order), np.int64)
    before[by_image] = np.arange(len(order)) - np.repeat(starts, lengths)
    return before


def expected_counts(targets: Targets, balance: Balance) -> NDArray[np.float64]:
    """(n,) how often an epoch of n images shows each of them, on average; the sum is n."""
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
    there = class_counts(targets, len(classes))
    shown = np.rint(expected_class_counts(targets, len(classes), balance)).astype(np.int64)
    order = np.argsort(there, kind="stable").tolist()
    cut = order if len(order) <= _MAX_NAMED else [*order[: _MAX_NAMED // 2], *order[-_MAX_NAMED // 2 :]]
    parts = [f"{classes[k]} {shown[k]:,} (of {there[k]:,})" for k in cut]
    if len(cut) < len(order):
        parts.insert(_MAX_NAMED // 2, "…")
    return f"balance {balance}: an epoch draws {len(targets):,} times: {', '.join(parts)}"


def _draw_counts(wanted: NDArray[np.float64], targets: Targets, rng: np.random.Generator) -> Indices:
    """(n,) how often each image is used: `wanted`, rounded by systematic sampling class by class; the sum is n."""
    n = len(wanted)
    shuffled = rng.permutation(n)
    keys = targets if targets.ndim == 1 else wanted
    along = shuffled[np.argsort(keys[shuffled], kind="stable")]  # class by class, in random order within each
    ends = np.cumsum(wanted[along])
    ends[-1:] = n  # removes the rounding error
    marks = np.floor(ends + rng.random()).astype(np.int64)
    times = np.empty(n, np.int64)
    times[along] = np.diff(marks, prepend=0)
    return times


def _windows(shards: Indices, rng: np.random.Generator) -> Indices:
    """(n,) the window of each image. A window is the shards, in random order, that are shuffled together."""
    _, shard, images = np.unique(shards, return_inverse=True, return_counts=True)
    window = np.empty(len(images), np.int64)
    number = held = together = 0
    for s in rng.permutation(len(images)).tolist():
        if together >= _MIN_SHARDS and held >= _MIN_IMAGES:
            number, held, together = number + 1, 0, 0
        window[s] = number
        held, together = held + int(images[s]), together + 1
    return window[shard.ravel()]
