"""The stated rule by which one set of images becomes a training and a validation set."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from zoo.errors import DataError, UsageError

__all__ = ["split_rule", "stratified_split"]

Indices = NDArray[np.int64]


def stratified_split(
    targets: Indices, classes: Sequence[str], *, fraction: float, seed: int
) -> tuple[Indices, Indices]:
    """(train, val) indices, each in rising order: ceil(fraction * n) images go to val, in each class in proportion.

    The shares are rounded by largest remainder; every class keeps at least one image on each side, which decides where
    that and the total disagree. Which images is drawn for each class from its own generator, seeded by (seed, class).
    Raises DataError if a class has a single image, UsageError if the fraction is not between 0 and 1.
    """
    if not 0 < fraction < 1:
        raise UsageError(f"the validation fraction must lie between 0 and 1, not {fraction}", "0.2 holds out a fifth")
    counts = np.bincount(targets, minlength=len(classes))
    single = [name for name, n in zip(classes, counts, strict=True) if n == 1]
    if single:
        names = ", ".join(repr(n) for n in single[:10]) + (" …" if len(single) > 10 else "")
        raise DataError(
            f"{'class' if len(single) == 1 else 'classes'} with one image only: {names}; a split needs two",
            "add images, remove the class, or give the validation images with --val PATH",
        )
    shares = counts * fraction
    take = np.floor(shares).astype(np.int64)
    missing = math.ceil(fraction * len(targets)) - int(take.sum())
    by_remainder = np.argsort(take - shares, kind="stable")
    take[by_remainder[: max(missing, 0)]] += 1
    take = np.minimum(np.maximum(take, 1), np.maximum(counts - 1, 0))
    held_out = np.zeros(len(targets), dtype=bool)
    for c in range(len(classes)):
        rng = np.random.default_rng(np.random.SeedSequence(seed, spawn_key=(c,)))
        held_out[rng.permutation(np.flatnonzero(targets == c))[: take[c]]] = True
    return np.flatnonzero(~held_out), np.flatnonzero(held_out)


def split_rule(fraction: float, seed: int, n_val: int, n: int) -> str:
    return (
        f"{n_val:,} of {n:,} images held out for validation: {fraction:.3g} of each class (at least one), "
        f"drawn with seed {seed}"
    )
