"""Images inside Parquet files: the row group that an image lies in is read when it is asked for.

A row group is the least that can be read of such a file. Those read last are kept, up to `_KEPT` bytes in a process;
`StoredRows.shards` has an epoch go through them nearly in order.
"""

from __future__ import annotations

import functools
import os
import threading
from collections import OrderedDict
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from zoo.data.packed import ArchiveFile, BadMember

__all__ = ["ParquetImages"]

Indices = NDArray[np.int64]
_Key = tuple[ArchiveFile, int, str]

_KEPT = 512 << 20  # bytes


@dataclass(frozen=True)
class ParquetImages:
    """The images in `column`: of each the file (N,), its row group (N,) and the row there (N,)."""

    files: tuple[ArchiveFile, ...]
    column: str
    file: Indices
    group: Indices
    row: Indices

    def __len__(self) -> int:
        return len(self.row)

    def take(self, rows: Indices) -> ParquetImages:
        return replace(self, file=self.file[rows], group=self.group[rows], row=self.row[rows])

    def raw(self, row: int) -> bytes:
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
            raise BadMember("no image: the cell is empty (null)")
        with open(os.path.join(os.path.dirname(file.path), path), "rb") as f:
            return f.read()

    def head(self, row: int, most: int) -> bytes:
        return self.raw(row)[:most]

    def changed(self, row: int) -> int:
        return self.files[int(self.file[row])].mtime_ns


class _Groups:
    """Row groups by file, number and column, the last ones kept; for all threads of a process."""

    def __init__(self) -> None:
        self.forget()

    def forget(self) -> None:
        self._lock = threading.Lock()
        self._kept: OrderedDict[_Key, Any] = OrderedDict()
        self._bytes = 0

    def get(self, key: _Key) -> Any:
        """A pyarrow.ChunkedArray. Raises BadMember, OSError."""
        with self._lock:
            found = self._kept.get(key)
            if found is None:
                found = _read(*key)
                self._bytes += found.nbytes
                self._kept[key] = found
                while self._bytes > _KEPT and len(self._kept) > 1:
                    self._bytes -= self._kept.popitem(last=False)[1].nbytes
            self._kept.move_to_end(key)
            return found


_groups = _Groups()
if hasattr(os, "register_at_fork"):  # a worker has a memory and a lock of its own
    os.register_at_fork(after_in_child=_groups.forget)


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
