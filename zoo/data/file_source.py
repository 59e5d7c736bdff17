"""Images in files as a source: what folders and tables are both read into."""

from __future__ import annotations

import hashlib
import os
from array import array
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from zoo.data.decode import Choose, read_image
from zoo.data.source import BadFile, Targets
from zoo.tasks import TaskName

__all__ = ["FileSource", "Found", "Parts", "StringTable", "relabel"]

Pixels = NDArray[np.uint8]
Indices = NDArray[np.int64]


class StringTable:
    """Many strings as one block of bytes: a million paths take their length plus 8 bytes each, and pickle at once."""

    def __init__(self, strings: Iterable[str] = ()) -> None:
        self._ends = array("q")
        self._bytes = bytearray()
        self.extend(strings)

    def extend(self, strings: Iterable[str]) -> None:
        for string in strings:
            self._bytes += os.fsencode(string)
            self._ends.append(len(self._bytes))

    def __len__(self) -> int:
        return len(self._ends)

    def __getitem__(self, index: int) -> str:
        start = self._ends[index - 1] if index else 0
        return os.fsdecode(bytes(self._bytes[start : self._ends[index]]))

    def __iter__(self) -> Iterator[str]:
        return (self[i] for i in range(len(self)))


@dataclass(frozen=True)
class FileSource:
    """The images at `names` below `root` (an absolute name stands for itself). `sizes` are the files' bytes.

    labels_in_names: the label of an image is a part of its path, as in class folders. If not, the targets count in the
    fingerprint: a changed label is a changed data set.
    """

    name: str
    root: str
    classes: tuple[str, ...]
    names: StringTable
    targets: Targets
    sizes: Indices
    channels: int
    skip_unreadable: bool
    labels_in_names: bool
    in_memory: bool = False

    def __len__(self) -> int:
        return len(self.targets)

    def read(self, index: int, choose: Choose | None = None) -> Pixels:
        return read_image(self.where(index), self.channels, choose)

    def where(self, index: int) -> str:
        return os.path.join(self.root, self.names[index])

    def fingerprint(self) -> str:
        digest = hashlib.sha256()
        for name in self.names:
            digest.update(os.fsencode(name) + b"\0")
        digest.update(self.sizes.astype("<i8").tobytes())
        if not self.labels_in_names:
            digest.update("\0".join(self.classes).encode())
            digest.update(self.targets.astype("<i8" if self.targets.ndim == 1 else "<f4").tobytes())
        return digest.hexdigest()[:16]


@dataclass(frozen=True)
class Found:
    """A folder or table that has been read: its images, which of them were unreadable, links that lead nowhere, and
    what was ignored or assumed."""

    source: FileSource
    bad: tuple[BadFile, ...]
    links: tuple[BadFile, ...]
    notes: tuple[str, ...]


@dataclass(frozen=True)
class Parts:
    """Training and validation images as a folder or table has them; `val` is None if they are still to be split.

    rule: how the two were told apart, "" without `val`. where: what messages call the source. mirrors: whether the
    labels stay right when an image is mirrored, as far as they are classes or labels.
    """

    name: str
    task: TaskName
    train: FileSource
    val: FileSource | None
    rule: str
    problems: tuple[BadFile, ...]
    notes: tuple[str, ...]
    where: str
    mirrors: bool


def relabel(source: FileSource, classes: tuple[str, ...]) -> FileSource:
    """`source` with its targets counted in `classes`, which holds all of its own. Labels that it lacks are 0."""
    if classes == source.classes:
        return source
    place = {name: i for i, name in enumerate(classes)}
    places = np.array([place[c] for c in source.classes], dtype=np.int64)
    targets: Targets
    if source.targets.ndim == 1:
        targets = places[source.targets]
    else:
        targets = np.zeros((len(source), len(classes)), np.float32)
        targets[:, places] = source.targets
    return replace(source, classes=classes, targets=targets)
