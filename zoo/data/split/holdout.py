"""Split one set of images into a training and a validation set."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from zoo.arrays import Indices
from zoo.data.dataset import Targets
from zoo.data.split.grouped import TARGET_BINS, Strata, group_holdout_split, rank_bins
from zoo.errors import DataError, UsageError
from zoo.tasks import TaskName, get_task


def holdout_split(
    targets: Targets,
    classes: Sequence[str],
    task: TaskName,
    *,
    fraction: float,
    seed: int,
    groups: Indices | None = None,
) -> tuple[Indices, Indices, str]:
    """Split by the rule of the task: stratified by class, by label (iterative) or by target bins.

    Args:
        targets: targets of `task`, N images.
        classes: names of the classes, labels or targets.
        task: name of the task.
        fraction: share of validation images, between 0 and 1.
        seed: random seed; equal arguments give equal splits.
        groups: (N,) group numbers; images of a group stay together.

    Returns:
        Sorted training indices, sorted validation indices (neither empty), and a message that describes the rule.

    Raises:
        DataError: too few images or groups.
        UsageError: the fraction is not between 0 and 1.
    """
    owner = get_task(task)
    if groups is not None:
        _require_fraction(fraction)
        strata = Strata.of(targets, len(classes), task)
        held_out = group_holdout_split(groups, strata, fraction=fraction, seed=seed)
        train, val = np.flatnonzero(~held_out), np.flatnonzero(held_out)
        part = f"each {owner.output}" if owner.has_classes else f"each range of {classes[0]!r}"
        held, there = len(np.unique(groups[val])), len(np.unique(groups))
        how = f"{held:,} of {there:,} whole groups, about {100 * fraction:.3g}% of {part}"
    elif owner.has_one_class_per_image:
        train, val = stratified_split(np.asarray(targets, np.int64), classes, fraction=fraction, seed=seed)
        how = f"{100 * fraction:.3g}% per class, at least one"
    elif owner.has_classes:
        train, val = iterative_split(targets > 0, fraction=fraction, seed=seed)
        how = f"{100 * fraction:.3g}% per label, at least one if it has two"
    else:
        train, val, ranges = binned_split(np.asarray(targets[:, 0], np.float32), fraction=fraction, seed=seed)
        how = f"{100 * fraction:.3g}% of each of {ranges} equally large ranges of {classes[0]!r}"
    return train, val, f"validation: {len(val):,} of {len(targets):,} images ({how}, seed {seed})"


def stratified_split(
    targets: Indices, classes: Sequence[str], *, fraction: float, seed: int
) -> tuple[Indices, Indices]:
    """(train, val) sorted indices: ceil(fraction * n) images in val, in proportion to the classes.

    The shares are rounded by largest remainder. Every class has at least one image in both parts, even if that changes
    the total. The images of each class are drawn with its own generator, seeded by (seed, class).
    Raises DataError if a class has a single image, UsageError if the fraction is not between 0 and 1.
    """
    _require_fraction(fraction)
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


def binned_split(values: NDArray[np.float32], *, fraction: float, seed: int) -> tuple[Indices, Indices, int]:
    """(train, val, number of bins): `stratified_split` by equally large bins of the values (N,).

    At most ten bins, fewer if one would have no image in one of the parts.
    """
    _require_fraction(fraction)
    n = len(values)
    _require_two_images(n)
    ranges = max(1, min(TARGET_BINS, int(n * min(fraction, 1 - fraction))))
    names = [str(r) for r in range(ranges)]
    train, val = stratified_split(rank_bins(values, ranges), names, fraction=fraction, seed=seed)
    return train, val, ranges


def iterative_split(positive: NDArray[np.bool_], *, fraction: float, seed: int) -> tuple[Indices, Indices]:
    """(train, val) sorted indices by iterative stratification of the labels `positive` (N, K).

    Sechidis, Tsoumakas and Vlahavas, "On the Stratification of Multi-Label Data", ECML PKDD 2011, algorithm 1, for two
    parts. The rarest label with images left is next. The paper assigns its images one at a time to the part that is
    owed more; for two parts, this equals giving val the rounded number that it is owed, so all are drawn at once.
    A half is rounded in favour of the part that is owed more images in total. Images without a label come last.

    Beyond the paper: a label of two or more images has at least one in each part, where that does not remove another
    label; the only image of a label stays in train.
    """
    _require_fraction(fraction)
    n, k = positive.shape
    _require_two_images(n)
    rng = np.random.default_rng(seed)
    totals = np.count_nonzero(positive, axis=0)
    having = images_by_label(positive)
    left = np.ones(n, dtype=bool)
    remaining = totals.copy()
    held_out = np.zeros(n, dtype=bool)
    owed_all, owed = fraction * n, fraction * totals
    shown = np.zeros((2, k), dtype=np.int64)  # images of each label in train and val so far
    while remaining.any():
        label = int(np.where(remaining > 0, remaining, n + 1).argmin())
        images = rng.permutation(having[label][left[having[label]]])
        least = int(totals[label] > 1 and shown[1, label] == 0)
        most = len(images) - int(shown[0, label] == 0)
        share = float(owed[label])
        half_up = owed_all > fraction * np.count_nonzero(left)
        give = math.floor(share + 0.5) if half_up else math.ceil(share - 0.5)
        give = min(max(give, least), most)
        chosen, others = positive[images[:give]].sum(0), positive[images[give:]].sum(0)
        held_out[images[:give]] = True
        left[images] = False
        shown += np.stack([others, chosen])
        remaining -= chosen + others
        owed = owed - chosen
        owed_all -= give
    rest = rng.permutation(np.flatnonzero(left))
    held_out[rest[: max(round(owed_all), 0)]] = True
    _fix_missing_labels(positive, having, totals, held_out, rng)
    if held_out.all() or not held_out.any():  # too few images: the shares round to zero
        held_out[rng.integers(n)] ^= True
    return np.flatnonzero(~held_out), np.flatnonzero(held_out)


def images_by_label(positive: NDArray[np.bool_]) -> list[Indices]:
    """The sorted image indices of each label of `positive` (N, K)."""
    rows, labels = np.nonzero(positive)
    ends = np.cumsum(np.bincount(labels, minlength=positive.shape[1]))
    return np.split(rows[np.argsort(labels, kind="stable")], ends[:-1])


def _fix_missing_labels(
    positive: NDArray[np.bool_],
    having: Sequence[Indices],
    totals: Indices,
    held_out: NDArray[np.bool_],
    rng: np.random.Generator,
) -> None:
    """Move single images so that labels of two or more images are in both parts, without removing another label."""
    in_val = np.count_nonzero(positive[held_out], axis=0)
    for label in np.flatnonzero((totals > 1) & ((in_val == 0) | (in_val == totals))).tolist():
        into_val = in_val[label] == 0
        if not into_val and in_val[label] < totals[label]:
            continue  # fixed by a move for another label
        for image in rng.permutation(having[label]):
            here = totals - in_val if into_val else in_val  # images of each label in the part that loses one
            if (here[positive[image]] > 1).all():
                held_out[image] = into_val
                in_val += positive[image] if into_val else -positive[image].astype(np.int64)
                break


def _require_fraction(fraction: float) -> None:
    if not 0 < fraction < 1:
        raise UsageError(f"the validation fraction must be between 0 and 1, not {fraction}", "0.2 holds out a fifth")


def _require_two_images(n: int) -> None:
    if n < 2:
        raise DataError("a split needs two images or more", "add images, or give the validation images with --val PATH")
