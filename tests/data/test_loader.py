from __future__ import annotations

import multiprocessing
import os

import numpy as np
import pytest
import torch
from PIL import Image

from zoo.augment import make_augment
from zoo.data import Subset, auto_workers, data_config, fit, make_loader, open_data
from zoo.data.loader import _MIN_WORKER_IMAGES
from zoo.errors import DataError, UsageError


def epochs(loader, *numbers):
    result = []
    for number in numbers:
        loader.set_epoch(number)
        result.append([(x.clone(), y.clone()) for x, y in loader])
    return result


def same(a, b) -> bool:
    return len(a) == len(b) and all(
        torch.equal(x, u) and torch.equal(y, v) for (x, y), (u, v) in zip(a, b, strict=True)
    )


@pytest.fixture
def photos(photo_folder):
    return open_data(data_config(str(photo_folder), val_fraction=0.25))


def test_batches_are_uint8_nchw_in_channels_last_memory(photos, preprocess):
    loader = make_loader(photos.val, preprocess=preprocess, batch_size=4, train=False, augment=None, seed=0, workers=0)
    assert len(loader) == 2
    assert loader.images == 6
    images, targets = next(iter(loader))
    assert images.shape == (4, 3, 32, 32)
    assert images.dtype == torch.uint8
    assert images.is_contiguous(memory_format=torch.channels_last)
    assert targets.dtype == torch.int64
    every = torch.cat([x for x, _ in loader])
    for i in range(6):
        got, whole = every[i].permute(1, 2, 0).numpy(), fit(photos.val.read(i), preprocess)
        assert np.abs(got.astype(int) - whole).mean() < 2  # a JPEG may have been decoded at a part of its size
    assert torch.cat([y for _, y in loader]).tolist() == photos.val.targets.tolist()


@pytest.mark.parametrize("name", ["light", "medium", "strong", "affine"])
def test_the_same_batches_for_any_number_of_workers_and_others_in_every_epoch(photos, preprocess, name):
    augment = make_augment(name, preprocess=preprocess, flips=True)
    runs = []
    for workers in (0, 1, 2):
        loader = make_loader(
            photos.train, preprocess=preprocess, batch_size=5, train=True, augment=augment, seed=7, workers=workers
        )
        runs.append(epochs(loader, 0, 1, 0))
    for first, second, again in runs:
        assert same(first, runs[0][0])
        assert same(second, runs[0][1])
        assert same(first, again)
        assert not same(first, second)
    # The change from epoch to epoch is in the pixels of the same image, not in the order alone.
    one = Subset(photos.train, np.array([3, 3]))
    loader = make_loader(one, preprocess=preprocess, batch_size=2, train=True, augment=augment, seed=7, workers=0)
    (a,), (b,) = epochs(loader, 0, 1)
    assert not torch.equal(a[0][0], b[0][0])
    assert not torch.equal(a[0][0], a[0][1])


def test_spawned_workers_give_the_same_too(photos, preprocess, monkeypatch):
    augment = make_augment("medium", preprocess=preprocess, flips=True)

    def load(workers):
        return make_loader(
            photos.train, preprocess=preprocess, batch_size=9, train=True, augment=augment, seed=1, workers=workers
        )

    expected = epochs(load(0), 4)
    before = multiprocessing.get_start_method()
    multiprocessing.set_start_method("spawn", force=True)
    try:
        assert same(epochs(load(1), 4)[0], expected[0])
    finally:
        multiprocessing.set_start_method(before, force=True)


def test_loading_leaves_the_global_generators_alone(photos, preprocess):
    augment = make_augment("strong", preprocess=preprocess, flips=True)
    states = torch.get_rng_state(), np.random.get_state()[1].copy()
    for workers in (0, 1):
        loader = make_loader(
            photos.train, preprocess=preprocess, batch_size=5, train=True, augment=augment, seed=0, workers=workers
        )
        list(loader)
    assert torch.equal(states[0], torch.get_rng_state())
    assert np.array_equal(states[1], np.random.get_state()[1])


@pytest.mark.parametrize(
    ("n", "options", "sizes"),
    [
        (9, {"batch_size": 4, "train": True}, [4, 5]),
        (9, {"batch_size": 4, "train": False}, [4, 4, 1]),
        (10, {"batch_size": 4, "train": True}, [4, 4, 2]),
        (1, {"batch_size": 4, "train": True}, [1]),
        (3, {"batch_size": 1, "train": True}, [1, 1, 1]),
    ],
)
def test_a_training_batch_of_one_joins_the_batch_before(photos, preprocess, n, options, sizes):
    source = Subset(photos.train, np.arange(n))
    loader = make_loader(source, preprocess=preprocess, augment=None, seed=0, workers=0, **options)
    assert [len(y) for _, y in loader] == sizes
    assert (len(loader), loader.images) == (len(sizes), sum(sizes))


def test_digits_are_cached_and_equal_to_reading_them(preprocess):
    digits = open_data(data_config("digits"))
    loader = make_loader(
        digits.train, preprocess=preprocess, batch_size=500, train=True, augment=None, seed=0, workers=0
    )
    (first, second) = epochs(loader, 0, 1)
    assert not torch.equal(first[0][1], second[0][1])
    images, targets = torch.cat([x for x, _ in first]), torch.cat([y for _, y in first])
    assert torch.bincount(targets).tolist() == np.bincount(digits.train.targets).tolist()
    order = np.random.default_rng(np.random.SeedSequence(0, spawn_key=(0, 0))).permutation(1437)
    for k in (0, 700, 1436):
        expected = fit(digits.train.read(int(order[k])), preprocess)
        assert np.array_equal(images[k].permute(1, 2, 0).numpy(), expected)


@pytest.mark.parametrize("workers", [0, 1])
def test_a_file_that_breaks_later_stops_the_run_or_is_left_out_and_reported(make_folder, preprocess, workers):
    root = make_folder("set", {"train/a": 3, "train/b": 3, "val/a": 1, "val/b": 1})
    strict, lenient = open_data(data_config(str(root))), open_data(data_config(str(root), unreadable="skip"))
    (root / "train" / "a" / "001.png").write_bytes(b"")

    def load(data):
        return make_loader(
            data.train, preprocess=preprocess, batch_size=1, train=False, augment=None, seed=0, workers=workers
        )

    with pytest.raises(DataError, match=r"^cannot read \S*/a/001\.png: empty file \(zero bytes\) \(replace or remove"):
        list(load(strict))
    loader = load(lenient)
    assert torch.cat([y for _, y in loader]).tolist() == [0, 0, 1, 1, 1]
    assert [os.path.basename(b.path) for b in loader.problems] == ["001.png"]
    list(loader)
    assert len(loader.problems) == 1


def test_an_error_of_a_users_augmentation_arrives_as_ours(photos, preprocess, tmp_path):
    (tmp_path / "fails_later.py").write_text(
        "calls = 0\ndef augment(image):\n    global calls\n    calls += 1\n"
        "    if calls > 3: raise ValueError('no more')\n    return image\n"
    )
    augment = make_augment("fails_later:augment", preprocess=preprocess, flips=True)
    loader = make_loader(
        photos.train, preprocess=preprocess, batch_size=5, train=True, augment=augment, seed=0, workers=1
    )
    with pytest.raises(UsageError, match="'fails_later:augment' failed: ValueError: no more"):
        list(loader)


def test_a_worker_that_dies_is_reported_with_what_to_try(photos, preprocess, tmp_path):
    (tmp_path / "dies_later.py").write_text(
        "import os\ncalls = 0\ndef augment(image):\n    global calls\n    calls += 1\n"
        "    if calls > 3: os._exit(9)\n    return image\n"
    )
    augment = make_augment("dies_later:augment", preprocess=preprocess, flips=True)
    loader = make_loader(
        photos.train, preprocess=preprocess, batch_size=5, train=True, augment=augment, seed=0, workers=1
    )
    with pytest.raises(DataError, match=r"worker process died .* \(it may have run out of memory"):
        list(loader)


def test_workers_are_chosen_by_size_and_source(photos, monkeypatch):
    monkeypatch.setattr("zoo.data.loader.cores", lambda: 6)
    assert auto_workers(open_data(data_config("digits")).train) == 0
    assert auto_workers(photos.train) == 0
    many = Subset(photos.train, np.zeros(_MIN_WORKER_IMAGES, dtype=np.int64))
    assert auto_workers(many) == 6
    monkeypatch.setattr("zoo.data.loader.cores", lambda: 64)
    assert auto_workers(many) == 8


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize(
    ("header", "cells", "task", "dtype", "width"),
    [
        ("image,label", lambda i: "ab"[i % 2], "single-label", torch.int64, ()),
        ("image,u,v,w", lambda i: f"{i % 2},{i % 3 % 2},1", "multi-label", torch.float32, (3,)),
        ("image,x,y", lambda i: f"{i}.5,-{i}.25", "regression", torch.float32, (2,)),
    ],
)  # fmt: skip
def test_targets_of_every_task_stay_with_their_images(
    make_table, preprocess, tmp_path, workers, header, cells, task, dtype, width
):
    make_table(header + "\n" + "".join(f"{i}.png,{cells(i)}\n" for i in range(20)))
    for i in range(20):  # the image says which it is
        Image.new("RGB", (40, 40), (10 * i, 0, 0)).save(tmp_path / f"{i}.png")
    data = open_data(data_config("t.csv"))
    assert data.task == task
    loader = make_loader(
        data.train, preprocess=preprocess, batch_size=5, train=True, augment=None, seed=0, workers=workers
    )
    loader.set_epoch(1)
    seen = 0
    for images, targets in loader:
        assert targets.dtype == dtype
        assert targets.shape == (len(images), *width)
        for image, target in zip(images, targets, strict=True):
            i = round(int(image[0, 0, 0]) / 10)
            cell = cells(i)
            expected = data.classes.index(cell) if task == "single-label" else [float(v) for v in cell.split(",")]
            assert target.tolist() == expected
            seen += 1
    assert seen == len(data.train) == 16
