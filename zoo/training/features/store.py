"""Features of images on disk, found by the contents of the image: one run computes them, the next one reads them.

A store is a folder for everything but the image that features depend on: weights and boundary of the feature extractor,
preprocessing, dtype. It holds shards: safetensors files of `keys` (n, 16) uint8 and `rows` (n, …), never changed once
written. A shard is named by the digest of its bytes, so a damaged one is noticed, deleted and computed again. Several
runs may write at the same time, each its own shards.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from zoo.atomic_io import replace_file
from zoo.cache import delete_stale, save_info, touch
from zoo.console import note

KEY_BYTES = 16
# Bytes of rows in a shard: large enough for sequential reading, small enough for a copy in memory.
_SHARD_BYTES = 64 << 20

Keys = NDArray[np.uint8]


def image_key(contents: bytes, variant: str = "") -> bytes:
    """The key of an image's row: file contents and random view."""
    key = hashlib.blake2b(variant.encode(), digest_size=KEY_BYTES).digest() if variant else b""
    return hashlib.blake2b(contents, digest_size=KEY_BYTES, key=key).digest()


def store_key(parts: dict[str, Any], tensors: dict[str, Tensor]) -> str:
    """20 hex digits that depend on `parts` (JSON-able) and all `tensors`."""
    digest = hashlib.blake2b(json.dumps(parts, sort_keys=True).encode(), digest_size=10)
    for name in sorted(tensors):
        tensor = tensors[name].detach().cpu().contiguous()
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        digest.update(tensor.flatten().view(torch.uint8).numpy().data if tensor.numel() else b"")
    return digest.hexdigest()


@dataclass(frozen=True)
class CachedFeatures:
    """Rows of a store. shards[i]: (n_i, …). shard, row: the position of each row."""

    shards: tuple[Tensor, ...]
    shard: NDArray[np.int64]
    row: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.row)

    def __getitem__(self, wanted: Sequence[int] | NDArray[np.int64]) -> Tensor:
        """Rows (len(wanted), …) at these indices."""
        indices = np.asarray(wanted, np.int64)
        shard, row = self.shard[indices], self.row[indices]
        used = np.unique(shard)
        if len(used) == 1:
            return self.shards[int(used[0])][torch.from_numpy(row)]
        first = self.shards[int(used[0])]
        out = first.new_empty(len(indices), *first.shape[1:])
        for number in used:
            positions = np.flatnonzero(shard == number)
            out[torch.from_numpy(positions)] = self.shards[int(number)][torch.from_numpy(row[positions])]
        return out


class FeatureStore:
    """The store in `folder`, created when written. shape: of a row. info: shown by `zoo cache list`, JSON-able."""

    def __init__(self, folder: Path, shape: Sequence[int], dtype: torch.dtype, info: dict[str, Any]) -> None:
        self.folder = folder
        self.shape, self.dtype, self.info = tuple(shape), dtype, info
        self._names: list[str] = []
        self._shards: list[Tensor] = []
        self._locations: dict[bytes, tuple[int, int]] = {}
        self._new: list[tuple[bytes, Tensor]] = []
        self._new_bytes = 0
        self.refresh()

    @property
    def row_bytes(self) -> int:
        return int(np.prod(self.shape, dtype=np.int64)) * self.dtype.itemsize

    def refresh(self) -> None:
        """Read the shards in the folder; damaged and foreign files are deleted."""
        try:
            found = sorted(p for p in self.folder.iterdir() if p.suffix == ".safetensors")
        except OSError:
            return
        delete_stale(self.folder)
        for path in found:
            if path.stem not in self._names and not self._read(path):
                note(f"{path} is damaged: deleted, and computed again")
                path.unlink(missing_ok=True)
        if found:
            touch(self.folder)

    def _read(self, path: Path) -> bool:
        try:
            if _digest(path) != path.stem:
                return False
            with safe_open(path, framework="pt") as file:
                keys, rows = file.get_tensor("keys"), file.get_tensor("rows")
        except (OSError, SafetensorError):
            return False
        if keys.shape != (len(rows), KEY_BYTES) or tuple(rows.shape[1:]) != self.shape or rows.dtype != self.dtype:
            return False
        for row, key in enumerate(keys.numpy()):
            self._locations.setdefault(key.tobytes(), (len(self._shards), row))
        self._names.append(path.stem)
        self._shards.append(rows)
        return True

    def missing(self, keys: Sequence[bytes]) -> list[int]:
        """Indices in `keys` without a row; of equal keys the first."""
        requested: set[bytes] = set()
        indices = []
        for i, key in enumerate(keys):
            if key not in self._locations and key not in requested:
                requested.add(key)
                indices.append(i)
        return indices

    def add(self, keys: Sequence[bytes], rows: Tensor) -> None:
        """Store `rows` (n, …) under `keys`; written when a shard is full, and by `flush`. Raises OSError."""
        cpu_rows = rows.detach().cpu().to(self.dtype)
        self._new += zip(keys, cpu_rows, strict=True)
        self._new_bytes += cpu_rows.numel() * cpu_rows.element_size()
        if self._new_bytes >= _SHARD_BYTES:
            self.flush()

    def flush(self) -> None:
        """Write the rows added so far. Raises OSError."""
        if not self._new:
            return
        keys = np.frombuffer(b"".join(key for key, _ in self._new), np.uint8).reshape(-1, KEY_BYTES)
        data = save({"keys": torch.from_numpy(keys.copy()), "rows": torch.stack([row for _, row in self._new])})
        self._new, self._new_bytes = [], 0
        save_info(self.folder, {**self.info, "shape": list(self.shape), "dtype": str(self.dtype)})
        path = self.folder / f"{hashlib.blake2b(data, digest_size=16).hexdigest()}.safetensors"
        replace_file(path, data)
        self._read(path)

    def rows(self, keys: Sequence[bytes]) -> CachedFeatures:
        """The rows of `keys`. Raises KeyError if one is missing."""
        indices = np.array([self._locations[key] for key in keys], np.int64).reshape(-1, 2)
        return CachedFeatures(tuple(self._shards), indices[:, 0], indices[:, 1])


def _digest(path: Path) -> str:
    digest = hashlib.blake2b(digest_size=16)
    with path.open("rb") as f:
        while block := f.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()
