from __future__ import annotations

import numpy as np
import pytest
from sklearn.model_selection import StratifiedKFold

from zoo.data import data_config, open_data
from zoo.data.split.kfold import fold_numbers
from zoo.errors import DataError, UsageError


@pytest.mark.parametrize("folds", [2, 3, 5, 10])
def test_class_folds_match_scikit_learn(folds):
    targets = np.random.default_rng(0).permutation(np.repeat(np.arange(3), [13, 50, 118]))
    fold = fold_numbers(targets, "abc", "single-label", folds=folds, seed=1)
    counts = np.array([np.bincount(targets[fold == f], minlength=3) for f in range(1, folds + 1)])
    reference = [np.bincount(targets[v]) for _, v in StratifiedKFold(folds).split(targets, targets)]
    assert sorted(counts.T.tolist()[0]) == sorted(np.array(reference).T.tolist()[0])
    assert (counts.max(0) - counts.min(0) <= 1).all()
    assert counts.sum(1).max() - counts.sum(1).min() <= 1
    assert fold.tolist() == fold_numbers(targets, "abc", "single-label", folds=folds, seed=1).tolist()
    assert fold.tolist() != fold_numbers(targets, "abc", "single-label", folds=folds, seed=2).tolist()


def test_labels_are_distributed_evenly():
    rng = np.random.default_rng(0)
    positive = rng.random((2000, 30)) < 0.5 / np.arange(1, 31)
    positive[:10] = False
    targets = positive.astype(np.float32)
    for seed in range(3):
        fold = fold_numbers(targets, [str(k) for k in range(30)], "multi-label", folds=5, seed=seed)
        counts = np.array([positive[fold == f].sum(0) for f in range(1, 6)])
        at_random = rng.permutation(fold)
        loose = np.array([positive[at_random == f].sum(0) for f in range(1, 6)])
        assert np.abs(counts - positive.sum(0) / 5).mean() < np.abs(loose - positive.sum(0) / 5).mean() / 3
        assert np.bincount(fold)[1:].tolist() == pytest.approx([400] * 5, abs=4)
    rare = np.zeros((40, 2), np.float32)
    rare[:3, 0] = rare[3:, 1] = 1
    fold = fold_numbers(rare, "ab", "multi-label", folds=5, seed=0)
    assert len(set(fold[:3])) == 3  # a label of fewer images than folds is in as many as it can be
    assert np.bincount(fold)[1:].tolist() == [8] * 5
    none = fold_numbers(np.zeros((11, 2), np.float32), "ab", "multi-label", folds=5, seed=0)
    assert sorted(np.bincount(none)[1:]) == [2, 2, 2, 2, 3]


def test_regression_folds_are_balanced_by_rank():
    values = np.random.default_rng(0).lognormal(size=(1003, 1)).astype(np.float32)
    fold = fold_numbers(values, ("x",), "regression", folds=5, seed=0)
    assert sorted(np.bincount(fold)[1:]) == [200, 200, 201, 201, 201]
    rank = values[:, 0].argsort().argsort()
    for block in range(200):
        assert sorted(fold[rank // 5 == block]) == [1, 2, 3, 4, 5]


@pytest.mark.parametrize("task", ["single-label", "multi-label", "regression"])
def test_folds_of_a_data_set_are_disjoint_and_cover_it(task):
    seen: list[str] = []
    for i in (1, 2, 3):
        data = open_data(data_config("digits", folds=3, fold=i), task=task, seed=5)
        assert len(data.train) + len(data.val) == 1797
        assert not set(data.train.names) & set(data.val.names)
        seen += data.val.names
        assert data.rule == f"validation: {len(data.val):,} of 1,797 images (fold {i} of 3, seed 5)"
        assert data.was_split
    assert sorted(seen, key=int) == [str(i) for i in range(1797)]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"folds": 5}, "--folds 5 needs --fold"),
        ({"folds": 5, "fold": 6}, "--fold 6 is not one of 5 folds"),
        ({"folds": 5, "fold": 0}, "--fold 0 is not one of 5 folds"),
        ({"fold": 2}, "--fold 2 needs --folds"),
        ({"folds": 1, "fold": 1}, "needs two or more"),
        ({"folds": 5, "fold": 1, "split": "s.txt"}, "--folds 5 and --split s.txt cannot be combined"),
    ],
)
def test_contradictory_options_are_refused(options, message):
    with pytest.raises(UsageError, match=message):
        open_data(data_config("digits", **options))


def test_too_many_folds_are_refused(make_folder):
    root = str(make_folder("set", {"a": 3, "b": 10}))
    assert open_data(data_config(root, folds=3, fold=1)).val.targets.tolist().count(0) == 1
    with pytest.raises(DataError, match=r"4 folds, but fewer images of 'a' \(3\)"):
        open_data(data_config(root, folds=4, fold=1))
    with pytest.raises(DataError, match="5 folds of 4 images"):
        fold_numbers(np.ones((4, 1), np.float32), ("x",), "regression", folds=5, seed=0)
    parted = str(make_folder("parted", {"train/a": 3, "train/b": 3, "val/a": 1, "val/b": 1}))
    with pytest.raises(UsageError, match=r"--folds 2 splits the images, but \S*parted\S* has its own validation"):
        open_data(data_config(parted, folds=2, fold=1))
    with pytest.raises(UsageError, match="--folds 2 splits the images"):
        open_data(data_config(root, val=root, folds=2, fold=1))
