"""Images that are not files (`StoredImages`), and members of archives (`PackedFiles`), each a range of bytes.

A million members take 40 MB. Each process opens an archive once and reads it at offsets (pread), so that forked workers
and threads can share it.
"""

from __future__ import annotations

import bz2
import functools
import os
import struct
import zlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from zoo.arrays import Indices

STORED, DEFLATED, BZIP2 = 0, 8, 12  # a zip's own numbers
ZIP_METHODS = frozenset({STORED, DEFLATED, BZIP2})
TAR_MEMBER = 255  # in a tar: the bytes themselves, without a header of a zip before them

# Bytes of a member, unpacked: Pillow's largest image, 178,956,970 pixels, takes less in any format.
MAX_IMAGE_BYTES = 1 << 30
_ZIP_HEADER = struct.Struct("<4s5H3L2H")
_MAX_OPEN_ARCHIVES = 128  # archives that a process keeps open


class BadMember(ValueError):
    """A member that cannot be read, and why."""


@dataclass(frozen=True)
class ArchiveFile:
    """An archive as it was when it was listed."""

    path: str
    size: int
    mtime_ns: int

    @staticmethod
    def of(path: str) -> ArchiveFile:
        """Raises OSError."""
        info = os.stat(path)
        return ArchiveFile(path, info.st_size, info.st_mtime_ns)


class StoredImages(Protocol):
    """Images by row that are not files: members of archives, cells of a table, items of a library's data set.

    Picklable; any process and thread may read any row.
    """

    def __len__(self) -> int: ...

    def take(self, rows: Indices) -> StoredImages: ...

    def read_file_bytes(self, row: int) -> bytes:
        """An image file's bytes. Raises BadMember, OSError."""

    def read_header(self, row: int, max_bytes: int) -> bytes:
        """Its first bytes, at most `max_bytes`. Raises BadMember, OSError."""
        return self.read_file_bytes(row)[:max_bytes]

    def content_version(self, row: int) -> int:
        """A number that changes with the file that contains the row, such as its modification time."""


class _Descriptor:
    def __init__(self, archive: ArchiveFile) -> None:
        self.number = -1
        self.number = os.open(archive.path, os.O_RDONLY | getattr(os, "O_BINARY", 0))

    def __del__(self) -> None:
        if self.number >= 0:
            os.close(self.number)


# A forked process inherits the descriptors; they can be shared, because pread does not move their position.
_open_descriptor = functools.lru_cache(maxsize=_MAX_OPEN_ARCHIVES)(_Descriptor)


def read_at(descriptor: int, length: int, offset: int) -> bytes:
    """Up to `length` bytes from `offset` on; fewer only at the end of the file."""
    if not hasattr(os, "pread"):  # Windows
        with open(os.dup(descriptor), "rb", buffering=0) as f:
            f.seek(offset)
            return f.read(length)
    data = os.pread(descriptor, length, offset)
    while len(data) < length:
        more = os.pread(descriptor, length - len(data), offset + len(data))
        if not more:
            break
        data += more
    return data


@dataclass(frozen=True)
class PackedFiles(StoredImages):
    """N members of archives."""

    archives: tuple[ArchiveFile, ...]
    archive: NDArray[np.int32]  # (N,) index into `archives`
    offsets: Indices  # (N,) first byte; in a zip, of the header before the data
    lengths: Indices  # (N,) bytes in the archive
    sizes: Indices  # (N,) bytes when unpacked
    methods: NDArray[np.uint8]  # (N,) compression method
    checksums: NDArray[np.uint32]  # (N,) CRC-32 in a zip

    def __len__(self) -> int:
        return len(self.offsets)

    def take(self, rows: Indices) -> PackedFiles:
        return replace(
            self,
            archive=self.archive[rows],
            offsets=self.offsets[rows],
            lengths=self.lengths[rows],
            sizes=self.sizes[rows],
            methods=self.methods[rows],
            checksums=self.checksums[rows],
        )

    @staticmethod
    def join(parts: Sequence[PackedFiles]) -> PackedFiles:
        """The members of all `parts`, one part after the other."""
        first = np.cumsum([0, *(len(p.archives) for p in parts[:-1])])
        return PackedFiles(
            archives=tuple(a for p in parts for a in p.archives),
            archive=np.concatenate([p.archive + np.int32(n) for p, n in zip(parts, first, strict=True)]),
            offsets=np.concatenate([p.offsets for p in parts]),
            lengths=np.concatenate([p.lengths for p in parts]),
            sizes=np.concatenate([p.sizes for p in parts]),
            methods=np.concatenate([p.methods for p in parts]),
            checksums=np.concatenate([p.checksums for p in parts]),
        )

    def read_file_bytes(self, row: int) -> bytes:
        size = int(self.sizes[row])
        if size > MAX_IMAGE_BYTES:
            raise BadMember(f"{size:,} bytes unpacked, beyond the {MAX_IMAGE_BYTES:,} that an image may take")
        data = self._unpack(row, size)
        if len(data) != size:
            raise BadMember(f"truncated: the archive holds {len(data):,} of its {size:,} bytes")
        if self.methods[row] != TAR_MEMBER and zlib.crc32(data) != self.checksums[row]:
            raise BadMember("damaged: its bytes do not have the checksum that the archive states")
        return data

    def read_header(self, row: int, max_bytes: int) -> bytes:
        return self._unpack(row, min(int(self.sizes[row]), max_bytes), header_only=True)

    def content_version(self, row: int) -> int:
        archive: ArchiveFile = self.archives[self.archive[row]]
        return archive.mtime_ns

    def _unpack(self, row: int, size: int, *, header_only: bool = False) -> bytes:
        """At most `size` bytes; beyond what the archive states nothing is unpacked, however much there is."""
        archive = self.archives[self.archive[row]]
        descriptor = _open_descriptor(archive)
        info = os.fstat(descriptor.number)
        if (info.st_size, info.st_mtime_ns) != (archive.size, archive.mtime_ns):
            raise BadMember(f"{archive.path} has changed since it was listed")
        offset, length, method = int(self.offsets[row]), int(self.lengths[row]), int(self.methods[row])
        if method == TAR_MEMBER:
            return read_at(descriptor.number, size, offset)
        header = read_at(descriptor.number, _ZIP_HEADER.size, offset)
        if len(header) < _ZIP_HEADER.size or header[:4] != b"PK\3\4":
            raise BadMember("damaged: the archive holds no member where it states one")
        *_, name, extra = _ZIP_HEADER.unpack(header)
        # For a header only as much as its bytes may be packed into.
        wanted = min(length, size if method == STORED else max(4096, 2 * size) if header_only else length)
        data = read_at(descriptor.number, wanted, offset + _ZIP_HEADER.size + name + extra)
        if method == STORED:
            return data[:size]
        try:
            if method == DEFLATED:
                inflate = zlib.decompressobj(-zlib.MAX_WBITS)
                found = inflate.decompress(data, size + 1) if size else b""
            else:
                found = bz2.BZ2Decompressor().decompress(data, size + 1)
        except (zlib.error, OSError, ValueError) as e:
            raise BadMember(f"damaged: it cannot be unpacked ({e})") from e
        if len(found) > size and not header_only:
            raise BadMember(f"damaged: it unpacks to more than the {size:,} bytes that the archive states")
        return found[:size]
