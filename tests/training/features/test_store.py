from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
import torch

from zoo.cache import clear, list_entries
from zoo.training.features import store as feature_store
from zoo.training.features.store import FeatureStore, image_key, store_key

KEYS = [image_key(bytes([i])) for i in range(10)]


def _store(folder: Path, dtype: torch.dtype = torch.float32, shape: tuple[int, ...] = (3,)) -> FeatureStore:
    return FeatureStore(folder, shape, dtype, {"model": "m"})


def test_another_store_finds_the_rows(tmp_path: Path) -> None:
    rows = torch.arange(30.0).reshape(10, 3)
    first = _store(tmp_path / "s")
    assert first.missing([*KEYS, KEYS[0]]) == list(range(10))
    first.add(KEYS[:6], rows[:6])
    first.flush()
    second = _store(tmp_path / "s")
    assert second.missing(KEYS) == [6, 7, 8, 9]
    second.add(KEYS[6:], rows[6:])
    second.flush()
    cached = _store(tmp_path / "s").rows(KEYS[::-1])
    assert len(cached.shards) == 2
    assert torch.equal(cached[range(10)], rows.flip(0))
    assert torch.equal(cached[np.array([9, 0, 9])], rows[[0, 9, 0]])


def test_bfloat16_round_trip(tmp_path: Path) -> None:
    rows = torch.randn(10, 2, 4).to(torch.bfloat16)
    store = _store(tmp_path / "s", torch.bfloat16, (2, 4))
    store.add(KEYS, rows)
    store.flush()
    assert torch.equal(_store(tmp_path / "s", torch.bfloat16, (2, 4)).rows(KEYS)[range(10)], rows)


def test_a_damaged_shard_is_deleted_and_its_rows_are_missing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    store = _store(tmp_path / "s")
    store.add(KEYS[:5], torch.zeros(5, 3))
    store.flush()
    store.add(KEYS[5:], torch.ones(5, 3))
    store.flush()
    shards = sorted((tmp_path / "s").glob("*.safetensors"))
    for at in (-1, 20):  # a value, and the header
        damaged = bytearray(shards[0].read_bytes())
        damaged[at] ^= 1
        shards[0].write_bytes(damaged)
        again = _store(tmp_path / "s")
        assert len(again.missing(KEYS)) == 5
        assert not shards[0].exists()
        assert "damaged" in capsys.readouterr().err
        lost = [KEYS[i] for i in again.missing(KEYS)]
        again.add(lost, torch.full((5, 3), 7.0))
        again.flush()
        shards = [p for p in sorted((tmp_path / "s").glob("*.safetensors")) if p != shards[1]] + [shards[1]]


def test_rows_of_another_shape_are_not_used(tmp_path: Path) -> None:
    store = _store(tmp_path / "s")
    store.add(KEYS, torch.zeros(10, 3))
    store.flush()
    assert len(_store(tmp_path / "s", shape=(4,)).missing(KEYS)) == 10


def test_full_shards_are_written_before_flush(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(feature_store, "_SHARD_BYTES", 40)
    store = _store(tmp_path / "s")
    for i in range(10):
        store.add([KEYS[i]], torch.full((1, 3), float(i)))
    store.flush()
    assert len(list((tmp_path / "s").glob("*.safetensors"))) == 3
    assert torch.equal(store.rows(KEYS)[[9, 0]], torch.tensor([[9.0] * 3, [0.0] * 3]))


def test_keys_depend_on_contents() -> None:
    weights = {"a": torch.zeros(2), "b": torch.ones(2, dtype=torch.bfloat16)}
    same = store_key({"end": "x"}, dict(reversed(weights.items())))
    assert same == store_key({"end": "x"}, weights)
    assert same != store_key({"end": "y"}, weights)
    assert same != store_key({"end": "x"}, {**weights, "a": torch.tensor([0.0, 1e-30])})
    assert image_key(b"1") != image_key(b"2")
    assert image_key(b"1") != image_key(b"1", "view 1")


def test_the_least_recently_used_store_is_deleted_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ZOO_CACHE", str(tmp_path))
    assert list_entries("features") == []
    for age, name in enumerate(("new", "old", "older")):
        store = _store(tmp_path / "features" / name)
        store.add(KEYS, torch.zeros(10, 3))
        store.flush()
        os.utime(store.folder, (1e9 - age, 1e9 - age))
    stores = list_entries("features")
    assert [s.path.name for s in stores] == ["new", "old", "older"]
    assert stores[0].info["model"] == "m"
    size = stores[0].bytes
    assert clear("features", max_bytes=2 * size) == size
    assert [s.path.name for s in list_entries("features")] == ["new", "old"]
    assert clear("features", exclude=[stores[1].path]) == size
    assert [s.path.name for s in list_entries("features")] == ["old"]
