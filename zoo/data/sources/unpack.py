"""Compressed tars, which cannot be read at a place: unpacked once, in $ZOO_CACHE/unpacked, and read there.

What is kept is one plain tar, never the files that it names. It belongs to one state of the archive (path, size, time
of change); that of an older state is removed.
"""

from __future__ import annotations

import gzip
import importlib
import lzma
import os
import shutil
import stat
import zlib
from pathlib import Path
from typing import BinaryIO, cast

from zoo.cache import CacheFile, save_file, touch
from zoo.console import note
from zoo.data.decode.read import describe_non_file, printable
from zoo.data.sources.tar import is_tar_header
from zoo.errors import DataError

__all__ = ["is_compressed_name", "uncompressed_tar"]

_EXTENSIONS = (".tar.gz", ".tgz", ".tar.bz2", ".tbz2", ".tar.xz", ".txz", ".tar.zst", ".tzst")
_GZIP, _BZIP2, _XZ, _ZSTD = b"\x1f\x8b", b"BZh", b"\xfd7zXZ\0", b"\x28\xb5\x2f\xfd"
_BLOCK = 1 << 20
# A bomb: images hardly shrink at all, plain bitmaps of drawings a hundredfold.
_MAX_RATIO = 200
_MIN_BOMB_BYTES = 1 << 28  # bytes
_MIN_FREE_BYTES = 1 << 30
_DISK_CHECK_BYTES = 64 * _BLOCK


class _UnpackLimitError(Exception):
    """What comes out does not end, or does not fit."""


def is_compressed_name(path: str) -> bool:
    return path.lower().endswith(_EXTENSIONS)


def uncompressed_tar(path: str) -> tuple[str, tuple[str, ...]]:
    """(`path`, or the plain tar that it was unpacked to; sentences about that).

    Raises DataError: damaged or cut off, a decompression bomb, no room on the disk, Zstandard before Python 3.14.
    """
    try:
        info = os.stat(path)
        if not stat.S_ISREG(info.st_mode):
            raise DataError(f"{printable(path)} is {describe_non_file(info.st_mode)}", "give an archive, or a folder")
        with open(path, "rb") as f:
            start = f.read(8)
    except OSError as e:
        raise DataError(f"cannot read {printable(path)}: {(e.strerror or str(e)).lower()}") from e
    if not start.startswith((_GZIP, _BZIP2, _XZ, _ZSTD)):
        return path, ()
    file = CacheFile("unpacked", os.path.abspath(path), label=os.path.basename(path), suffix="").path
    target = file.with_name(f"{file.name}-{info.st_size}-{info.st_mtime_ns}.tar")
    message = f"{printable(os.path.basename(path))} is compressed, and read from where it was unpacked: {target}"
    if target.is_file():
        touch(target)
        return str(target), (message,)
    note(f"unpacking {printable(path)} once, to {target} …")
    try:
        for older in target.parent.glob(f"{file.name}-*.tar"):
            older.unlink()
        save_file(target, lambda temporary: _unpack(path, start, info.st_size, temporary))
    except _UnpackLimitError as e:
        raise DataError(f"{printable(path)} is not unpacked: {e}", "unpack it yourself, and give the folder") from e
    except (EOFError, zlib.error, lzma.LZMAError, gzip.BadGzipFile) as e:
        raise DataError(f"{printable(path)} is damaged or cut off: {e}", "copy or download it again") from e
    except OSError as e:
        if e.errno is None:  # bz2 has no error of its own
            raise DataError(f"{printable(path)} is damaged or cut off: {e}", "copy or download it again") from e
        reason = (e.strerror or str(e)).lower()
        raise DataError(
            f"cannot unpack {printable(path)} to {target.parent}: {reason}", "ZOO_CACHE=DIR names another place"
        ) from e
    return str(target), (message,)


def _unpack(path: str, start: bytes, size: int, temporary: Path) -> None:
    limit = max(_MAX_RATIO * size, _MIN_BOMB_BYTES)
    written = next_check = 0
    with _opened(path, start) as source, temporary.open("wb") as target:
        while block := source.read(_BLOCK):
            if not written and not is_tar_header(block[:512]):
                raise DataError(f"{printable(path)} holds no tar file", "unpack it yourself, and look at what it holds")
            if written >= next_check and shutil.disk_usage(temporary.parent).free < _MIN_FREE_BYTES:
                raise _UnpackLimitError(
                    f"less than {_MIN_FREE_BYTES >> 30} GB would be left on the disk of {temporary.parent}"
                )
            next_check = written - written % _DISK_CHECK_BYTES + _DISK_CHECK_BYTES
            written += len(block)
            if written > limit:
                raise _UnpackLimitError(
                    f"more than {_MAX_RATIO} times its size comes out, a possible decompression bomb"
                )
            target.write(block)


def _opened(path: str, start: bytes) -> BinaryIO:
    modules = {_GZIP: "gzip", _BZIP2: "bz2", _XZ: "lzma", _ZSTD: "compression.zstd"}
    name = next(module for magic, module in modules.items() if start.startswith(magic))
    try:
        return cast("BinaryIO", importlib.import_module(name).open(path))
    except ImportError:
        raise DataError(
            f"{printable(path)} is compressed by Zstandard, which Python can read from 3.14 on",
            "unpack it with `unzstd`",
        ) from None
