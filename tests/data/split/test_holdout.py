from __future__ import annotations

import time

import numpy as np
import pytest
from sklearn.model_selection import train_test_split

from zoo.data.split.holdout import binned_split, holdout_split, iterative_split, stratified_split
from zoo.errors import DataError, UsageError


@pytest.mark.parametrize("fraction", [0.01, 0.2, 0.33, 0.5, 0.99])
def test_every_class_is_on_both_sides_in_proportion(fraction):
    rng = np.random.default_rng(0)
    counts = [2, 3, 5, 40, 200, 0]
    targets = rng.permutation(np.repeat(np.arange(6), counts))
    train, val = stratified_split(targets, list("abcdef"), fraction=fraction, seed=0)
    assert sorted([*train, *val]) == list(range(len(targets)))
    in_val, in_train = np.bincount(targets[val], minlength=6), np.bincount(targets[train], minlength=6)
    assert (in_val[:5] >= 1).all()
    assert (in_train[:5] >= 1).all()
    assert in_val[5] == in_train[5] == 0
    assert np.abs(in_val[3:5] - np.array(counts[3:5]) * fraction).max() <= 1


def test_the_sizes_equal_those_of_scikit_learn():
    targets = np.repeat(np.arange(3), [50, 61, 72])
    train, val = stratified_split(targets, list("abc"), fraction=0.2, seed=0)
    reference = train_test_split(np.arange(len(targets)), test_size=0.2, stratify=targets)[1]
    assert len(val) == len(reference)
    assert np.bincount(targets[val]).tolist() == np.bincount(targets[reference]).tolist()
    assert len(train) == len(targets) - len(val)


def test_adding_a_class_does_not_change_the_others():
    targets = np.repeat(np.arange(2), [10, 10])
    more = np.repeat(np.arange(3), [10, 10, 10])
    _, val = stratified_split(targets, list("ab"), fraction=0.2, seed=5)
    _, val_more = stratified_split(more, list("abc"), fraction=0.2, seed=5)
    assert val.tolist() == [i for i in val_more if i < 20]


def in_val(positive: np.ndarray, val: np.ndarray) -> np.ndarray:
    return positive[val].sum(0) / positive.sum(0)


def tags(n: int, k: int, seed: int = 0) -> np.ndarray:
    """(n, k) labels as they occur: some frequent, many rare, some together."""
    rng = np.random.default_rng(seed)
    positive = rng.random((n, k)) < 0.5 / np.arange(1, k + 1)
    positive[:, k - 1] |= positive[:, 0] & (rng.random(n) < 0.02)
    positive[:2] = False
    return positive


def as_the_paper_writes_it(positive: np.ndarray, fraction: float, seed: int) -> np.ndarray:
    """Sechidis et al. 2011, algorithm 1, an image at a time; the indices of the part of the share `fraction`."""
    rng = np.random.default_rng(seed)
    shares = np.array([1 - fraction, fraction])
    owed_all, owed = shares * len(positive), shares[:, None] * positive.sum(0)
    left, val = np.ones(len(positive), bool), []
    while left.any():
        counts = positive[left].sum(0)
        if not counts.any():
            images = np.flatnonzero(left)
        else:
            label = np.where(counts > 0, counts, len(positive)).argmin()
            images = np.flatnonzero(left & positive[:, label])
        for image in rng.permutation(images):
            wish = owed[:, label] if counts.any() else owed_all
            best = np.flatnonzero(wish == wish.max())
            best = best[owed_all[best] == owed_all[best].max()]
            part = rng.choice(best)
            owed[part] -= positive[image]
            owed_all[part] -= 1
            left[image] = False
            val += [image] * int(part == 1)
    return np.array(sorted(val))


@pytest.mark.parametrize("fraction", [0.1, 0.2, 0.5])
@pytest.mark.parametrize(("n", "k"), [(300, 12), (2000, 40)])
def test_label_split_matches_the_paper_and_beats_random(n, k, fraction):
    positive = tags(n, k)
    train, val = iterative_split(positive, fraction=fraction, seed=0)
    assert sorted([*train, *val]) == list(range(n))
    assert abs(len(val) - fraction * n) <= 0.02 * n

    def distance(val: np.ndarray) -> float:
        """Mean distance of the labels' counts in val from their share, in images."""
        return float(np.abs(positive[val].sum(0) - fraction * positive.sum(0)).mean())

    rng = np.random.default_rng(0)
    at_random = np.mean([distance(rng.permutation(n)[: len(val)]) for _ in range(20)])
    paper = np.mean([distance(as_the_paper_writes_it(positive, fraction, seed)) for seed in range(3)])
    ours = np.mean([distance(iterative_split(positive, fraction=fraction, seed=seed)[1]) for seed in range(3)])
    assert ours <= 1.15 * paper + 0.05
    assert ours < at_random / 3


def test_every_label_of_two_images_is_on_both_sides():
    rng = np.random.default_rng(1)
    for n, k in ((60, 25), (200, 120)):
        positive = rng.random((n, k)) < 2.5 / n
        positive[:, 0] = rng.random(n) < 0.5
        totals = positive.sum(0)
        for seed in range(5):
            _, val = iterative_split(positive, fraction=0.1, seed=seed)
            in_val = positive[val].sum(0)
            stuck = (totals > 1) & ((in_val == 0) | (in_val == totals))
            assert not stuck.any()
            assert (in_val[totals == 1] == 0).all()


def test_identical_labels_are_on_both_sides():
    positive = np.zeros((12, 3), bool)
    positive[:2, 0] = positive[:2, 1] = True  # both images carry both labels
    positive[2:, 2] = True
    for seed in range(10):
        _, val = iterative_split(positive, fraction=0.25, seed=seed)
        assert positive[val].sum(0)[:2].tolist() == [1, 1]


@pytest.mark.parametrize("positive", [np.zeros((5, 3), bool), np.ones((5, 1), bool), np.eye(4, dtype=bool)])
def test_a_label_split_leaves_images_on_both_sides(positive):
    for fraction in (0.05, 0.5, 0.95):
        train, val = iterative_split(positive, fraction=fraction, seed=0)
        assert len(train) >= 1
        assert len(val) >= 1


def test_label_split_depends_on_the_seed_and_is_fast():
    positive = tags(100_000, 80)
    start = time.process_time()
    _, val = iterative_split(positive, fraction=0.2, seed=3)
    assert time.process_time() - start < 3
    assert np.abs(in_val(positive, val) - 0.2).max() < 0.002
    assert len(val) == pytest.approx(20_000, abs=30)
    small = tags(500, 8)
    first, again, other = (iterative_split(small, fraction=0.2, seed=s)[1].tolist() for s in (3, 3, 4))
    assert first == again != other


def test_numbers_are_split_so_that_both_parts_span_their_range():
    values = np.random.default_rng(0).lognormal(size=1000).astype(np.float32)
    train, val, groups = binned_split(values, fraction=0.2, seed=0)
    assert (len(train), len(val), groups) == (800, 200, 10)
    rank = values.argsort().argsort()
    assert np.bincount(rank[val] // 100).tolist() == [20] * 10
    assert binned_split(values, fraction=0.2, seed=0)[1].tolist() == val.tolist()
    assert binned_split(values, fraction=0.2, seed=1)[1].tolist() != val.tolist()
    gaps = [
        abs(values[v].mean() - values[t].mean())
        for t, v, _ in (binned_split(values, fraction=0.2, seed=s) for s in range(20))
    ]
    rng = np.random.default_rng(0)
    loose = [abs(values[o[:200]].mean() - values[o[200:]].mean()) for o in (rng.permutation(1000) for _ in range(20))]
    assert np.mean(gaps) < 0.7 * np.mean(loose)


@pytest.mark.parametrize("n", [2, 3, 7, 19])
@pytest.mark.parametrize("fraction", [0.01, 0.2, 0.9])
def test_a_few_numbers_are_split_too(n, fraction):
    train, val, _ = binned_split(np.ones(n, np.float32), fraction=fraction, seed=0)
    assert sorted([*train, *val]) == list(range(n))
    assert len(train) >= 1
    assert len(val) >= 1


@pytest.mark.parametrize(
    ("task", "targets"),
    [("multi-label", np.ones((1, 2), np.float32)), ("regression", np.ones((1, 1), np.float32))],
)
def test_one_image_cannot_be_split(task, targets):
    with pytest.raises(DataError, match="two images or more"):
        holdout_split(targets, ("a", "b"), task, fraction=0.2, seed=0)
    with pytest.raises(UsageError, match="between 0 and 1, not 1"):
        holdout_split(targets, ("a", "b"), task, fraction=1, seed=0)


def test_the_rule_is_described():
    ages = np.linspace(0, 9, 100, dtype=np.float32)[:, None]
    assert holdout_split(ages, ("age",), "regression", fraction=0.2, seed=7)[2] == (
        "validation: 20 of 100 images (20% of each of 10 equally large ranges of 'age', seed 7)"
    )
    labels = tags(100, 3).astype(np.float32)
    assert holdout_split(labels, ("a", "b", "c"), "multi-label", fraction=0.2, seed=0)[2].endswith(
        "(20% per label, at least one if it has two, seed 0)"
    )
