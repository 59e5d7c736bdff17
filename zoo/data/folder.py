"""Image folders: ROOT/<class>/…/image.jpg as a source, and the layouts ROOT/train, ROOT/val around it."""

from __future__ import annotations

import hashlib
import os
import unicodedata
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from zoo.data.decode import Choose, is_image_name, read_image, require_channels, shown
from zoo.data.scan import Scan, folders_in, is_ignored, scan_folder
from zoo.data.source import BadFile
from zoo.errors import DataError, nearest

__all__ = ["FolderSource", "Layout", "StringTable", "find_layout", "open_folder", "require_folder"]

Pixels = NDArray[np.uint8]
Indices = NDArray[np.int64]

_TRAIN = ("train", "training")
_VAL = ("val", "valid", "validation", "dev", "test", "testing")  # in this order of preference


class StringTable:
    """Many strings as one block of bytes: a million paths take their length plus 8 bytes each, and pickle at once."""

    def __init__(self, strings: Sequence[str]) -> None:
        encoded = [os.fsencode(s) for s in strings]
        self._ends = np.cumsum([len(b) for b in encoded], dtype=np.int64)
        self._bytes = b"".join(encoded)

    def __len__(self) -> int:
        return len(self._ends)

    def __getitem__(self, index: int) -> str:
        start = 0 if index == 0 else int(self._ends[index - 1])
        return os.fsdecode(self._bytes[start : int(self._ends[index])])


@dataclass(frozen=True)
class FolderSource:
    """Images below `root`, one folder a class. `sizes` are the files' bytes; `names` their paths below `root`."""

    name: str
    root: str
    classes: tuple[str, ...]
    names: StringTable
    targets: Indices
    sizes: Indices
    channels: int
    skip_unreadable: bool
    in_memory: bool = False

    def __len__(self) -> int:
        return len(self.targets)

    def read(self, index: int, choose: Choose | None = None) -> Pixels:
        return read_image(self.where(index), self.channels, choose)

    def where(self, index: int) -> str:
        return os.path.join(self.root, self.names[index])

    def fingerprint(self) -> str:
        digest = hashlib.sha256()
        for i in range(len(self)):
            digest.update(os.fsencode(self.names[i]) + b"\0")
        digest.update(self.sizes.astype("<i8").tobytes())
        return digest.hexdigest()[:16]


@dataclass(frozen=True)
class Layout:
    """Where the class folders are. `val` is None if they are to be split; `note` says what was left aside."""

    train: str
    val: str | None
    note: str = ""


def require_folder(path: str) -> str:
    """`path` with ~ expanded. Raises DataError if there is no such folder, naming the nearest ones beside it."""
    expanded = os.path.expanduser(path)
    if os.path.isdir(expanded):
        return expanded
    if os.path.lexists(expanded):
        what = "a broken symbolic link" if not os.path.exists(expanded) else "a file, not a folder of images"
        raise DataError(f"{shown(path)} is {what}", "give the folder that holds the class folders")
    parent = Path(expanded).absolute().parent
    try:
        beside = sorted(e.name for e in os.scandir(parent) if not e.name.startswith("."))
    except OSError:
        raise DataError(f"no such path: {shown(path)}", f"{shown(str(parent))} does not exist either") from None
    close = [shown(str(Path(path).parent / c)) for c in nearest(Path(expanded).name, beside)]
    if os.path.basename(path) == path:
        close = nearest(path, ["digits"]) + close
    hint = f"did you mean {' or '.join(close)}?" if close else ""
    raise DataError(f"no such path: {shown(path)}", hint or "give a folder of class folders, or the name digits")


def find_layout(root: str) -> Layout:
    """Tell ROOT/train + ROOT/val from ROOT/<class>. If val and test both exist, val is used. Raises DataError."""
    folders = {e.name.lower(): e.path for e in folders_in(root)}
    train = next((folders[n] for n in _TRAIN if n in folders), None)
    if train is None:
        if folders and set(folders) <= set(_VAL):
            raise DataError(
                f"{shown(root)} holds {', '.join(sorted(folders))} but no train folder",
                "rename one to train, or name the folder that holds the class folders",
            )
        return Layout(root, None)
    parts = [n for n in _VAL if n in folders]
    unused = sorted(set(folders) - {os.path.basename(train).lower(), *parts[:1]})
    note = f"not used: {', '.join(shown(os.path.basename(folders[n])) for n in unused)}" if unused else ""
    return Layout(train, folders[parts[0]] if parts else None, note)


@dataclass(frozen=True)
class OpenFolder:
    """A scanned folder: its source, what was unreadable or linked to nowhere, and what was ignored."""

    source: FolderSource
    bad: tuple[BadFile, ...]
    links: tuple[BadFile, ...]
    notes: tuple[str, ...]


def open_folder(
    root: str,
    *,
    channels: int,
    verify: Callable[[str, Sequence[str]], dict[int, str]],
    skip_unreadable: bool,
) -> OpenFolder:
    """Scan ROOT/<class>/**; class names are the folders' names (Unicode NFC), sorted by code point as torchvision does.

    `verify(root, names)` gives the reasons of unreadable files by index; those are dropped from the source. A folder
    without any image is no class. Raises DataError if images lie directly in `root`, or if there are none at all.
    """
    require_channels(channels)
    _refuse_loose_images(root)
    scan, labels, empty = Scan(), [], []
    for entry in folders_in(root):
        below = scan_folder(entry.path)
        if not below.files and not below.bad:
            empty.append(entry.name)
        labels.extend([unicodedata.normalize("NFC", entry.name)] * len(below.files))
        scan.extend(below, entry.name)
    if not scan.files:
        raise _no_images(root, scan)
    reasons = verify(root, [name for name, _ in scan.files])
    bad = [*scan.bad, *(BadFile(os.path.join(root, scan.files[i][0]), reason) for i, reason in reasons.items())]
    kept = [i for i in range(len(scan.files)) if i not in reasons]
    classes = tuple(sorted(set(labels)))
    number = {name: i for i, name in enumerate(classes)}
    notes = scan.notes()
    if empty:
        notes.append(f"ignored {len(empty):,} folders without images ({', '.join(shown(n) for n in empty[:5])})")
    source = FolderSource(
        name=os.path.basename(os.path.abspath(root)),
        root=root,
        classes=classes,
        names=StringTable([scan.files[i][0] for i in kept]),
        targets=np.array([number[labels[i]] for i in kept], dtype=np.int64),
        sizes=np.array([scan.files[i][1] for i in kept], dtype=np.int64),
        channels=channels,
        skip_unreadable=skip_unreadable,
    )
    return OpenFolder(source, tuple(sorted(bad, key=str)), tuple(scan.links), tuple(notes))


def _refuse_loose_images(root: str) -> None:
    names = sorted(e.name for e in os.scandir(root) if not e.is_dir())
    loose = [n for n in names if is_image_name(n) and not is_ignored(n)]
    if loose:
        raise DataError(
            f"{len(loose):,} image{'s lie' if len(loose) > 1 else ' lies'} directly in {shown(root)}, for example "
            f"{shown(loose[0])}: the class of an image is the folder it lies in",
            "move each image into a folder named after its class",
        )


def _no_images(root: str, scan: Scan) -> DataError:
    extra = []
    if scan.bad:
        extra.append(f"{len(scan.bad)} with an image's name are no files, such as {shown(str(scan.bad[0]))}")
    if scan.links:
        extra.append(f"{len(scan.links)} symbolic links lead nowhere, such as {shown(scan.links[0].path)}")
    extra.extend(scan.notes())
    found = f" ({'; '.join(extra)})" if extra else ""
    return DataError(
        f"no images in {shown(root)}{found}", "expected ROOT/<class>/image.jpg or ROOT/train/<class>/image.jpg"
    )
