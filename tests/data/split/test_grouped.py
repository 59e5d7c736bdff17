from __future__ import annotations

import time

import numpy as np
import pytest
from sklearn.model_selection import StratifiedGroupKFold

from zoo.data.split.holdout import holdout_split
from zoo.data.split.kfold import fold_numbers
from zoo.errors import DataError

NAMES = [str(c) for c in range(20)]


def patients(groups: int, classes: int, n: int, seed: int = 0):
    """(targets, groups): images of unequally many-pictured patients, each with classes of its own liking."""
    rng = np.random.default_rng(seed)
    group = rng.choice(groups, n, p=rng.dirichlet(np.ones(groups)))
    liking = rng.dirichlet(np.full(classes, 0.5), groups)
    return np.array([rng.choice(classes, p=liking[g]) for g in group]), group


def together(part: np.ndarray, groups: np.ndarray) -> bool:
    return all(len(set(part[groups == g])) == 1 for g in set(groups))


def unevenness(part: np.ndarray, targets: np.ndarray, folds: int) -> float:
    totals = np.bincount(targets)
    counts = [np.bincount(targets[part == f], minlength=len(totals)) for f in range(folds)]
    return float(np.mean([np.abs(c / totals - 1 / folds).mean() for c in counts]))


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize(("groups", "classes", "n"), [(40, 3, 600), (200, 20, 4000)])
def test_groups_stay_whole_and_the_classes_keep_their_share(groups, classes, n, seed):
    targets, group = patients(groups, classes, n)
    train, val, rule = holdout_split(targets, NAMES[:classes], "single-label", fraction=0.2, seed=seed, groups=group)
    assert sorted([*train, *val]) == list(range(n))
    assert not set(group[train]) & set(group[val])
    assert len(val) / n == pytest.approx(0.2, abs=0.02)
    share = np.bincount(targets[val], minlength=classes) / np.bincount(targets)
    assert np.abs(share - 0.2).max() < 0.08
    again = holdout_split(targets, NAMES[:classes], "single-label", fraction=0.2, seed=seed, groups=group)
    assert again[1].tolist() == val.tolist()
    assert rule == (
        f"validation: {len(val):,} of {n:,} images ({len(set(group[val]))} of {len(set(group))} whole groups, "
        f"about 20% of each class, seed {seed})"
    )


@pytest.mark.parametrize(("groups", "classes", "n"), [(60, 5, 2000), (200, 20, 5000), (25, 4, 1000)])
def test_group_folds_are_as_balanced_as_those_of_scikit_learn(groups, classes, n):
    targets, group = patients(groups, classes, n)
    ours, theirs = [], []
    for seed in range(5):
        fold = fold_numbers(targets, NAMES[:classes], "single-label", folds=5, seed=seed, groups=group)
        assert sorted(set(fold)) == [1, 2, 3, 4, 5]
        assert together(fold, group)
        ours.append(unevenness(fold - 1, targets, 5))
        reference = np.empty(n, int)
        known = StratifiedGroupKFold(5, shuffle=True, random_state=seed).split(targets, targets, group)
        for i, (_, val) in enumerate(known):
            reference[val] = i
        theirs.append(unevenness(reference, targets, 5))
    assert np.mean(ours) < 1.15 * np.mean(theirs)


def test_labels_and_numbers_in_groups():
    rng = np.random.default_rng(0)
    group = np.sort(rng.integers(0, 150, 1500))
    positive = (rng.random((1500, 12)) < 0.6 / np.arange(1, 13)).astype(np.float32)
    train, val, rule = holdout_split(positive, NAMES[:12], "multi-label", fraction=0.2, seed=0, groups=group)
    assert not set(group[train]) & set(group[val])
    assert np.abs(positive[val].sum(0) / positive.sum(0) - 0.2).max() < 0.03
    assert "about 20% of each label" in rule
    fold = fold_numbers(positive, NAMES[:12], "multi-label", folds=4, seed=0, groups=group)
    assert together(fold, group)
    counts = np.array([positive[fold == f].sum(0) for f in (1, 2, 3, 4)])
    assert np.abs(counts / positive.sum(0) - 0.25).max() < 0.04

    ages = (group % 10 * 7 + rng.random(1500)).astype(np.float32)[:, None]
    train, val, rule = holdout_split(ages, ("age",), "regression", fraction=0.2, seed=0, groups=group)
    assert not set(group[train]) & set(group[val])
    assert np.percentile(ages[val], [10, 50, 90]) == pytest.approx(np.percentile(ages, [10, 50, 90]), abs=8)
    assert "about 20% of each range of 'age'" in rule
    fold = fold_numbers(ages, ("age",), "regression", folds=3, seed=0, groups=group)
    assert together(fold, group)
    assert np.bincount(fold)[1:].tolist() == pytest.approx([500] * 3, abs=25)


@pytest.mark.parametrize("seed", range(20))
def test_a_class_of_two_groups_is_on_both_sides_and_one_of_a_single_group_in_training(seed):
    #                 rare: groups 0, 1   alone: group 2   all the others: common
    group = np.repeat(np.arange(12), 4)
    targets = np.full(48, 2)
    targets[[0, 4]] = 0
    targets[[8, 9]] = 1
    train, val, _ = holdout_split(targets, ("r", "a", "common"), "single-label", fraction=0.1, seed=seed, groups=group)
    assert not set(group[train]) & set(group[val])
    assert np.bincount(targets[train], minlength=3).tolist()[:2] == [1, 2]
    assert np.bincount(targets[val], minlength=3).tolist()[:2] == [1, 0]


def test_a_group_for_each_image_is_nearly_the_stratified_split():
    targets = np.repeat(np.arange(3), [50, 100, 250])
    _, val, _ = holdout_split(targets, "abc", "single-label", fraction=0.2, seed=0, groups=np.arange(400))
    assert np.bincount(targets[val]).tolist() == pytest.approx([10, 20, 50], abs=1)


def test_groups_that_cannot_be_split():
    targets = np.array([0, 0, 1, 1])
    with pytest.raises(DataError, match="all images are of one group; a split needs two"):
        holdout_split(targets, "ab", "single-label", fraction=0.2, seed=0, groups=np.zeros(4, np.int64))
    with pytest.raises(DataError, match="each group holds all images of some class"):
        holdout_split(targets, "ab", "single-label", fraction=0.2, seed=0, groups=np.array([7, 7, 9, 9]))
    with pytest.raises(DataError, match="all images are of 2 groups; 3 folds need as many"):
        fold_numbers(targets, "ab", "single-label", folds=3, seed=0, groups=np.array([0, 0, 1, 1]))
    two = holdout_split(np.ones((4, 1)), ("x",), "regression", fraction=0.01, seed=0, groups=np.array([0, 0, 1, 1]))
    assert (len(two[0]), len(two[1])) == (2, 2)


def test_a_hundred_thousand_groups_take_seconds():
    rng = np.random.default_rng(0)
    group, targets = rng.integers(0, 100_000, 500_000), rng.integers(0, 1000, 500_000)
    start = time.process_time()
    _, val, _ = holdout_split(
        targets, [str(c) for c in range(1000)], "single-label", fraction=0.2, seed=0, groups=group
    )
    assert time.process_time() - start < 6
    assert len(val) == pytest.approx(100_000, rel=0.01)
