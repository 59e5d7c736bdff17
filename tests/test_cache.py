"""Files under $ZOO_CACHE: versions, damage, limits, and the kinds that `zoo cache` lists and clears."""

from __future__ import annotations

import os
import tarfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from zoo.cache import (
    CACHES,
    UNKNOWN,
    CacheFile,
    CacheKind,
    cache_folder,
    kind_folder,
    list_entries,
    save_file,
    save_info,
)
from zoo.catalog.index import INDEX
from zoo.catalog.refresh import _cache_index
from zoo.data.cache.cached_dataset import open_image_store
from zoo.data.cache.image_store import DecodedImage
from zoo.data.check.image_record import RECORD, RecordCache
from zoo.data.packed_files import ArchiveFile
from zoo.data.sources import archive
from zoo.data.sources.tar import uncompressed_tar
from zoo.data.sources.torchvision import download_folder
from zoo.data.validate import save_verified
from zoo.training.autotune.timings import save_timing
from zoo.training.features.store import FeatureStore, image_key
from zoo.workflows.cache import clear_cache, list_cache


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ZOO_CACHE", str(tmp_path / "cache"))


def _write_every_kind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    features = FeatureStore(kind_folder("features") / "a", (3,), torch.float32, {"model": "m"})
    features.add([image_key(b"1")], torch.zeros(1, 3))
    features.flush()
    image = DecodedImage(np.ones(2, np.uint64), np.zeros((4, 4, 3), np.uint8), (4, 4))
    open_image_store("photos", "photos").fill(iter([image]), max_bytes=1 << 20)
    with tarfile.open(tmp_path / "photos.tar.gz", "w:gz") as t:
        t.add(INDEX, "a/index.json")
    plain, _ = uncompressed_tar(str(tmp_path / "photos.tar.gz"))
    monkeypatch.setattr(archive, "_MIN_CACHED_BYTES", 0)
    archive.list_members(ArchiveFile.of(plain))
    download_folder("MNIST").mkdir(parents=True)
    save_info(kind_folder("weights") / "m.tag", {"model": "m.tag"})
    RecordCache(str(tmp_path)).save(np.ones(2, RECORD), {})
    save_verified(str(tmp_path), 3, np.ones(2, np.uint64))
    save_timing("step", {"model": "m"}, {"precision": "bf16"})
    _cache_index("{}", {"timm": "1.0"})


def test_every_kind_is_listed_and_cleared(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _write_every_kind(tmp_path, monkeypatch)
    entries = list_cache()
    assert sorted(e.kind for e in entries) == sorted(CACHES)
    assert all(e.bytes for e in entries if e.kind != "torchvision")
    files = sum(p.stat().st_size for p in cache_folder().rglob("*") if p.is_file())
    assert sum(e.bytes for e in entries) == files
    assert clear_cache("timings", "unpacked") == sum(e.bytes for e in entries if e.kind in ("timings", "unpacked"))
    assert sorted(e.kind for e in list_cache()) == sorted(set(CACHES) - {"timings", "unpacked"})
    clear_cache()
    assert list(cache_folder().iterdir()) == []


def test_unknown_files_are_listed_and_stay() -> None:
    (cache_folder() / "photos").mkdir(parents=True)
    (cache_folder() / "photos" / "1.jpg").write_bytes(b"123")
    assert [(e.kind, e.path.name, e.bytes) for e in list_cache()] == [(UNKNOWN, "photos", 3)]
    assert clear_cache() == 0
    assert (cache_folder() / "photos" / "1.jpg").exists()


def test_json_is_found_by_key_and_version() -> None:
    file = CacheFile("timings", {"model": "m", "size": (3, 4)}, version=1, label="step time")
    assert file.load_json() is None
    file.save_json([1, "\udcff"])
    assert file.path.name.startswith("step_time-")
    assert CacheFile("timings", {"size": [3, 4], "model": "m"}, 1, "step time").load_json() == [1, "\udcff"]
    assert replace(file, version=2).load_json() is None
    assert replace(file, key="other").load_json() is None


def test_damaged_arrays_are_none() -> None:
    file = CacheFile("check", "photos", version=[1], suffix=".npz")
    assert file.load_arrays() is None
    file.save_arrays({"a": np.arange(1000)}, {"b": 2})
    arrays, value = file.load_arrays() or ({}, None)
    assert list(arrays) == ["a"]
    np.testing.assert_array_equal(arrays["a"], np.arange(1000))
    assert value == {"b": 2}
    assert replace(file, version=[2]).load_arrays() is None
    contents = file.path.read_bytes()
    rng = np.random.default_rng(0)
    for position in rng.integers(0, len(contents), 300):
        damaged = bytearray(contents)
        damaged[position] ^= 1 << int(rng.integers(8))
        file.path.write_bytes(damaged)
        found = file.load_arrays()
        assert found is None or np.array_equal(found[0].get("a", np.empty(0)), np.arange(1000))
    file.path.write_bytes(contents[:500])
    assert file.load_arrays() is None


def test_a_kind_stays_within_its_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(CACHES, "timings", CacheKind("", 25))
    folder = kind_folder("timings")
    for age, name in ((3, "a"), (2, "b"), (1, "c")):
        save_file(folder / name, "x" * 10)
        os.utime(folder / name, (1e9 - age, 1e9 - age))
    assert [e.path.name for e in list_entries("timings")] == ["c", "b"]
    (folder / ".d.1.tmp").write_text("x" * 30)  # another process is writing it
    save_file(folder / "large", "x" * 100)
    assert sorted(p.name for p in folder.iterdir()) == [".d.1.tmp", "large"]
    os.utime(folder / ".d.1.tmp", (1e9, 1e9))  # that process was killed
    save_file(folder / "large", "x" * 100)
    assert [p.name for p in folder.iterdir()] == ["large"]


def test_reading_an_entry_makes_it_the_most_recently_used() -> None:
    files = [CacheFile("timings", key) for key in "ab"]
    for file in files:
        file.save_json({})
        os.utime(file.path, (1e9, 1e9))
    files[1].load_json()
    assert [e.path for e in list_entries("timings")] == [files[1].path, files[0].path]
    assert files[1].path.stat().st_mtime == 1e9
