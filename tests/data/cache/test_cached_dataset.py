from __future__ import annotations

import errno
import os
import pickle
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from zoo.augment import make_augment
from zoo.augment.fit import EvalView
from zoo.augment.reduced import CropRange, Reduced
from zoo.cache import kind_folder
from zoo.data import Subset, UnreadableImage, data_config, make_loader, open_data
from zoo.data.cache import image_store
from zoo.data.cache.cached_dataset import CachedDataset, cache_view, fill, image_keys, open_image_store
from zoo.data.cache.image_store import ImageStore
from zoo.preprocess import IMAGENET_MEAN, IMAGENET_STD, Preprocess

ROOM = 1 << 30
SMALL = Preprocess((3, 24, 24), IMAGENET_MEAN, IMAGENET_STD)


@pytest.fixture
def photos(photo_folder: Path, tmp_path: Path) -> Any:
    """All 24 images, in a folder of the test's own, with a cache of its own."""
    shutil.copytree(photo_folder, tmp_path / "photos")
    return open_data(data_config(str(tmp_path / "photos"), val_fraction=0.5)).train.source


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ZOO_CACHE", str(tmp_path / "cache"))


def cached(source: Any, augment: Any = None, *, max_bytes: int = ROOM) -> CachedDataset:
    view = cache_view(SMALL, augment)
    assert view is not None
    keys = image_keys(source, view)
    assert keys is not None
    store = open_image_store("photos", "photos")
    fill(store, source, view, keys, store.find(keys).missing.tolist(), max_bytes=max_bytes)
    return CachedDataset(source, view, store.find(keys))


def batches(source: Any, augment: Any, workers: int = 0) -> list[torch.Tensor]:
    train = augment is not None
    loader = make_loader(
        source, preprocess=SMALL, batch_size=8, train=train, augment=augment, seed=3, workers=workers
    )  # fmt: skip
    loader.set_epoch(1)
    return [images.clone() for images, _ in loader]


def equal(a: list[torch.Tensor], b: list[torch.Tensor]) -> bool:
    return len(a) == len(b) and all(map(torch.equal, a, b))


def never(*args: object) -> Any:
    raise AssertionError("decoded once more")


def test_fixed_views_are_those_of_the_files(photos: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    augment = make_augment("affine", preprocess=SMALL, flips=False)
    expected = batches(photos, None), batches(photos, augment)
    source, affine = cached(photos), cached(photos, augment)
    assert source.view == affine.view == EvalView(SMALL)
    with monkeypatch.context() as m:
        m.setattr(type(photos), "read", never)
        assert equal(batches(source, None), expected[0])
        assert equal(batches(affine, augment), expected[1])
    other = lambda height, width: EvalView(SMALL.with_size(30, 30))
    assert np.array_equal(source.read(3, other), photos.read(3, other))
    assert np.array_equal(source.read(3), photos.read(3))


def test_crops_do_not_depend_on_the_cache_or_the_workers(photos: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    light = make_augment("light", preprocess=SMALL, flips=True)
    source = cached(photos, light)
    assert source.view == Reduced(SMALL, CropRange(0.5, (3 / 4, 4 / 3)))
    nothing = replace(source, cached_images=ImageStore(Path("nowhere"), {}).find(np.zeros((24, 2), np.uint64)))
    expected = batches(nothing, light)
    assert all(equal(batches(source, light, workers), expected) for workers in (1, 4))
    monkeypatch.setattr(type(photos), "read", never)
    assert equal(batches(source, light), expected)


def test_views_of_reduced_images_are_near_those_of_whole_ones(tmp_path: Path) -> None:
    from PIL import Image
    from sklearn.datasets import load_sample_images

    for name, photo in zip("ab", load_sample_images().images, strict=True):
        (tmp_path / "large" / name).mkdir(parents=True)
        for number in range(2):
            Image.fromarray(photo).save(tmp_path / "large" / name / f"{number}.jpg", quality=90)
    photos = open_data(data_config(str(tmp_path / "large"), val_fraction=0.5)).train.source
    source = cached(photos, make_augment("light", preprocess=SMALL, flips=True))
    cached_images, whole = source.read(0), photos.read(0)
    assert cached_images.shape[0] < 60
    worst = 99.0
    for i in range(20):
        views = []

        def choose(height: int, width: int, i: int = i, views: list[Any] = views) -> Any:
            light = make_augment("light", preprocess=SMALL, flips=True)
            views.append(light.pipeline.sample_view(height, width, np.random.default_rng(i)))
            return views[-1]

        seen = source.read(0, choose).astype(float)
        y, x = whole.shape[0] / cached_images.shape[0], whole.shape[1] / cached_images.shape[1]
        left, top, right, bottom = views[0].box
        full = replace(views[0], box=(left * x, top * y, right * x, bottom * y)).apply(whole)
        worst = min(worst, 10 * float(np.log10(255**2 / np.mean((seen - full) ** 2))))
    assert worst > 36  # at 24 pixels; at 224, see docs/speed.md


def test_changed_files_are_decoded_again(photos: Any) -> None:
    source = cached(photos)
    path = Path(photos.where(0))
    shutil.copy(photos.where(1), path)
    os.utime(path, ns=(1, 1))
    keys = image_keys(photos, source.view)
    assert keys is not None
    assert open_image_store("photos", "photos").find(keys).missing.tolist() == [0]
    path.unlink()
    assert not image_keys(photos, source.view)[0].any()  # type: ignore[index]


def test_keys_depend_on_subset_and_view(photos: Any) -> None:
    keys = image_keys(photos, EvalView(SMALL))
    some = image_keys(Subset(photos, np.array([5, 2])), EvalView(SMALL))
    assert keys is not None
    assert some is not None
    assert np.array_equal(some, keys[[5, 2]])
    for view in (EvalView(SMALL.with_size(32, 32)), Reduced(SMALL, CropRange(0.5, (1, 1)))):
        other = image_keys(photos, view)
        assert other is not None
        assert not (other == keys).all(axis=1).any()
    assert image_keys(open_data(data_config("digits")).train, EvalView(SMALL)) is None


def test_damaged_and_unfinished_shards_are_not_used(photos: Any, capsys: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(image_store, "_SHARD_BYTES", 10_000)
    source = cached(photos)
    shards = sorted(source.cached_images.files)  # type: ignore[attr-defined]
    assert len(shards) == 5
    data = bytearray(shards[0].read_bytes())
    data[100] ^= 1
    shards[0].write_bytes(data)
    shards[1].write_bytes(shards[1].read_bytes()[:-30])
    unfinished = shards[0].with_name(f".{shards[0].name}.1.tmp")
    unfinished.write_bytes(b"x" * 100)
    os.utime(unfinished, (1, 1))
    keys = image_keys(photos, source.view)
    assert keys is not None
    store = open_image_store("photos", "photos")
    assert capsys.readouterr().err.count("is damaged") == 2
    assert 5 <= len(store.find(keys).missing) <= 12
    assert not shards[0].exists()
    assert not shards[1].exists()
    assert not unfinished.exists()
    assert equal(batches(cached(photos), None), batches(photos, None))


def test_complete_shards_survive_a_full_disk(photos: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(image_store, "_SHARD_BYTES", 10_000)
    begun = []
    real = image_store._write_shard

    def write(*args: Any) -> Any:
        begun.append(1)
        left = real(*args)
        if len(begun) == 3:
            raise OSError(errno.ENOSPC, "No space left on device")
        return left

    monkeypatch.setattr(image_store, "_write_shard", write)
    with pytest.raises(OSError, match="No space"):
        cached(photos)
    keys = image_keys(photos, EvalView(SMALL))
    assert keys is not None
    store = open_image_store("photos", "photos")
    cached_images = store.find(keys)
    assert 0 < len(cached_images.missing) < 24
    assert [p.suffix for p in store.folder.iterdir()].count(".tmp") == 0
    assert equal(batches(CachedDataset(photos, EvalView(SMALL), cached_images), None), batches(photos, None))


def test_size_limit_and_deletion_of_unused_shards(photos: Any) -> None:
    source = cached(photos, max_bytes=10_000)
    assert len(source.cached_images.missing) == 24 - 10_000 // (24 * 24 * 3)  # type: ignore[attr-defined]
    assert len(cached(photos).cached_images.missing) == 0  # type: ignore[attr-defined]
    store = open_image_store("photos", "photos")
    before = store.bytes
    keys = image_keys(photos, EvalView(SMALL))
    assert keys is not None
    freed = store.delete_others(keys[:2])  # they lie in the first of the two shards
    assert freed > before / 2
    assert freed + store.bytes == before
    assert store.find(keys).missing.tolist() == list(range(10_000 // (24 * 24 * 3), 24))


def test_pickles_without_maps_and_tolerates_deleted_files(photos: Any) -> None:
    source = cached(photos)
    first = source.read(0, lambda height, width: EvalView(SMALL))
    assert source.cached_images._maps  # type: ignore[attr-defined]
    copy = pickle.loads(pickle.dumps(source))
    assert not copy.cached_images._maps
    assert len(pickle.dumps(source)) < 20_000
    shutil.rmtree(kind_folder("images"))  # `zoo cache clear` meanwhile
    again = copy.read(0, lambda height, width: EvalView(SMALL))
    assert np.array_equal(first, again)


def test_unreadable_images_fail_when_they_are_read(photos: Any) -> None:
    Path(photos.where(2)).write_bytes(b"\xff\xd8\xff no picture")
    source = cached(photos)
    assert source.cached_images.missing.tolist() == [2]  # type: ignore[attr-defined]
    with pytest.raises(UnreadableImage):
        source.read(2, lambda height, width: EvalView(SMALL))


def test_it_behaves_like_its_source(photos: Any) -> None:
    source = cached(photos)
    assert (source.name, source.classes, source.channels, len(source)) == (photos.name, photos.classes, 3, 24)
    assert source.fingerprint() == photos.fingerprint()
    assert source.read_file_bytes(4) == photos.read_file_bytes(4)
    assert list(source.names) == list(photos.names)
    assert source.where(1) == photos.where(1)
    assert not isinstance(source.with_intensity_range(SMALL.intensity_range), CachedDataset)
    assert not source.skip_unreadable
    assert source.groups is None
    assert source.shards is None
