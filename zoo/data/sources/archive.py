"""Zip and tar files as folders: members are read in place, without unpacking.

A compressed tar cannot be read at an offset, so it is unpacked once (`zoo.data.sources.tar`).
"""

from __future__ import annotations

import os
from array import array
from bisect import bisect_left
from contextlib import suppress
from dataclasses import dataclass, field

import numpy as np

from zoo.cache import CacheFile
from zoo.data.dataset import SPLIT_NAMES, BadFile, StringTable
from zoo.data.decode.errors import is_image_name, printable
from zoo.data.packed_files import ArchiveFile, PackedFiles
from zoo.data.sources.members import ArchiveMembers
from zoo.data.sources.scan import Scan, is_ignored, is_image_extension
from zoo.data.sources.tar import is_compressed_name, list_tar, uncompressed_tar
from zoo.data.sources.zip import list_zip
from zoo.errors import DataError

# To be raised when headers are read in another way.
VERSION = 1
# Listing a smaller tar is faster than writing its list to the cache.
_MIN_CACHED_BYTES = 16 << 20
_COLUMNS = {"offsets": "<i8", "lengths": "<i8", "sizes": "<i8", "methods": "u1", "checksums": "<u4"}


def list_members(archive: ArchiveFile) -> ArchiveMembers:
    """The members of a zip or tar. Raises DataError if it is neither, or damaged; OSError."""
    with open(archive.path, "rb") as f:
        is_zip = f.read(4) in (b"PK\3\4", b"PK\5\6", b"PK\7\x08")
    if is_zip or archive.path.lower().endswith(".zip"):
        return list_zip(archive)  # fast: it has a central directory
    if archive.size < _MIN_CACHED_BYTES:
        return list_tar(archive)
    file = _members_file(archive)
    members = _load(file, archive)
    if members is None:
        members = list_tar(archive)
        _save(file, members)
    return members


def _members_file(archive: ArchiveFile) -> CacheFile:
    path, version = os.path.abspath(archive.path), [VERSION, archive.size, archive.mtime_ns]
    return CacheFile("archives", path, version, os.path.basename(path), ".npz")


def _load(file: CacheFile, archive: ArchiveFile) -> ArchiveMembers | None:
    found = file.load_arrays()
    if found is None:
        return None
    arrays, value = found
    members = ArchiveMembers(
        names=StringTable.from_arrays(arrays["names"], arrays["ends"]),
        bad=[BadFile(*b) for b in value["bad"]],
        broken=[BadFile(*b) for b in value["broken"]],
        notes=list(value["notes"]),
    )
    for name, dtype in _COLUMNS.items():
        column: array[int] = getattr(members, name)
        column.frombytes(arrays[name].astype(dtype).tobytes())
    ends = np.asarray(members.offsets) + np.asarray(members.lengths)
    complete = all(len(getattr(members, name)) == len(members) for name in _COLUMNS)
    return members if complete and (not len(members) or int(ends.max()) <= archive.size) else None


def _save(file: CacheFile, members: ArchiveMembers) -> None:
    names, ends = members.names.to_arrays()
    columns = {name: np.array(getattr(members, name)).astype(dtype) for name, dtype in _COLUMNS.items()}
    value = {
        "bad": [[b.path, b.reason] for b in members.bad],
        "broken": [[b.path, b.reason] for b in members.broken],
        "notes": members.notes,
    }
    with suppress(OSError):
        file.save_arrays({"names": names, "ends": ends, **columns}, value)


_EXTENSIONS = (".zip", ".tar")


def is_archive_name(path: str) -> bool:
    return path.lower().endswith(_EXTENSIONS) or is_compressed_name(path)


def stem(path: str) -> str:
    """File name without its extensions: photos for photos.tar.gz."""
    name = os.path.splitext(os.path.basename(path))[0]
    return name[:-4] if name.lower().endswith(".tar") else name


@dataclass(frozen=True)
class Archive:
    """A listed archive."""

    path: str  # path as the user wrote it
    file: ArchiveFile  # file that contains the members; for a compressed tar the unpacked one
    entries: ArchiveMembers
    folders: dict[str, array[int]]  # folder ("" for the top) -> rows in `entries` of the files directly in it
    sorted_folders: list[str]  # keys of `folders`, sorted
    notes: tuple[str, ...] = ()  # what was ignored or assumed
    subfolders: dict[str, list[str]] = field(default_factory=dict)  # folder -> names of the folders directly in it

    def join(self, inside: str) -> str:
        return os.path.join(self.path, inside) if inside else self.path


def open_archive(path: str) -> Archive:
    """List the archive at `path`. Raises DataError: no archive, truncated, damaged, encrypted, no space to unpack."""
    plain, notes = uncompressed_tar(path)
    try:
        file = ArchiveFile.of(plain)
        if not file.size:
            raise DataError(f"{printable(path)} is empty (zero bytes)", "copy or download it again")
        entries = list_members(file)
    except OSError as e:
        raise DataError(f"cannot read {printable(path)}: {(e.strerror or str(e)).lower()}") from e
    if not len(entries) and entries.bad and all(b.reason == "encrypted" for b in entries.bad):
        raise DataError(f"{printable(path)} is encrypted", "unpack it with its password and give the folder")
    folders: dict[str, array[int]] = {}
    last, rows = None, array("q")
    for i, name in enumerate(entries.names):
        folder = name.rpartition("/")[0]
        if folder != last:
            rows = folders.setdefault(folder, array("q"))
            last = folder
        rows.append(i)
    return Archive(path, file, entries, folders, sorted(folders), (*notes, *entries.notes), _subfolders(folders))


def _subfolders(folders: dict[str, array[int]]) -> dict[str, list[str]]:
    """Folder -> names of the folders directly in it, including folders that contain only folders."""
    found: dict[str, set[str]] = {}
    for folder in folders:
        inner = folder
        while inner:
            above, _, name = inner.rpartition("/")
            names = found.setdefault(above, set())
            if name in names:
                break
            names.add(name)
            inner = above
    return {above: sorted(names) for above, names in found.items()}


@dataclass(frozen=True)
class ArchiveFolder:
    """The folder `inside` of an archive ("" for the top), as a `Tree`."""

    archive: Archive
    inside: str = ""

    @property
    def path(self) -> str:
        return self.archive.join(self.inside)

    @property
    def name(self) -> str:
        return stem(self.archive.path)

    def strip_root_folder(self) -> ArchiveFolder:
        """The single top folder, if there is one: an archive is often made from a whole folder."""
        inner = self.folders()
        if len(inner) != 1 or not inner[0].folders() or any(map(is_image_name, self.outside()[0])):
            return self
        return self if os.path.basename(inner[0].path).lower() in SPLIT_NAMES else inner[0]

    def folders(self) -> list[ArchiveFolder]:
        names = self.archive.subfolders.get(self.inside, [])
        return [ArchiveFolder(self.archive, self._join(n)) for n in names if not is_ignored(n)]

    def outside(self) -> tuple[list[str], list[BadFile]]:
        names = {self._relative(self.archive.entries.names[row]) for row in self.archive.folders.get(self.inside, ())}
        links = [b for b in self._within(self.archive.entries.broken) if "/" not in self._relative(b.path)]
        return sorted(n for n in names if not is_ignored(n)), [self._with_full_path(b) for b in links]

    def has_folder(self, name: str) -> bool:
        return name in self.archive.subfolders.get(self.inside, [])

    def scan(self, into: Scan, prefix: str) -> None:
        entries = self.archive.entries
        found: dict[str, int] = {}  # of a repeated name the last member is used, as tar does
        image_folders: set[str] = set()
        for folder in self._folders_below():
            parts = self._relative(folder).split("/") if folder != self.inside else []
            if any(map(is_ignored, parts)):
                continue
            image = next((i for i, part in enumerate(parts) if is_image_name(part)), None)
            if image is not None:
                image_folders.add("/".join(parts[: image + 1]))
                continue
            above = "".join(f"{part}/" for part in parts)
            start = len(folder) + 1 if folder else 0
            for row in self.archive.folders[folder]:
                name = entries.names[row][start:]
                if is_ignored(name):
                    continue
                if is_image_extension(name[name.rfind(".") :]):
                    found[above + name] = row
                else:
                    into.ignore(name)
        names = sorted(found)
        rows = [found[name] for name in names]
        into.members.extend(rows)
        into.sizes.extend(entries.sizes[row] for row in rows)
        before = os.path.join(prefix, "")
        into.names.extend(before + name for name in names)
        into.bad += [
            BadFile(os.path.join(self.path, name), "not a file but a directory") for name in sorted(image_folders)
        ]
        into.bad += [self._with_full_path(b) for b in self._within(entries.bad) if self._is_visible_image(b.path)]
        into.links += [self._with_full_path(b) for b in self._within(entries.broken)]

    def _folders_below(self) -> list[str]:
        """This folder and all folders in it that contain files; in a sorted list they are contiguous."""
        known = self.archive.sorted_folders
        if not self.inside:
            return known
        first, last = bisect_left(known, self.inside + "/"), bisect_left(known, self.inside + chr(ord("/") + 1))
        return [self.inside] * (self.inside in self.archive.folders) + known[first:last]

    def packed(self, scan: Scan) -> PackedFiles | None:
        return self.archive.entries.packed(self.archive.file, scan.members)

    def notes(self) -> tuple[str, ...]:
        """Notes of the archive, including members whose names point outside it."""
        outside = [b for b in self.archive.entries.bad if ".." in b.path.split("/") or b.path.startswith("/")]
        if not outside:
            return self.archive.notes
        count = f"{len(outside):,} {'member' if len(outside) == 1 else 'members'}"
        return (*self.archive.notes, f"ignored {count} with names that point outside the archive: {outside[0].path!r}")

    def _join(self, name: str) -> str:
        return f"{self.inside}/{name}" if self.inside else name

    def _relative(self, name: str) -> str:
        return name[len(self.inside) + 1 if self.inside else 0 :]

    def _within(self, found: list[BadFile]) -> list[BadFile]:
        prefix = self.inside + "/" if self.inside else ""
        return [b for b in found if b.path.startswith(prefix) and not b.path.startswith("/")]

    def _is_visible_image(self, name: str) -> bool:
        """Whether it is an image in a folder that is not ignored."""
        parts = self._relative(name).split("/")
        return is_image_name(name) and not any(map(is_ignored, parts)) and ".." not in parts

    def _with_full_path(self, bad: BadFile) -> BadFile:
        return BadFile(self.archive.join(bad.path), bad.reason)
