"""Parquet files as a table: one file, or the shards of a folder. Images may be paths, or stored in the file."""

from __future__ import annotations

import functools
import json
import os
import threading
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np

from zoo.arrays import Indices
from zoo.data.decode.errors import describe_non_file, printable
from zoo.data.packed_files import ArchiveFile, BadMember, StoredImages
from zoo.data.schema.arrow import ArrowColumns
from zoo.data.schema.cells import StoredRows
from zoo.data.sources.text_formats import BLOCK
from zoo.errors import DataError

_Key = tuple[ArchiveFile, int, str]

_CACHE_BYTES = 512 << 20


@dataclass(frozen=True)
class ParquetImages(StoredImages):
    """The images in `column`: index of the file (N,), row group (N,) and row in it (N,) of each image."""

    files: tuple[ArchiveFile, ...]
    column: str
    file: Indices
    group: Indices
    row: Indices

    def __len__(self) -> int:
        return len(self.row)

    def take(self, rows: Indices) -> ParquetImages:
        return replace(self, file=self.file[rows], group=self.group[rows], row=self.row[rows])

    def read_file_bytes(self, row: int) -> bytes:
        """Raises BadMember, OSError."""
        file = self.files[int(self.file[row])]
        value: Any = _groups.get((file, int(self.group[row]), self.column))[int(self.row[row])].as_py()
        path = None
        if isinstance(value, dict):
            path = value.get("path")
            value = value.get("bytes")
        if value is not None:
            return bytes(value)
        if not path:
            raise BadMember("no image: the cell is null")
        with open(os.path.join(os.path.dirname(file.path), path), "rb") as f:
            return f.read()

    def content_version(self, row: int) -> int:
        return self.files[int(self.file[row])].mtime_ns


class _Groups:
    """A cache of the last row groups, by file, number and column; shared by the threads of a process."""

    def __init__(self) -> None:
        self.clear()

    def clear(self) -> None:
        self._lock = threading.Lock()
        self._cached: OrderedDict[_Key, Any] = OrderedDict()
        self._bytes = 0

    def get(self, key: _Key) -> Any:
        """A pyarrow.ChunkedArray. Raises BadMember, OSError."""
        with self._lock:
            found = self._cached.get(key)
            if found is None:
                found = _read(*key)
                self._bytes += found.nbytes
                self._cached[key] = found
                while self._bytes > _CACHE_BYTES and len(self._cached) > 1:
                    self._bytes -= self._cached.popitem(last=False)[1].nbytes
            self._cached.move_to_end(key)
            return found


_groups = _Groups()
if hasattr(os, "register_at_fork"):  # each worker process has its own
    os.register_at_fork(after_in_child=_groups.clear)


@functools.lru_cache(maxsize=128)
def _metadata(file: ArchiveFile) -> Any:
    from pyarrow import parquet

    return parquet.read_metadata(file.path)


def _read(file: ArchiveFile, group: int, column: str) -> Any:
    import pyarrow as pa
    from pyarrow import parquet

    info = os.stat(file.path)
    if (info.st_size, info.st_mtime_ns) != (file.size, file.mtime_ns):
        raise BadMember(f"{file.path} has changed since it was listed")
    try:
        with parquet.ParquetFile(file.path, metadata=_metadata(file)) as opened:
            return opened.read_row_group(group, columns=[column], use_threads=False).column(column)
    except pa.ArrowException as e:
        raise BadMember(f"damaged: row group {group + 1} of {file.path} cannot be read ({e})") from e


# Bytes of the images in a row group, which is read as a whole.
_MAX_GROUP_BYTES = 1 << 30


def is_parquet_name(path: str) -> bool:
    return os.path.splitext(path)[1].lower() in (".parquet", ".pq")


class ParquetTable:
    """The rows of the files at `paths`, one file after the other.

    Args:
        paths: Parquet files with the same columns.
        name: name for messages.
        folder: folder to which image paths, and names of stored images ("train-0.parquet/row 12"), are relative;
            default: the folder of the first file.

    Raises:
        DataError: a file is missing, damaged or has other columns; pyarrow is not installed.
    """

    unit = "row"

    def __init__(self, paths: Sequence[str], *, name: str = "", folder: str = "") -> None:
        self.path = paths[0]
        self.name = name or printable(os.path.basename(paths[0]))
        self.folder = folder or os.path.dirname(paths[0]) or os.curdir
        opened = [_open(path) for path in paths]
        self._files = tuple(file for file, _, _ in opened)
        schema = opened[0][1]
        self._columns = ArrowColumns.of(schema, _features(schema))
        for file, other, _ in opened[1:]:
            if other.names != schema.names:
                raise DataError(
                    f"{printable(file.path)} has other columns than {printable(self._files[0].path)}",
                    "give files with the same columns",
                )
        self._metadata = [metadata for _, _, metadata in opened]
        self._starts = np.cumsum([0, *(m.num_rows for m in self._metadata)])
        if not self._starts[-1]:
            raise DataError(f"{self.name} has no rows", "add one row per image")
        self.header = self._columns.header
        self.classes = frozenset(self._columns.names)
        self.images: Mapping[str, Callable[[Indices], StoredRows]] = {
            name: partial(self._stored, name) for name in self._columns.images
        }

    def blocks(self) -> Iterator[tuple[Sequence[int], list[Sequence[str]]]]:
        from pyarrow import ArrowException
        from pyarrow.parquet import ParquetFile

        for file, start in zip(self._files, self._starts.tolist(), strict=False):
            done = 0
            own = os.path.relpath(file.path, self.folder)
            try:
                with ParquetFile(file.path) as opened:
                    # At least one column is needed for the number of rows.
                    wanted = self._columns.readable or [self.header[0]]
                    for batch in opened.iter_batches(BLOCK, columns=wanted, use_threads=False):
                        numbers = range(done + 1, done + batch.num_rows + 1)
                        names = [f"{own}/row {n}" for n in numbers] if self.images else [""] * batch.num_rows
                        yield [start + n for n in numbers], self._columns.cells(batch, names)
                        done += batch.num_rows
            except (ArrowException, OSError) as e:
                raise _damaged(file.path, e) from e

    def _stored(self, column: str, rows: Indices) -> StoredRows:
        indices = rows - 1
        file = np.searchsorted(self._starts, indices, side="right") - 1
        inside = indices - self._starts[file]
        group, row, sizes = np.empty_like(inside), np.empty_like(inside), np.zeros_like(inside)
        first_group = 0
        shards = np.empty_like(inside)
        for f, metadata in enumerate(self._metadata):
            here = np.flatnonzero(file == f)
            counts = np.array([metadata.row_group(g).num_rows for g in range(metadata.num_row_groups)])
            ends = np.cumsum(counts)
            group[here] = np.searchsorted(ends, inside[here], side="right")
            row[here] = inside[here] - (ends - counts)[group[here]]
            shards[here] = first_group + group[here]
            first_group += len(counts)
            sizes[here] = self._sizes(column, f)[inside[here]]
        images = ParquetImages(self._files, column, file, group, row)
        return StoredRows(images, sizes, shards if first_group > 1 else None)

    def _sizes(self, column: str, file: int) -> Indices:
        """Size in bytes of every image of a file, 0 for null; reads one row group at a time."""
        import pyarrow as pa
        from pyarrow import compute
        from pyarrow.parquet import ParquetFile

        path, metadata = self._files[file].path, self._metadata[file]
        sizes = []
        for g in range(metadata.num_row_groups):
            group = metadata.row_group(g)
            leaves = [group.column(c) for c in range(group.num_columns)]
            size = sum(c.total_uncompressed_size for c in leaves if c.path_in_schema.split(".")[0] == column)
            if size > _MAX_GROUP_BYTES:
                raise DataError(
                    f"row group {g + 1} of {printable(path)} has {size / 1e9:.1f} GB of images, which must "
                    "be read together",
                    "write it again with about 1,000 images per group (row_group_size=1000 in pandas and pyarrow)",
                )
        try:
            with ParquetFile(path) as opened:
                for batch in opened.iter_batches(256, columns=[column], use_threads=False):
                    found = batch.column(0)
                    data = found.field("bytes") if pa.types.is_struct(found.type) else found
                    sizes.append(compute.binary_length(data).fill_null(0).to_numpy(zero_copy_only=False))
        except (pa.ArrowException, OSError) as e:
            raise _damaged(path, e) from e
        return np.concatenate(sizes).astype(np.int64) if sizes else np.empty(0, np.int64)


def _open(path: str) -> tuple[ArchiveFile, Any, Any]:
    """(file, schema, metadata)."""
    if not os.path.isfile(path) and os.path.exists(path):
        raise DataError(
            f"{printable(path)} is {describe_non_file(os.stat(path).st_mode)}", "give the path of a Parquet file"
        )
    try:
        import pyarrow as pa
        from pyarrow import parquet
    except ImportError:
        raise DataError(
            f"{printable(path)} needs pyarrow, which is not installed",
            "pip install 'zoo[parquet]', or pip install pyarrow",
        ) from None
    try:
        with parquet.ParquetFile(path) as opened:
            return ArchiveFile.of(path), opened.schema_arrow, opened.metadata
    except (pa.ArrowException, OSError) as e:
        raise _damaged(path, e) from e


def _damaged(path: str, error: Exception) -> DataError:
    if isinstance(error, OSError) and error.strerror:
        return DataError(f"cannot read {printable(path)}: {error.strerror.lower()}")
    reason = str(error).splitlines()[0] if str(error) else type(error).__name__
    return DataError(f"{printable(path)} is not a readable Parquet file: {reason}", "write or download it again")


def _features(schema: Any) -> Mapping[str, Any]:
    """Hugging Face's description of the columns; {} if another library wrote the file."""
    try:
        found = json.loads((schema.metadata or {}).get(b"huggingface", b"{}"))["info"]["features"]
    except (ValueError, KeyError, TypeError):
        return {}
    return found if isinstance(found, Mapping) else {}
