from __future__ import annotations

import time
from dataclasses import replace

import numpy as np
import pytest

from zoo.augment import make_augment
from zoo.data import Subset, data_config, make_loader, open_data
from zoo.data.loader import LoaderOptions
from zoo.data.sampler import cumulative_count, describe_balance, epoch_order, expected_class_counts, expected_counts

COUNTS = [1, 3, 20, 400, 1000]
TARGETS = np.random.default_rng(0).permutation(np.repeat(np.arange(5), COUNTS))


def order(targets=TARGETS, balance="none", shards=None, seed=0):
    rng = np.random.default_rng(seed)
    return epoch_order(len(targets), targets=targets, balance=balance, shards=shards, rng=rng)


def test_none_is_a_permutation_and_the_one_that_it_always_was():
    found = order(seed=3)
    assert found.tolist() == np.random.default_rng(3).permutation(len(TARGETS)).tolist()


@pytest.mark.parametrize(("balance", "power"), [("oversample", 0.0), ("sqrt", 0.5)])
def test_classes_come_as_often_as_the_rule_says_and_their_images_equally_often(balance, power):
    shares = np.array(COUNTS, float) ** power
    wanted = len(TARGETS) * shares / shares.sum()
    assert expected_class_counts(TARGETS, 5, balance) == pytest.approx(wanted)
    for seed in range(10):
        found = order(balance=balance, seed=seed)
        assert len(found) == len(TARGETS)
        assert np.abs(np.bincount(TARGETS[found]) - wanted).max() < 1
        times = np.bincount(found, minlength=len(TARGETS))
        for c, count in enumerate(COUNTS):
            of_class = times[c == TARGETS]
            assert of_class.min() >= np.floor(wanted[c] / count - 1e-9)
            assert of_class.max() <= np.ceil(wanted[c] / count + 1e-9)


def test_other_images_of_a_frequent_class_in_every_epoch_all_equally_often():
    targets = np.repeat([0, 1], [10, 90])
    times = np.zeros(100)
    for seed in range(400):
        times += np.bincount(order(targets, "oversample", seed=seed), minlength=100)
    assert times[:10] == pytest.approx(5 * 400)
    assert times[10:].mean() / 400 == pytest.approx(50 / 90)
    assert times[10:].std() < 3 * np.sqrt(400 * 0.25)
    assert order(targets, "oversample").tolist() == order(targets, "oversample").tolist()
    assert order(targets, "oversample").tolist() != order(targets, "oversample", seed=1).tolist()


def test_several_labels_count_by_the_rarest_as_repeat_factors_do():
    positive = np.zeros((1000, 3), np.float32)
    positive[:800, 0] = 1
    positive[700:740, 1] = 1
    positive[735:745, 2] = 1  # five with all three, five with the last alone; the rest without a label
    share = positive.mean(0)
    factor = np.maximum(1, np.sqrt(share.max() / share))  # Gupta et al. 2019, section 5.2, with t = the largest share
    repeat = np.where(positive > 0, factor, 1).max(1)
    assert expected_counts(positive, "sqrt") == pytest.approx(repeat * 1000 / repeat.sum())
    once = np.where(positive > 0, share.max() / share, 1).max(1)
    assert expected_counts(positive, "oversample") == pytest.approx(once * 1000 / once.sum())
    found = order(positive, "sqrt")
    assert len(found) == 1000
    assert positive[found].sum(0) == pytest.approx(expected_class_counts(positive, 3, "sqrt"), rel=0.02)
    assert positive[found].sum(0)[2] > 2 * positive.sum(0)[2]
    unlabelled = np.zeros((5, 2), np.float32)
    assert sorted(order(unlabelled, "oversample")) == list(range(5))


@pytest.mark.parametrize("balance", ["none", "oversample"])
def test_shards_are_read_in_windows(balance):
    rng = np.random.default_rng(1)
    n, many = 60_000, 60
    shards = np.repeat(np.arange(many), n // many)
    targets = rng.integers(0, 2, n)
    found = order(targets, balance, shards)
    assert len(found) == n
    if balance == "none":
        assert sorted(found) == list(range(n))
    # At any time only a few shards are read, all of them in random order, and each is left for good.
    read = shards[found]
    first = np.array([np.flatnonzero(read == s)[0] for s in range(many)])
    last = np.array([np.flatnonzero(read == s)[-1] for s in range(many)])
    open_at = [int(((first <= t) & (t <= last)).sum()) for t in range(0, n, 500)]
    assert max(open_at) <= 9
    assert (np.abs(np.diff(found)) > 1).mean() > 0.99
    assert np.abs(np.corrcoef(np.arange(many), first)[0, 1]) < 0.5
    assert found.tolist() == order(targets, balance, shards).tolist()
    assert found.tolist() != order(targets, balance, shards, seed=1).tolist()


def test_a_few_shards_are_shuffled_as_one():
    shards = np.repeat(np.arange(3), 100)
    read = shards[order(np.zeros(300, np.int64), "none", shards)]
    assert [len(set(read[i : i + 100])) for i in (0, 100, 200)] == [3, 3, 3]


def test_how_often_an_image_came_before():
    assert cumulative_count(np.array([4, 2, 4, 4, 2, 0])).tolist() == [0, 0, 1, 2, 1, 0]
    assert cumulative_count(np.array([], np.int64)).tolist() == []


def test_the_sentence_names_the_classes_that_change_most():
    names = ["a", "b", "c", "d", "e"]
    assert describe_balance(TARGETS, names, "none") == ""
    assert describe_balance(TARGETS, names, "oversample") == (
        "balance oversample: an epoch draws 1,424 times: a 285 (of 1), b 285 (of 3), c 285 (of 20), d 285 (of 400), "
        "e 285 (of 1,000)"
    )
    many = np.repeat(np.arange(30), np.arange(1, 31))
    assert describe_balance(many, [f"k{i}" for i in range(30)], "sqrt").count("(of") == 8


def test_a_million_images_take_seconds():
    targets = np.random.default_rng(0).integers(0, 1000, 1_000_000)
    start = time.process_time()
    cumulative_count(order(targets, "oversample", np.arange(1_000_000) // 10_000))
    assert time.process_time() - start < 6


@pytest.fixture
def unequal(make_folder):
    data = open_data(data_config(str(make_folder("set", {"a": 40, "b": 5})), val_fraction=0.2))
    assert np.bincount(data.train.targets).tolist() == [32, 4]
    return data


def batches(source, preprocess, workers, epochs, *, balance, seed=3):
    loader = make_loader(
        source,
        preprocess=preprocess,
        batch_size=8,
        train=True,
        augment=make_augment("medium", preprocess=preprocess, flips=True),
        seed=seed,
        workers=workers,
        options=LoaderOptions(balance=balance),
    )
    found = []
    for epoch in epochs:
        loader.set_epoch(epoch)
        found.append([(x.numpy().copy(), y.numpy().copy()) for x, y in loader])
    return found


def same(a, b):
    return all(
        np.array_equal(x, u) and np.array_equal(y, v)
        for one, other in zip(a, b, strict=True)
        for (x, y), (u, v) in zip(one, other, strict=True)
    )


@pytest.mark.parametrize(("balance", "sharded"), [("none", True), ("oversample", False), ("sqrt", True)])
def test_the_same_batches_from_any_number_of_workers_and_on_resume(unequal, preprocess, balance, sharded):
    train = unequal.train
    if sharded:
        whole = replace(train.source, shards=np.arange(len(train.source)) // 5)
        train = Subset(whole, train.indices)
    alone = batches(train, preprocess, 0, (0, 1, 2), balance=balance)
    for workers in (1, 4):
        assert same(alone, batches(train, preprocess, workers, (0, 1, 2), balance=balance))
    assert same(alone[2:], batches(train, preprocess, 1, (2,), balance=balance))
    assert not same(alone[:1], alone[1:2])
    assert sum(len(y) for _, y in alone[0]) == 36


def test_an_image_that_comes_again_in_an_epoch_looks_different(unequal, preprocess):
    (epoch,) = batches(unequal.train, preprocess, 0, (0,), balance="oversample")
    images, targets = np.concatenate([x for x, _ in epoch]), np.concatenate([y for _, y in epoch])
    assert np.bincount(targets).tolist() == [18, 18]
    rare = {image.tobytes() for image in images[targets == 1]}
    assert len(rare) >= 17  # of four images
    # The first time it looks as it does without balance.
    (plain,) = batches(unequal.train, preprocess, 0, (0,), balance="none")
    without = {image.tobytes() for x, y in plain for image in x[y == 1]}
    assert len(without) == 4
    assert without <= rare
