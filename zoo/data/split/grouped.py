"""Stratified splits and folds that keep groups of images whole.

Groups are assigned one after the other, each to the part where the class shares stay most even: a greedy rule, like
scikit-learn's StratifiedGroupKFold. Groups with the largest share of a class come first, as they leave the least
choice. The total number of images counts as one more class.

scikit-learn minimises the mean standard deviation of the class shares over the folds. Here it is the sum of their
variances. It changes only for the classes of the current group, so only these are evaluated (5 to 12 times as fast),
and the parts may be of unequal size. Let s_p be the share of part p, which has x_pk of the T_k images of class k so
far. If it gets c more of them, the variance of x_pk / (s_p T_k) grows by (2 x_pk c + c²) / (s_p T_k²).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from zoo.arrays import Indices
from zoo.data.dataset import Targets
from zoo.errors import DataError
from zoo.tasks import TaskName, get_task

# Bins of a regression target: enough to give both parts the same distribution, few enough to draw from each.
TARGET_BINS = 10

_HINT = "give the validation images with --val PATH, or leave --group-column out"


@dataclass(frozen=True)
class Strata:
    """The strata of each image: none, one or several of K classes, labels or target bins.

    rows, columns: an image and one of its strata, pair by pair. count: K. both_sides: whether each stratum needs an
    image in both parts.
    """

    rows: Indices
    columns: Indices
    count: int
    both_sides: bool

    @staticmethod
    def of(targets: Targets, count: int, task: TaskName) -> Strata:
        """Classes (single-label), labels (multi-label) or bins of the first target (regression)."""
        owner = get_task(task)
        if owner.targets == "multi_hot":
            rows, columns = np.nonzero(targets > 0)
            return Strata(rows, columns, count, both_sides=True)
        images = np.arange(len(targets))
        if owner.has_one_class_per_image:
            return Strata(images, np.asarray(targets, np.int64), count, both_sides=True)
        return Strata(
            images, rank_bins(np.asarray(targets[:, 0], np.float32), TARGET_BINS), TARGET_BINS, both_sides=False
        )


def rank_bins(values: NDArray[np.float32], ranges: int) -> Indices:
    """(N,) the bin of each value (N,), by rank, so that the bins are equally large."""
    n = len(values)
    bins = np.empty(n, dtype=np.int64)
    bins[np.argsort(values, kind="stable")] = np.arange(n) * ranges // n
    return bins


def group_holdout_split(groups: Indices, strata: Strata, *, fraction: float, seed: int) -> NDArray[np.bool_]:
    """(N,) whether each image is held out: about `fraction` of each class, whole groups (N,) only.

    A class in two or more groups is in both parts, unless that would remove another class from one. A class in a single
    group stays in training. Raises DataError if there are fewer than two groups, or none can be held out.
    """
    table = _GroupCounts(groups, strata)
    _require_groups(table, 2)
    owned = np.zeros(table.groups, dtype=bool)  # groups that hold all images of some class
    if strata.both_sides:
        alone = table.groups_with == 1
        owned[table.group[alone[table.column]]] = True
    if owned.all():
        raise DataError(
            "each group holds all images of some class: no group can be held out without taking a class from training",
            _HINT,
        )
    part = table.assign_groups([1 - fraction, fraction], np.random.default_rng(seed), first=np.flatnonzero(owned))
    if not part.any():
        part[np.where(owned, len(groups) + 1, table.sizes).argmin()] = 1
    if strata.both_sides:
        _fix_missing_classes(table, part)
    return np.asarray(part[table.of_image] == 1)


def group_folds(groups: Indices, strata: Strata, *, folds: int, seed: int) -> Indices:
    """(N,) the fold of each image, 0 to folds - 1: about the same share of each class, whole groups only.

    Raises DataError if there are fewer groups than folds.
    """
    table = _GroupCounts(groups, strata)
    _require_groups(table, folds)
    part = table.assign_groups([1 / folds] * folds, np.random.default_rng(seed), first=np.zeros(0, np.int64))
    return np.asarray(part[table.of_image])


class _GroupCounts:
    """Sparse matrix of image counts: a row per group, a column per class, and the total of the group as last column."""

    def __init__(self, groups: Indices, strata: Strata) -> None:
        _, of_image, sizes = np.unique(groups, return_inverse=True, return_counts=True)
        self.of_image, self.sizes = of_image.ravel(), sizes
        self.groups, self.columns = len(sizes), strata.count + 1
        keys = np.concatenate(
            [self.of_image[strata.rows] * self.columns + strata.columns, self.of_image * self.columns + strata.count]
        )
        cells, self.images = np.unique(keys, return_counts=True)
        self.group, self.column = np.divmod(cells, self.columns)  # of each cell, group by group
        self.ends = np.searchsorted(self.group, np.arange(1, self.groups + 1))
        self.groups_with = np.bincount(self.column, minlength=self.columns)
        self.groups_with[-1] = 0  # the total is not a class

    def assign_groups(self, shares: Sequence[float], rng: np.random.Generator, *, first: Indices) -> Indices:
        """(groups,) the part of each group; the groups `first` are assigned to part 0."""
        totals = np.bincount(self.column, weights=self.images, minlength=self.columns)
        portion = self.images / totals[self.column]
        largest = np.maximum.reduceat(portion, np.r_[0, self.ends[:-1]])
        shuffled = rng.permutation(self.groups)
        order = shuffled[np.argsort(-largest[shuffled], kind="stable")]
        part = np.full(self.groups, -1, dtype=np.int64)
        part[first] = 0
        held = [[0.0] * self.columns for _ in shares]  # the portion of each class in each part
        inside = np.isin(self.group, first)
        held[0] = np.bincount(self.column[inside], weights=portion[inside], minlength=self.columns).tolist()
        # Plain Python numbers: a group has few classes, so that NumPy arrays would be slower.
        columns, portions, ends = self.column.tolist(), portion.tolist(), self.ends.tolist()
        parts = list(zip(shares, held, strict=True))
        for group in order[part[order] < 0].tolist():
            cells = range(ends[group - 1] if group else 0, ends[group])
            costs = [sum((2 * has[columns[i]] + portions[i]) * portions[i] for i in cells) / s for s, has in parts]
            best = costs.index(min(costs))
            part[group] = best
            has = held[best]
            for i in cells:
                has[columns[i]] += portions[i]
        return part


def _fix_missing_classes(table: _GroupCounts, part: Indices) -> None:
    """Move groups so that each class in two or more groups is in both parts. No move removes a class from a part."""
    with_class = [np.bincount(table.column[part[table.group] == p], minlength=table.columns) for p in (0, 1)]
    for side in (1, 0):  # classes missing from validation first
        missing = np.flatnonzero((table.groups_with > 1) & (with_class[side] == 0))
        for column in missing.tolist():
            if with_class[side][column]:
                continue  # fixed by a move for another class
            having = table.group[table.column == column]
            for group in having[np.argsort(table.sizes[having], kind="stable")].tolist():
                classes = table.column[table.ends[group - 1] if group else 0 : table.ends[group]][:-1]
                if (with_class[1 - side][classes] > 1).all() and part[group] != side:
                    part[group] = side
                    with_class[side][classes] += 1
                    with_class[1 - side][classes] -= 1
                    break


def _require_groups(table: _GroupCounts, least: int) -> None:
    if table.groups < least:
        there = "one group" if table.groups == 1 else f"{table.groups:,} groups"
        what = "a split needs two" if least == 2 else f"{least} folds need as many"
        raise DataError(f"all images are of {there}; {what}", _HINT)
