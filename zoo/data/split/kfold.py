"""Stratified folds for K-fold cross-validation."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from zoo.arrays import Indices
from zoo.data.dataset import Targets
from zoo.data.split.grouped import Strata, group_folds
from zoo.data.split.holdout import images_by_label
from zoo.errors import DataError, UsageError
from zoo.tasks import TaskName, get_task


def fold_numbers(
    targets: Targets, classes: Sequence[str], task: TaskName, *, folds: int, seed: int, groups: Indices | None = None
) -> Indices:
    """(N,) the fold of each image, 1 to `folds`; equal arguments give equal folds, so that K runs share them.

    Single-label: the shuffled images of each class are assigned in turn, as in scikit-learn's StratifiedKFold; class
    counts and fold sizes differ by at most one. Multi-label: iterative stratification (`holdout.iterative_split`) for K
    parts. Regression: of every K images adjacent by the first target, each fold gets one. With groups (N,), by
    `zoo.data.split.grouped` for all tasks.

    Raises UsageError if `folds` is less than 2; DataError if there are more folds than images, images of the smallest
    class, or groups.
    """
    if folds < 2:
        raise UsageError(f"cannot split into {folds} folds", "give --folds 2 or more; 5 and 10 are usual")
    n = len(targets)
    if n < folds:
        raise DataError(f"{folds} folds of {n} images: some would be empty", f"--folds {max(n, 2)} at most")
    rng = np.random.default_rng(seed)
    if groups is not None:
        return 1 + group_folds(groups, Strata.of(targets, len(classes), task), folds=folds, seed=seed)
    owner = get_task(task)
    if owner.has_one_class_per_image:
        return 1 + _class_folds(np.asarray(targets, np.int64), classes, folds, rng)
    if owner.has_classes:
        return 1 + _label_folds(targets > 0, folds, rng)
    return 1 + _number_folds(np.asarray(targets[:, 0], np.float32), folds, rng)


def _class_folds(targets: Indices, classes: Sequence[str], folds: int, rng: np.random.Generator) -> Indices:
    counts = np.bincount(targets, minlength=len(classes))
    small = np.flatnonzero((counts > 0) & (counts < folds))
    if len(small):
        named = ", ".join(f"{classes[k]!r} ({counts[k]})" for k in small[:10]) + (" …" if len(small) > 10 else "")
        raise DataError(
            f"{folds} folds, but fewer images of {named}: each fold needs one of every class",
            "use fewer --folds, add images, or remove the class",
        )
    shuffled = rng.permutation(len(targets))
    order = shuffled[np.argsort(targets[shuffled], kind="stable")]
    fold = np.empty(len(targets), np.int64)
    fold[order] = np.arange(len(targets)) % folds
    return fold


def _number_folds(values: NDArray[np.float32], folds: int, rng: np.random.Generator) -> Indices:
    n = len(values)
    blocks = -(-n // folds)
    dealt = rng.permuted(np.tile(np.arange(folds), (blocks, 1)), axis=1).ravel()
    last = (blocks - 1) * folds  # the last block may be incomplete: any fold may be one image larger
    fold = np.empty(n, np.int64)
    fold[np.argsort(values, kind="stable")] = np.r_[dealt[:last], dealt[last : last + n - last]]
    return fold


def _label_folds(positive: NDArray[np.bool_], folds: int, rng: np.random.Generator) -> Indices:
    n = len(positive)
    totals = np.count_nonzero(positive, axis=0)
    having = images_by_label(positive)
    fold = np.full(n, -1, dtype=np.int64)
    owed_all, owed = np.full(folds, n / folds), np.tile(totals / folds, (folds, 1))
    remaining = totals.copy()
    while remaining.any():
        label = int(np.where(remaining > 0, remaining, n + 1).argmin())
        images = rng.permutation(having[label][fold[having[label]] < 0])
        give = _round_shares(owed[:, label], owed_all, len(images), rng)
        for part, chosen in enumerate(np.split(images, np.cumsum(give)[:-1])):
            fold[chosen] = part
            shown = positive[chosen].sum(0)
            owed[part] -= shown
            remaining -= shown
        owed_all -= give
    rest = rng.permutation(np.flatnonzero(fold < 0))
    fold[rest] = np.repeat(np.arange(folds), _round_shares(owed_all, owed_all, len(rest), rng))
    return fold


def _round_shares(
    owed: NDArray[np.float64], owed_all: NDArray[np.float64], n: int, rng: np.random.Generator
) -> Indices:
    """(K,) non-negative integers with the sum n, as close as possible to what each part is `owed`.

    Equal to assigning one at a time to the part that is owed most; ties go to the part that is owed more images in
    total.
    """
    give = np.maximum(np.floor(owed), 0).astype(np.int64)
    tie = np.lexsort((rng.permutation(len(owed)), owed_all)).argsort()
    while (missing := n - int(give.sum())) != 0:
        left = np.round(owed - give, 9)  # treats equal sums of shares as equal
        if missing > 0:
            give[np.lexsort((-tie, -left))[:missing]] += 1
        else:
            least = np.lexsort((tie, left))
            give[least[give[least] > 0][:-missing]] -= 1
    return give
