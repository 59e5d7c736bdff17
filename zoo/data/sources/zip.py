"""The members of a zip, from its central directory alone (PKWARE's APPNOTE 6.3, sections 4.3 and 4.5).

Python's zipfile stores an object of half a kilobyte per member; here it is one row of `ArchiveMembers`.
"""

from __future__ import annotations

import os
import posixpath
import stat
import struct
from collections.abc import Iterator
from typing import BinaryIO

from zoo.data.dataset import BadFile
from zoo.data.decode.errors import is_image_name, printable
from zoo.data.packed_files import MAX_IMAGE_BYTES, ZIP_METHODS, ArchiveFile, BadMember
from zoo.data.sources.members import ArchiveMembers, normalize_member_name
from zoo.errors import DataError

_END = struct.Struct("<4s4H2LH")
_END_64 = struct.Struct("<4sQ2H2L4Q")
_LOCATOR_64 = struct.Struct("<4sLQL")
_MEMBER = struct.Struct("<4s4B4HL2L5H2L")
_COMMENT = 65_535  # maximum bytes after the end record
_BLOCK = 1 << 22
_FULL_16, _FULL_32 = 0xFFFF, 0xFFFFFFFF  # the value is in the zip64 record
_ENCRYPTED, _UTF_8 = 0x1, 0x800
_DOS, _UNIX = 0, 3
_NAMES = {1: "shrink", 6: "implode", 9: "Deflate64", 14: "LZMA", 93: "Zstandard", 95: "XZ", 98: "PPMd", 99: "AES"}
_MAX_LINK_BYTES = 4096


def list_zip(archive: ArchiveFile) -> ArchiveMembers:
    """All members. Raises DataError if the file is not a zip, is truncated, or has a damaged directory; OSError."""
    entries = ArchiveMembers()
    links: list[int] = []
    with open(archive.path, "rb") as f:
        start, length, shift = _directory(f, archive)
        for fields, name_bytes, extra in _members(f, archive, start, length):
            made_on, flags, method = fields[2], fields[5], fields[6]
            checksum, packed, size, offset = fields[9], fields[10], fields[11], fields[18]
            packed, size, offset = _zip64_sizes(extra, packed, size, offset)
            mode = fields[17] >> 16 if made_on == _UNIX else 0
            raw_name = _decode_name(name_bytes, flags)
            if made_on == _DOS and "/" not in raw_name:
                raw_name = raw_name.replace("\\", "/")
            if raw_name.endswith("/") or stat.S_ISDIR(mode):
                continue
            name = normalize_member_name(raw_name)
            if name is None:
                entries.bad.append(BadFile(raw_name, "its name points outside the archive"))
            elif mode and not stat.S_ISREG(mode) and not stat.S_ISLNK(mode) and stat.S_IFMT(mode):
                entries.add_non_file(name, mode)
            elif reason := _unreadable(flags, method, size):
                entries.bad.append(BadFile(name, reason))
            elif offset + shift + packed > start:
                entries.bad.append(BadFile(name, "damaged: its offset is outside the archive"))
            else:
                if stat.S_ISLNK(mode):
                    links.append(len(entries))
                entries.add(name, offset + shift, packed, size, method, checksum)
    return _resolve_symlinks(entries, archive, links) if links else entries


def _unreadable(flags: int, method: int, size: int) -> str:
    if flags & _ENCRYPTED:
        return "encrypted"
    if method not in ZIP_METHODS:
        return f"compressed with {_NAMES.get(method, f'method {method}')}, which zoo cannot read; zip it again"
    if size > MAX_IMAGE_BYTES:
        return f"{size:,} bytes unpacked, more than the maximum of {MAX_IMAGE_BYTES:,} for an image"
    return ""


def _directory(f: BinaryIO, archive: ArchiveFile) -> tuple[int, int, int]:
    """(offset of the central directory, its length, shift of all offsets)."""
    where = printable(archive.path)
    begin = max(0, archive.size - _COMMENT - _END.size)
    f.seek(begin)
    tail = f.read()
    at = tail.rfind(b"PK\5\6")
    while at >= 0 and len(tail) - at < _END.size:
        at = tail.rfind(b"PK\5\6", 0, at)
    if at < 0:
        f.seek(0)
        kind = f.read(4)
        if kind[:2] == b"PK":
            raise DataError(f"{where} is truncated: it has no directory at its end", "copy or download it again")
        raise DataError(f"{where} is not a zip file", "inspect it with `file`; it may be a saved HTML page")
    _, disk, first, _, count, length, offset, _ = _END.unpack_from(tail, at)
    end = begin + at
    if _FULL_16 in (disk, count) or _FULL_32 in (length, offset):
        f.seek(max(0, end - _LOCATOR_64.size))
        locator = f.read(_LOCATOR_64.size)
        if locator[:4] == b"PK\6\7":
            f.seek(_LOCATOR_64.unpack(locator)[2])
            record = f.read(_END_64.size)
            if len(record) < _END_64.size or record[:4] != b"PK\6\6":
                raise DataError(
                    f"{where} is damaged: its zip64 record is not at its stated offset", "download it again"
                )
            _, _, _, _, disk, first, _, _, length, offset = _END_64.unpack(record)
            end -= _LOCATOR_64.size + _END_64.size
    if disk or first:
        raise DataError(f"{where} is one of several volumes", "join them: zip -s 0 PARTS.zip --out ONE.zip")
    shift = end - length - offset  # data before the zip, such as a self-extractor
    if shift < 0 or length > end:
        raise DataError(f"{where} is damaged: its directory is not at its stated offset", "copy or download it again")
    return end - length, length, shift


def _members(
    f: BinaryIO, archive: ArchiveFile, start: int, length: int
) -> Iterator[tuple[tuple[int, ...], bytes, bytes]]:
    """(fields, name, extra field) of each member of the directory, read a block at a time."""
    f.seek(start)
    block, at, left = b"", 0, length
    while left or at < len(block):
        if len(block) - at < _MEMBER.size + 3 * _FULL_16 and left:
            more = f.read(min(_BLOCK, left))
            block, at, left = block[at:] + more, 0, left - len(more) if more else 0
        if len(block) - at < _MEMBER.size:
            break
        fields = _MEMBER.unpack_from(block, at)
        name, extra, comment = fields[12:15]
        stop = at + _MEMBER.size + name + extra + comment
        if fields[0] != b"PK\1\2" or stop > len(block):
            raise DataError(
                f"{printable(archive.path)} is damaged: its directory has invalid entries", "download it again"
            )
        at += _MEMBER.size
        yield fields, block[at : at + name], block[at + name : at + name + extra]
        at = stop


def _zip64_sizes(extra: bytes, packed: int, size: int, offset: int) -> tuple[int, int, int]:
    """(packed, size, offset), each from the zip64 field if present there."""
    if _FULL_32 not in (packed, size, offset):
        return packed, size, offset
    at = 0
    while at + 4 <= len(extra):
        kind, length = struct.unpack_from("<2H", extra, at)
        if kind == 1:
            values = iter(struct.unpack_from(f"<{min(length, len(extra) - at - 4) // 8}Q", extra, at + 4))
            size = next(values, size) if size == _FULL_32 else size
            packed = next(values, packed) if packed == _FULL_32 else packed
            offset = next(values, offset) if offset == _FULL_32 else offset
            break
        at += 4 + length
    return packed, size, offset


def _decode_name(name: bytes, flags: int) -> str:
    """UTF-8 if flagged or valid (macOS does not set the flag), else code page 437."""
    name = name.partition(b"\0")[0]
    if flags & _UTF_8:
        return os.fsdecode(name)
    try:
        return name.decode()
    except UnicodeDecodeError:
        return name.decode("cp437")


def _resolve_symlinks(entries: ArchiveMembers, archive: ArchiveFile, links: list[int]) -> ArchiveMembers:
    """The members with symbolic links, whose contents are paths, replaced by the files that they point to."""
    packed = entries.packed(archive)
    members = ArchiveMembers(bad=entries.bad, broken=entries.broken)
    symbolic = set(links)
    for i, name in enumerate(entries.names):
        if i not in symbolic:
            members.add_row(name, entries, i)
            continue
        try:
            target = os.fsdecode(packed.read_file_bytes(i)) if entries.sizes[i] <= _MAX_LINK_BYTES else ""
        except (BadMember, OSError):
            target = ""
        path = posixpath.normpath(posixpath.join(posixpath.dirname(name), target))
        inside = normalize_member_name(path) if target else None
        if inside is None:
            if is_image_name(name):
                members.broken.append(BadFile(name, "symbolic link to a file outside the archive"))
        else:
            members.links.append((name, inside))
    members.resolve_links()
    return members
