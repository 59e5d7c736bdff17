from __future__ import annotations

import numpy as np
import pytest
from sklearn.model_selection import train_test_split

from zoo.data.split import stratified_split


@pytest.mark.parametrize("fraction", [0.01, 0.2, 0.33, 0.5, 0.99])
def test_every_class_is_on_both_sides_in_proportion(fraction):
    rng = np.random.default_rng(0)
    counts = [2, 3, 5, 40, 200, 0]
    targets = rng.permutation(np.repeat(np.arange(6), counts))
    train, val = stratified_split(targets, list("abcdef"), fraction=fraction, seed=0)
    assert sorted([*train, *val]) == list(range(len(targets)))
    held, kept = np.bincount(targets[val], minlength=6), np.bincount(targets[train], minlength=6)
    assert (held[:5] >= 1).all()
    assert (kept[:5] >= 1).all()
    assert held[5] == kept[5] == 0
    assert np.abs(held[3:5] - np.array(counts[3:5]) * fraction).max() <= 1


def test_the_sizes_equal_scikit_learns():
    targets = np.repeat(np.arange(3), [50, 61, 72])
    train, val = stratified_split(targets, list("abc"), fraction=0.2, seed=0)
    reference = train_test_split(np.arange(len(targets)), test_size=0.2, stratify=targets)[1]
    assert len(val) == len(reference)
    assert np.bincount(targets[val]).tolist() == np.bincount(targets[reference]).tolist()
    assert len(train) == len(targets) - len(val)


def test_a_class_more_leaves_the_draw_of_the_others_alone():
    targets = np.repeat(np.arange(2), [10, 10])
    more = np.repeat(np.arange(3), [10, 10, 10])
    _, val = stratified_split(targets, list("ab"), fraction=0.2, seed=5)
    _, val_more = stratified_split(more, list("abc"), fraction=0.2, seed=5)
    assert val.tolist() == [i for i in val_more if i < 20]
