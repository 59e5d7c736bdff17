"""Memory-mapped storage of decoded images, each an array of its own shape.

A store is a folder with immutable shards. Format of a shard:

    the pixels of the images, (H, W, C) uint8
    n rows: key (16 bytes), height, width, channels, height and width of the image in its file, offset of its pixels
    n, magic, BLAKE2b of everything before it

Shards are written atomically; one with a wrong digest is deleted, and its images are decoded again. Several runs may
write at the same time: each adds its own shards.
"""

from __future__ import annotations

import hashlib
import mmap
import os
import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from zoo.arrays import Pixels
from zoo.atomic_io import replace_file
from zoo.cache import delete_stale, save_info, touch
from zoo.console import note
from zoo.dist_env import cores

Keys = NDArray[np.uint64]  # (n, 2), of files as `zoo.data.file_dataset.file_keys` gives them

# Maximum bytes per shard: little is lost when a run is killed, and 10 GiB are only 80 files.
_SHARD_BYTES = 128 << 20
_SUFFIX = ".images"
_ROW = np.dtype([("key", "<u8", 2), ("shape", "<u4", 3), ("original_size", "<u4", 2), ("offset", "<u8")])
_MAGIC = b"zooimg01"
_DIGEST = 16
_FOOTER_BYTES = 8 + len(_MAGIC) + _DIGEST


@dataclass(frozen=True)
class DecodedImage:
    """An image to store. key: (2,) uint64; original_size: height and width in its file."""

    key: Keys
    pixels: Pixels
    original_size: tuple[int, int]


@dataclass(eq=False)
class MappedImages:
    """Images of a store by index. Pickles without its memory maps.

    shard: (n,) index into `files`, -1 for images that are not cached. row: (n,) of `_ROW`.
    """

    files: tuple[Path, ...]
    shard: NDArray[np.int64]
    row: NDArray[np.void]
    _maps: dict[int, mmap.mmap | None] = field(default_factory=dict, repr=False)

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_maps": {}}

    @property
    def missing(self) -> NDArray[np.int64]:
        """Indices of the images that are not cached."""
        return np.flatnonzero(self.shard < 0)

    def get(self, index: int) -> tuple[Pixels, tuple[int, int]] | None:
        """A read-only image and its original height and width; None if it is not cached (any more)."""
        number = int(self.shard[index])
        mapped = self._mapped(number) if number >= 0 else None
        if mapped is None:
            return None
        row = self.row[index]
        height, width, channels = row["shape"].tolist()
        pixels = np.frombuffer(mapped, np.uint8, height * width * channels, int(row["offset"]))
        whole_h, whole_w = row["original_size"].tolist()
        return pixels.reshape(height, width, channels), (whole_h, whole_w)

    def _mapped(self, number: int) -> mmap.mmap | None:
        if number not in self._maps:
            try:
                with self.files[number].open("rb") as f:
                    self._maps[number] = mmap.mmap(f.fileno(), 0, access=mmap.ACCESS_READ)
            except OSError:  # deleted by `zoo cache clear`
                self._maps[number] = None
        return self._maps[number]


class ImageStore:
    """The store in `folder`, created when the first images are added. info: JSON description for `zoo cache`."""

    def __init__(self, folder: Path, info: dict[str, Any]) -> None:
        self.folder, self.info = folder, info
        self._rows: dict[Path, NDArray[np.void]] = {}
        self.refresh()

    @property
    def bytes(self) -> int:
        return sum(_size(path) for path in self._rows)

    def refresh(self) -> None:
        """Find new shards in the folder; delete damaged and unfinished ones."""
        try:
            found = sorted(self.folder.iterdir())
        except OSError:
            return
        delete_stale(self.folder)
        new = [path for path in found if path.suffix == _SUFFIX and path not in self._rows]
        with ThreadPoolExecutor(cores()) as pool:
            for path, rows in zip(new, pool.map(_read_rows, new), strict=True):
                if rows is not None:
                    self._rows[path] = rows
                elif path.exists():
                    note(f"{path} is damaged: deleted, and its images are decoded again")
                    path.unlink(missing_ok=True)
        if self._rows:
            touch(self.folder)

    def find(self, keys: Keys) -> MappedImages:
        """The cached images with these keys (n, 2); a key of zeros matches none."""
        files, known = tuple(self._rows), list(self._rows.values())
        shard, row = np.full(len(keys), -1, np.int64), np.zeros(len(keys), _ROW)
        if not sum(map(len, known)):
            return MappedImages(files, shard, row)
        rows = np.concatenate(known)
        number = np.repeat(np.arange(len(known)), [len(some) for some in known])
        order = np.argsort(rows["key"][:, 0], kind="stable")
        nearest = np.searchsorted(rows["key"][order, 0], keys[:, 0])
        nearest = order[np.minimum(nearest, len(order) - 1)]
        hit = (rows["key"][nearest] == keys).all(axis=1) & keys.any(axis=1)
        shard[hit], row[hit] = number[nearest[hit]], rows[nearest[hit]]
        return MappedImages(files, shard, row)

    def delete_others(self, keys: Keys) -> int:
        """Delete the shards without any of these images; returns the bytes freed."""
        freed = 0
        for path, rows in list(self._rows.items()):
            if not np.isin(rows["key"][:, 0], keys[:, 0]).any():
                freed += _size(path)
                path.unlink(missing_ok=True)
                del self._rows[path]
        return freed

    def fill(self, images: Iterator[DecodedImage], *, max_bytes: int) -> int:
        """Store images up to `max_bytes`; returns the bytes written. Raises OSError if writing fails; complete shards
        remain."""
        written = 0
        pending: DecodedImage | None = next(images, None)
        while pending is not None and written + pending.pixels.nbytes <= max_bytes:
            save_info(self.folder, self.info)
            path = self.folder / f"{uuid.uuid4().hex}{_SUFFIX}"

            def write(temporary: Path, available: int = max_bytes - written) -> None:
                nonlocal pending
                with temporary.open("wb") as file:
                    pending = _write_shard(file, pending, images, min(_SHARD_BYTES, available))

            replace_file(path, write)
            written += _size(path)
            rows = _read_index(path)
            if rows is not None:
                self._rows[path] = rows
        return written


def _write_shard(
    file: BinaryIO, first: DecodedImage | None, images: Iterator[DecodedImage], max_bytes: int
) -> DecodedImage | None:
    """Write images up to `max_bytes`, then the rows and the footer; returns the first image that did not fit."""
    digest = hashlib.blake2b(digest_size=_DIGEST)
    rows: list[Any] = []
    offset = 0
    image = first
    while image is not None and (not rows or offset + image.pixels.nbytes <= max_bytes):
        data = np.ascontiguousarray(image.pixels).data
        file.write(data)
        digest.update(data)
        rows.append((image.key, image.pixels.shape, image.original_size, offset))
        offset += image.pixels.nbytes
        image = next(images, None)
    end = np.array(rows, _ROW).tobytes() + len(rows).to_bytes(8, "little") + _MAGIC
    digest.update(end)
    file.write(end + digest.digest())
    return image


def _read_rows(path: Path) -> NDArray[np.void] | None:
    """The rows of a shard, None if it is damaged."""
    rows = _read_index(path)
    if rows is None:
        return None
    digest = hashlib.blake2b(digest_size=_DIGEST)
    try:
        with path.open("rb") as file:
            left = _size(path) - _DIGEST
            while left and (block := file.read(min(left, 1 << 20))):
                digest.update(block)
                left -= len(block)
            return rows if file.read() == digest.digest() else None
    except OSError:
        return None


def _read_index(path: Path) -> NDArray[np.void] | None:
    try:
        with path.open("rb") as file:
            size = file.seek(0, os.SEEK_END)
            if size < _FOOTER_BYTES:
                return None
            file.seek(size - _FOOTER_BYTES)
            footer = file.read(_FOOTER_BYTES)
            start = size - _FOOTER_BYTES - int.from_bytes(footer[:8], "little") * _ROW.itemsize
            if footer[8 : 8 + len(_MAGIC)] != _MAGIC or start < 0:
                return None
            file.seek(start)
            return np.frombuffer(file.read(size - _FOOTER_BYTES - start), _ROW)
    except OSError:
        return None


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return 0
