"""The list of an archive's members, kept in $ZOO_CACHE/archives: a tar has none of its own, only headers throughout.

A list belongs to one state of the archive (path, size, time of change). One that is absent, damaged or of another
version counts as none, and one that cannot be written costs only the time next time.
"""

from __future__ import annotations

import hashlib
import json
import os
import zipfile
from array import array
from pathlib import Path

import numpy as np

from zoo.catalog.user_file import cache_folder
from zoo.data.archive_tar import list_tar
from zoo.data.archive_zip import list_zip
from zoo.data.entries import Entries
from zoo.data.packed import ArchiveFile
from zoo.data.source import BadFile
from zoo.data.strings import StringTable
from zoo.files import replace_file

__all__ = ["index_of"]

# Another version of the rules by which headers become entries.
VERSION = 1
# Bytes. A smaller tar is listed sooner than its list would be written.
_WORTH_KEEPING = 16 << 20
_COLUMNS = {"offsets": "<i8", "lengths": "<i8", "sizes": "<i8", "methods": "u1", "checksums": "<u4"}


def index_of(archive: ArchiveFile) -> Entries:
    """Raises DataError if it is no archive, or damaged; OSError."""
    with open(archive.path, "rb") as f:
        is_zip = f.read(4) in (b"PK\3\4", b"PK\5\6", b"PK\7\x08")
    if is_zip or archive.path.lower().endswith(".zip"):
        return list_zip(archive)  # from its directory, at a place
    if archive.size < _WORTH_KEEPING:
        return list_tar(archive)
    path = _place(archive)
    known = _load(path, archive)
    if known is None:
        known = list_tar(archive)
        _save(path, archive, known)
    return known


def _place(archive: ArchiveFile) -> Path:
    name = hashlib.sha256(os.fsencode(os.path.abspath(archive.path))).hexdigest()[:16]
    return cache_folder() / "archives" / f"{name}.npz"


def _identity(archive: ArchiveFile) -> list[object]:
    return [VERSION, os.path.abspath(archive.path), archive.size, archive.mtime_ns]


def _load(path: Path, archive: ArchiveFile) -> Entries | None:
    try:
        with path.open("rb") as f, np.load(f, allow_pickle=False) as stored:
            meta = json.loads(bytes(stored["meta"]).decode("utf-8", "surrogateescape"))
            if meta["identity"] != _identity(archive):
                return None
            entries = Entries(
                names=StringTable.from_arrays(stored["names"], stored["ends"]),
                bad=[BadFile(*b) for b in meta["bad"]],
                broken=[BadFile(*b) for b in meta["broken"]],
                notes=list(meta["notes"]),
            )
            for name, kind in _COLUMNS.items():
                column: array[int] = getattr(entries, name)
                column.frombytes(stored[name].astype(kind).tobytes())
    except (OSError, ValueError, KeyError, TypeError, AttributeError, EOFError, zipfile.BadZipFile):
        return None
    ends = np.asarray(entries.offsets) + np.asarray(entries.lengths)
    sound = all(len(getattr(entries, name)) == len(entries) for name in _COLUMNS)
    return entries if sound and (not len(entries) or int(ends.max()) <= archive.size) else None


def _save(path: Path, archive: ArchiveFile, entries: Entries) -> None:
    meta = {
        "identity": _identity(archive),
        "bad": [[b.path, b.reason] for b in entries.bad],
        "broken": [[b.path, b.reason] for b in entries.broken],
        "notes": entries.notes,
    }
    names, ends = entries.names.to_arrays()
    columns = {name: np.array(getattr(entries, name)).astype(kind) for name, kind in _COLUMNS.items()}
    text = np.frombuffer(json.dumps(meta, ensure_ascii=True).encode(), np.uint8)

    def write(temporary: Path) -> None:
        with temporary.open("wb") as f:
            np.savez(f, allow_pickle=False, names=names, ends=ends, meta=text, **columns)

    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        replace_file(path, write)
    except OSError:
        return
