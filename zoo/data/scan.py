"""Which image files lie under a folder: deterministic on any file system, and never surprised by what it meets."""

from __future__ import annotations

import os
import stat
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field

from zoo.data.decode import is_image_name, not_a_file, shown
from zoo.data.source import BadFile
from zoo.errors import DataError

__all__ = ["Scan", "folders_in", "is_ignored", "scan_folder"]

_IGNORED = frozenset({"__macosx", "thumbs.db", "desktop.ini", "@eadir", "$recycle.bin", "lost+found"})


def is_ignored(name: str) -> bool:
    """True for what file managers and notebooks leave behind, and for hidden files (which `.ipynb_checkpoints` is)."""
    return name.startswith(".") or name.lower() in _IGNORED


@dataclass
class Scan:
    """`files`: (path below the folder, bytes), sorted by path. `bad`: with an image's name but no regular file.
    `links`: broken or looping symbolic links. `ignored`: endings of the other files, with counts."""

    files: list[tuple[str, int]] = field(default_factory=list)
    bad: list[BadFile] = field(default_factory=list)
    links: list[BadFile] = field(default_factory=list)
    ignored: Counter[str] = field(default_factory=Counter)

    def extend(self, other: Scan, prefix: str) -> None:
        """Take in `other`, a scan of the folder `prefix` below this one's."""
        self.files.extend((os.path.join(prefix, name), size) for name, size in other.files)
        self.bad.extend(other.bad)
        self.links.extend(other.links)
        self.ignored.update(other.ignored)

    def notes(self) -> list[str]:
        if not self.ignored:
            return []
        kinds = ", ".join(f"{ending or 'no ending'} {n:,}" for ending, n in self.ignored.most_common(5))
        n = sum(self.ignored.values())
        return [f"ignored {n:,} {'file that is' if n == 1 else 'files that are'} not images ({kinds})"]


def scan_folder(root: str) -> Scan:
    """Every image at any depth below `root`. Symbolic links are followed, but not back into a folder they lie in."""
    scan = Scan()
    _walk(root, "", (), scan)
    scan.files.sort()
    return scan


def _walk(folder: str, prefix: str, above: tuple[tuple[int, int], ...], scan: Scan) -> None:
    try:
        info = os.stat(folder)
        here = (info.st_dev, info.st_ino)
        if here in above:
            scan.links.append(BadFile(folder, "symbolic link back to a folder that it lies in"))
            return
        entries = sorted(os.scandir(folder), key=lambda e: e.name)
    except OSError as e:
        scan.bad.append(BadFile(folder, (e.strerror or str(e)).lower()))
        return
    for entry in entries:
        if is_ignored(entry.name):
            continue
        try:
            info = entry.stat()
        except OSError as e:
            if entry.is_symlink():
                kind = "broken symbolic link" if isinstance(e, FileNotFoundError) else "looping symbolic link"
                scan.links.append(BadFile(entry.path, kind))
            else:
                scan.bad.append(BadFile(entry.path, (e.strerror or str(e)).lower()))
            continue
        name = os.path.join(prefix, entry.name)
        is_image = is_image_name(entry.name)
        if stat.S_ISDIR(info.st_mode) and not is_image:
            _walk(entry.path, name, (*above, here), scan)
        elif not is_image:
            scan.ignored[os.path.splitext(entry.name)[1].lower()] += 1
        elif stat.S_ISREG(info.st_mode):
            scan.files.append((name, info.st_size))
        else:
            scan.bad.append(BadFile(entry.path, not_a_file(info.st_mode)))


def folders_in(root: str) -> Iterator[os.DirEntry[str]]:
    """The folders directly in `root`, sorted by name, without ignored ones. Raises DataError if it is unreadable."""
    try:
        entries = sorted(os.scandir(root), key=lambda e: e.name)
    except OSError as e:
        raise DataError(f"cannot read the folder {shown(root)}: {(e.strerror or str(e)).lower()}") from e
    for entry in entries:
        try:
            if entry.is_dir() and not is_ignored(entry.name):
                yield entry
        except OSError:  # a looping link; `scan_folder` reports those below the class folders
            continue
