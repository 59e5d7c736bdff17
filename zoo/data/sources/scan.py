"""The images below a folder, in an order that does not depend on the file system.

A `Tree` is a folder on disk or in an archive (`zoo.data.sources.archive`).
"""

from __future__ import annotations

import functools
import os
import re
import stat
import unicodedata
from array import array
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from zoo.data.dataset import SPLIT_NAMES, BadFile, StringTable
from zoo.data.decode.errors import describe_non_file, is_image_name, printable
from zoo.data.packed_files import PackedFiles
from zoo.errors import DataError

_IGNORED = frozenset({"__macosx", "thumbs.db", "desktop.ini", "@eadir", "$recycle.bin", "lost+found"})


def is_ignored(name: str) -> bool:
    """True for hidden files (such as `.ipynb_checkpoints`) and files that file managers create."""
    return name.startswith(".") or name.lower() in _IGNORED


def split_in_path(path: str) -> str:
    """The first word of a path that is the name of a split, or ""."""
    return next((w for w in re.split(r"[^a-z]+", path.lower()) if w in SPLIT_NAMES), "")


@functools.lru_cache(maxsize=4096)
def is_image_extension(extension: str) -> bool:
    """Whether images have this extension. Cached, because a million names have few extensions."""
    return is_image_name(f"x{extension}")


@dataclass
class Scan:
    """The images below a folder."""

    # paths relative to the folder, sorted within each scanned folder
    names: StringTable = field(default_factory=StringTable)
    sizes: array[int] = field(default_factory=lambda: array("q"))
    members: array[int] = field(default_factory=lambda: array("q"))  # rows in the archive; empty on disk
    bad: list[BadFile] = field(default_factory=list)  # entries with the name of an image that are not regular files
    links: list[BadFile] = field(default_factory=list)  # broken or looping symbolic links
    ignored: Counter[str] = field(default_factory=Counter)  # extension -> number of other files

    def __len__(self) -> int:
        return len(self.names)

    def ignore(self, name: str) -> None:
        self.ignored[os.path.splitext(name)[1].lower()] += 1

    def notes(self) -> list[str]:
        if not self.ignored:
            return []
        kinds = ", ".join(f"{extension or 'no extension'} {n:,}" for extension, n in self.ignored.most_common(5))
        n = sum(self.ignored.values())
        return [f"ignored {n:,} {'file that is not an image' if n == 1 else 'files that are not images'} ({kinds})"]


class Tree(Protocol):
    """A folder on disk or in an archive."""

    @property
    def path(self) -> str:
        """Path for messages and for the paths of its images: "photos/train", "photos.zip/train"."""

    @property
    def name(self) -> str:
        """Its name; of an archive without the extension."""

    def folders(self) -> Sequence[Tree]:
        """The folders directly in it, sorted by name, without ignored ones. Raises DataError if it is unreadable."""

    def outside(self) -> tuple[list[str], list[BadFile]]:
        """(names of the files directly in it, sorted, without ignored ones; broken links there)."""

    def has_folder(self, name: str) -> bool: ...

    def scan(self, into: Scan, prefix: str) -> None:
        """Add every image at any depth to `into`, with `prefix` before its relative path."""

    def packed(self, scan: Scan) -> PackedFiles | None:
        """Storage of the images of a scan, if they are not files."""

    def notes(self) -> tuple[str, ...]:
        """What was ignored or assumed."""


@dataclass(frozen=True)
class DiskFolder:
    path: str

    @property
    def name(self) -> str:
        return os.path.basename(os.path.abspath(self.path))

    def folders(self) -> list[DiskFolder]:
        found = []
        for entry in list_entries(self.path):
            try:
                if entry.is_dir() and not is_ignored(entry.name):
                    found.append(DiskFolder(entry.path))
            except OSError:  # a looping link; `scan` reports it below the class folders
                continue
        return found

    def outside(self) -> tuple[list[str], list[BadFile]]:
        names, links = [], []
        for entry in list_entries(self.path):
            if os.path.isdir(entry.path):
                continue
            if not is_ignored(entry.name):
                names.append(entry.name)
            if entry.is_symlink() and not os.path.exists(entry.path):
                links.append(BadFile(entry.path, "broken symbolic link"))
        return names, links

    def has_folder(self, name: str) -> bool:
        return os.path.isdir(os.path.join(self.path, name))

    def scan(self, into: Scan, prefix: str) -> None:
        found: list[tuple[str, int]] = []
        bad, links = len(into.bad), len(into.links)
        _walk(self.path, prefix, (), into, found)
        found.sort()
        into.bad[bad:], into.links[links:] = sorted(into.bad[bad:], key=str), sorted(into.links[links:], key=str)
        into.names.extend(name for name, _ in found)
        into.sizes.extend(size for _, size in found)

    def packed(self, scan: Scan) -> PackedFiles | None:
        return None

    def notes(self) -> tuple[str, ...]:
        return ()


def scan_folder(root: str) -> Scan:
    """Every image at any depth below `root`. Symbolic links are followed, but not to a parent folder."""
    scan = Scan()
    DiskFolder(root).scan(scan, "")
    return scan


def scan_classes(tree: Tree) -> Iterator[tuple[Tree, str, Scan, int]]:
    """(folder, class, scan, number of its images) for each folder in `tree`; all share one growing scan.

    The class is the folder name in Unicode NFC form, which is the same on every system.
    """
    scan = Scan()
    for folder in tree.folders():
        before = len(scan)
        own = os.path.basename(folder.path)
        folder.scan(scan, own)
        yield folder, unicodedata.normalize("NFC", own), scan, len(scan) - before


def encode_labels(labels: Sequence[str], counts: Sequence[int]) -> tuple[tuple[str, ...], NDArray[np.int64]]:
    """(sorted classes that have images, class index of every image (N,)). counts: number of images per folder."""
    classes = tuple(sorted({label for label, n in zip(labels, counts, strict=True) if n}))
    index = {name: i for i, name in enumerate(classes)}
    return classes, np.repeat(np.array([index.get(label, 0) for label in labels], np.int64), counts)


def _walk(
    folder: str, prefix: str, above: tuple[tuple[int, int], ...], scan: Scan, found: list[tuple[str, int]]
) -> None:
    try:
        info = os.stat(folder)
        here = (info.st_dev, info.st_ino)
        if here in above:
            scan.links.append(BadFile(folder, "symbolic link to a parent folder"))
            return
        with os.scandir(folder) as entries:
            folders = _classify_entries(entries, os.path.join(prefix, ""), scan, found)
    except OSError as e:
        scan.bad.append(BadFile(folder, (e.strerror or str(e)).lower()))
        return
    for entry in sorted(folders, key=lambda e: e.name):
        _walk(entry.path, os.path.join(prefix, entry.name), (*above, here), scan, found)


def _classify_entries(
    entries: Iterator[os.DirEntry[str]], prefix: str, scan: Scan, found: list[tuple[str, int]]
) -> list[os.DirEntry[str]]:
    """The folders to scan next; files are added to `scan` or `found`. Fast for a million files: at most one stat per
    image, none for other files."""
    folders = []
    for entry in entries:
        name = entry.name
        if is_ignored(name):
            continue
        is_image = is_image_extension(name[name.rfind(".") :])
        try:
            if not is_image and entry.is_file():  # known from scandir, without a stat
                scan.ignore(name)
                continue
            info = entry.stat()
        except OSError as e:
            if entry.is_symlink():
                kind = "broken symbolic link" if isinstance(e, FileNotFoundError) else "looping symbolic link"
                scan.links.append(BadFile(entry.path, kind))
            else:
                scan.bad.append(BadFile(entry.path, (e.strerror or str(e)).lower()))
            continue
        if is_image and stat.S_ISREG(info.st_mode):
            found.append((prefix + name, info.st_size))
        elif stat.S_ISDIR(info.st_mode) and not is_image:
            folders.append(entry)
        elif is_image:
            scan.bad.append(BadFile(entry.path, describe_non_file(info.st_mode)))
        else:
            scan.ignore(name)
    return folders


def list_entries(path: str) -> list[os.DirEntry[str]]:
    """The entries of a folder, sorted by name. Raises DataError."""
    try:
        with os.scandir(path) as entries:
            return sorted(entries, key=lambda e: e.name)
    except OSError as e:
        raise DataError(f"cannot read the folder {printable(path)}: {(e.strerror or str(e)).lower()}") from e


def file_size(path: str) -> int:
    """Size in bytes; 0 if the file does not exist."""
    try:
        return os.stat(path).st_size
    except OSError:
        return 0
