"""Tar files: the members, from the headers alone, and compressed tars, which are unpacked once.

Formats: ustar, GNU and pax (POSIX.1-2001, and the manual of GNU tar). Python's tarfile takes five times as long and
seven times the memory (100,000 members: 6.5 s and 56 MB, here 1.4 s and 8 MB), and does not tell a damaged header, a
sparse file or a missing end mark from a normal end.

A compressed tar cannot be read at an offset: it is unpacked once to a plain tar in $ZOO_CACHE/unpacked, never to the
files that it names. The plain tar belongs to one state of the archive (path, size, time of change).
"""

from __future__ import annotations

import gzip
import importlib
import lzma
import os
import posixpath
import shutil
import stat
import zlib
from pathlib import Path
from typing import BinaryIO, cast

from zoo.cache import CacheFile, save_file, touch
from zoo.console import note
from zoo.data.dataset import BadFile
from zoo.data.decode.errors import describe_non_file, is_image_name, printable
from zoo.data.packed_files import TAR_MEMBER, ArchiveFile
from zoo.data.sources.members import ArchiveMembers, normalize_member_name
from zoo.errors import DataError

_BLOCK = 512
_MAX_HEADER_TEXT = 1 << 20  # bytes of a long name or a pax header
_REGULAR = b"0\0" + b"7"
_SPECIAL = {ord("3"): stat.S_IFCHR, ord("4"): stat.S_IFBLK, ord("6"): stat.S_IFIFO}
_PAX, _PAX_ALL = ord("x"), ord("g")
_LONG_NAME, _LONG_LINK = ord("L"), ord("K")
_HARD, _SYMBOLIC, _FOLDER, _SPARSE = ord("1"), ord("2"), ord("5"), ord("S")


def is_tar_header(block: bytes) -> bool:
    """Whether the checksum in the 512 bytes is correct."""
    if len(block) < _BLOCK:
        return False
    try:
        stated = _number(block[148:156])
    except ValueError:
        return False
    rest = block[:148] + block[156:_BLOCK]
    signed = sum(b - 256 if b > 127 else b for b in rest)  # as some old programs write it
    return stated in (sum(rest) + 8 * 32, signed + 8 * 32) and any(block)


def list_tar(archive: ArchiveFile, limit: int | None = None) -> ArchiveMembers:
    """All members, or the first `limit`.

    Raises DataError if the file is not a tar or a header is damaged; OSError. A truncated last member is bad; a missing
    end mark is a note.
    """
    entries = ArchiveMembers()
    with open(archive.path, "rb", buffering=0) as f:
        _Reader(f, archive, entries).run(limit)
    entries.resolve_links()
    return entries


class _Reader:
    def __init__(self, f: BinaryIO, archive: ArchiveFile, entries: ArchiveMembers) -> None:
        self._f, self._archive, self._entries = f, archive, entries
        self._where = printable(archive.path)
        self._member_fields: dict[str, str] = {}  # from the headers before a member
        self._global_fields: dict[str, str] = {}
        self._buffer, self._buffer_at = b"", 0

    def run(self, limit: int | None) -> None:
        at, size = 0, self._archive.size
        if not is_tar_header(self._read(0, _BLOCK)):
            if size and not self._read(0, _BLOCK).strip(b"\0"):
                return  # an empty tar
            raise DataError(f"{self._where} is not a tar file", "inspect it with `file`; it may be a saved HTML page")
        while at < size:
            header = self._read(at, _BLOCK)
            if len(header) < _BLOCK:
                self._entries.notes.append(f"{self._where} ends within a header: it is truncated")
                return
            if header[0] == 0 and not any(header):
                return
            # The magic letters are sufficient, and a hundred times faster than the checksum.
            if header[257:262] != b"ustar" and not is_tar_header(header):
                raise DataError(f"{self._where} is damaged at byte {at:,}: no member header", "download it again")
            at = self._member(header, at + _BLOCK)
            if limit is not None and len(self._entries) >= limit:
                return
        self._entries.notes.append(f"{self._where} has no end mark: it may be truncated")

    def _read(self, at: int, length: int) -> bytes:
        """`length` bytes at `at`. If the last read was near, 64 KB are read: they cover several small members."""
        start = at - self._buffer_at
        if not 0 <= start <= len(self._buffer) - length:
            self._f.seek(at)
            near = 0 <= at - self._buffer_at - len(self._buffer) < 1 << 15
            self._buffer, self._buffer_at = self._f.read(max(length, 1 << 16 if near else length)), at
            start = 0
        return self._buffer[start : start + length]

    def _member(self, header: bytes, at: int) -> int:
        """Add the member whose data begin at `at`; returns the offset of the next header."""
        kind = header[156]
        try:
            size = _number(header[124:136])
        except ValueError:
            size = -1
        if size < 0:
            raise DataError(f"{self._where} is damaged at byte {at - _BLOCK:,}: a member without a size", "")
        if kind in (_PAX, _PAX_ALL, _LONG_NAME, _LONG_LINK):
            self._read_extension(kind, at, size)
            return at + _padded(size)
        pax_fields = self._global_fields | self._member_fields
        self._member_fields = {}
        if pax_fields.get("size", "").isdecimal():
            size = int(pax_fields["size"])
        raw_name = pax_fields.get("path") or _text(header[:100])
        if header[257:263] == b"ustar\0" and header[345] and "path" not in pax_fields:
            raw_name = f"{_text(header[345:500])}/{raw_name}"
        if kind == _SPARSE:
            extended = header[482]
            while extended:
                more = self._read(at, _BLOCK)
                extended = more[504] if len(more) == _BLOCK else 0
                at += _BLOCK
        has_data = kind not in _SPECIAL and kind not in (_HARD, _SYMBOLIC, _FOLDER)
        if kind == _FOLDER or raw_name.endswith("/") or (not is_image_name(raw_name) and kind in _SPECIAL):
            return at + (_padded(size) if has_data else 0)
        name = normalize_member_name(raw_name)
        if name is None:
            self._entries.bad.append(BadFile(raw_name, "its name points outside the archive"))
        elif kind in (_HARD, _SYMBOLIC):
            self._link(name, pax_fields.get("linkpath") or _text(header[157:257]), hard=kind == _HARD)
        elif kind in _SPECIAL:
            self._entries.add_non_file(name, _SPECIAL[kind])
        elif kind == _SPARSE or any(k.startswith("GNU.sparse.") for k in pax_fields):
            self._entries.bad.append(BadFile(pax_fields.get("GNU.sparse.name", name), "a sparse file"))
        elif kind not in _REGULAR:
            pass  # such as a volume label
        elif at + size > self._archive.size:
            self._entries.bad.append(BadFile(name, "truncated: the archive ends within it"))
        else:
            self._entries.add(name, at, size, size, TAR_MEMBER)
        return at + (_padded(size) if has_data else 0)

    def _link(self, name: str, target: str, *, hard: bool) -> None:
        """The target of a hard link is relative to the archive, the target of a symbolic link to its folder."""
        folder = "" if hard else posixpath.dirname(name)
        inside = normalize_member_name(target if hard else posixpath.normpath(posixpath.join(folder, target)))
        if inside is not None and not inside.startswith("../"):
            self._entries.links.append((name, inside))
        elif is_image_name(name):
            self._entries.broken.append(BadFile(name, f"link to {target}, outside the archive"))

    def _read_extension(self, kind: int, at: int, size: int) -> None:
        """Read a header that describes the next member, or all members."""
        if size > _MAX_HEADER_TEXT:
            raise DataError(f"{self._where} is damaged at byte {at:,}: a name of {size:,} bytes", "download it again")
        data = self._read(at, size)
        if kind in (_LONG_NAME, _LONG_LINK):
            self._member_fields["path" if kind == _LONG_NAME else "linkpath"] = _text(data)
            return
        (self._member_fields if kind == _PAX else self._global_fields).update(_pax(data))


def _pax(data: bytes) -> dict[str, str]:
    """The records "length key=value\\n", up to the first damaged one."""
    found, at = {}, 0
    while at < len(data):
        length, _, _ = data[at : at + 20].partition(b" ")
        if not length.isdigit() or not 0 < int(length) <= len(data) - at:
            break
        key, equals, value = data[at + len(length) + 1 : at + int(length) - 1].partition(b"=")
        if equals:
            found[os.fsdecode(key)] = os.fsdecode(value)
        at += int(length)
    return found


def _padded(size: int) -> int:
    return -(-size // _BLOCK) * _BLOCK


def _text(field: bytes) -> str:
    return os.fsdecode(field.partition(b"\0")[0])


def _number(field: bytes) -> int:
    """Octal digits, or base 256 where the first bit is set. Raises ValueError."""
    if field[0] in (0x80, 0xFF):
        value = int.from_bytes(field[1:], "big")
        return value if field[0] == 0x80 else value - (1 << 8 * (len(field) - 1))
    digits = field.partition(b"\0")[0].strip()
    return int(digits, 8) if digits else 0


_EXTENSIONS = (".tar.gz", ".tgz", ".tar.bz2", ".tbz2", ".tar.xz", ".txz", ".tar.zst", ".tzst")
_GZIP, _BZIP2, _XZ, _ZSTD = b"\x1f\x8b", b"BZh", b"\xfd7zXZ\0", b"\x28\xb5\x2f\xfd"
_CHUNK = 1 << 20
# Above this it is a decompression bomb: images hardly shrink, uncompressed drawings a hundredfold.
_MAX_RATIO = 200
_MIN_BOMB_BYTES = 1 << 28  # bytes
_MIN_FREE_BYTES = 1 << 30
_DISK_CHECK_BYTES = 64 * _CHUNK


class _UnpackLimitError(Exception):
    """The unpacked tar is too large."""


def is_compressed_name(path: str) -> bool:
    return path.lower().endswith(_EXTENSIONS)


def uncompressed_tar(path: str) -> tuple[str, tuple[str, ...]]:
    """(`path`, or the plain tar that it was unpacked to; notes).

    Raises DataError: damaged or truncated, a decompression bomb, no disk space, Zstandard before Python 3.14.
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
    message = f"{printable(os.path.basename(path))} is compressed; it was unpacked to {target}"
    if target.is_file():
        touch(target)
        return str(target), (message,)
    note(f"unpacking {printable(path)} to {target} …")
    try:
        for older in target.parent.glob(f"{file.name}-*.tar"):
            older.unlink()
        save_file(target, lambda temporary: _unpack(path, start, info.st_size, temporary))
    except _UnpackLimitError as e:
        raise DataError(f"{printable(path)} was not unpacked: {e}", "unpack it yourself and give the folder") from e
    except (EOFError, zlib.error, lzma.LZMAError, gzip.BadGzipFile) as e:
        raise DataError(f"{printable(path)} is damaged or truncated: {e}", "copy or download it again") from e
    except OSError as e:
        if e.errno is None:  # bz2 has no error of its own
            raise DataError(f"{printable(path)} is damaged or truncated: {e}", "copy or download it again") from e
        reason = (e.strerror or str(e)).lower()
        raise DataError(
            f"cannot unpack {printable(path)} to {target.parent}: {reason}", "set ZOO_CACHE=DIR to use another folder"
        ) from e
    return str(target), (message,)


def _unpack(path: str, start: bytes, size: int, temporary: Path) -> None:
    limit = max(_MAX_RATIO * size, _MIN_BOMB_BYTES)
    written = next_check = 0
    with _opened(path, start) as source, temporary.open("wb") as target:
        while block := source.read(_CHUNK):
            if not written and not is_tar_header(block[:512]):
                raise DataError(f"{printable(path)} does not contain a tar", "unpack it yourself and give the folder")
            if written >= next_check and shutil.disk_usage(temporary.parent).free < _MIN_FREE_BYTES:
                raise _UnpackLimitError(
                    f"less than {_MIN_FREE_BYTES >> 30} GB would be free on the disk of {temporary.parent}"
                )
            next_check = written - written % _DISK_CHECK_BYTES + _DISK_CHECK_BYTES
            written += len(block)
            if written > limit:
                raise _UnpackLimitError(
                    f"its contents are more than {_MAX_RATIO} times its size, possibly a decompression bomb"
                )
            target.write(block)


def _opened(path: str, start: bytes) -> BinaryIO:
    modules = {_GZIP: "gzip", _BZIP2: "bz2", _XZ: "lzma", _ZSTD: "compression.zstd"}
    name = next(module for magic, module in modules.items() if start.startswith(magic))
    try:
        return cast("BinaryIO", importlib.import_module(name).open(path))
    except ImportError:
        raise DataError(
            f"{printable(path)} is compressed with Zstandard, which Python reads from version 3.14",
            "unpack it with `unzstd`",
        ) from None
