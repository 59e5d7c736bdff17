"""The interface of labelled images, `ImageDataset`, and training and validation images together, `Data`."""

from __future__ import annotations

import hashlib
import os
from array import array
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import accumulate, islice
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from zoo.arrays import Indices, Pixels
from zoo.data.decode.intensity import IntensityStats
from zoo.data.decode.multichannel import ChooseView
from zoo.preprocess import IntensityRange
from zoo.tasks import TaskName

_BLOCK = 4096  # strings that a `StringTable` encodes together

Targets = NDArray[np.int64] | NDArray[np.float32]

# Names of splits, case-insensitive: of folders, or in a table's split column.
TRAIN_SPLIT_NAMES = ("train", "training")
VAL_SPLIT_NAMES = ("val", "valid", "validation", "dev", "test", "testing")  # best first
SPLIT_NAMES = (*TRAIN_SPLIT_NAMES, *VAL_SPLIT_NAMES)


def class_counts(targets: Targets, classes: int) -> Indices:
    """(K,) number of images of each class or label."""
    if targets.ndim == 1:
        return np.bincount(targets, minlength=classes)
    return np.asarray(np.count_nonzero(targets, axis=0), np.int64)


@dataclass(frozen=True)
class BadFile:
    """A file that cannot be read as an image, with the reason."""

    path: str
    reason: str

    def __str__(self) -> str:
        return f"{self.path}: {self.reason}"


class StringTable:
    """Many strings as one block of bytes: a million paths take their length plus 8 bytes each, and pickle at once."""

    def __init__(self, strings: Iterable[str] = ()) -> None:
        self._ends = array("q")
        self._bytes = bytearray()
        self.extend(strings)

    def append(self, string: str) -> None:
        self._bytes += os.fsencode(string)
        self._ends.append(len(self._bytes))

    def extend(self, strings: Iterable[str]) -> None:
        iterator = iter(strings)
        while block := list(islice(iterator, _BLOCK)):
            parts: Sequence[str | bytes] = block
            joined = "".join(block)
            if not joined.isascii():
                parts = [os.fsencode(string) for string in block]
            self._ends.extend(islice(accumulate(map(len, parts), initial=len(self._bytes)), 1, None))
            self._bytes += joined.encode() if parts is block else b"".join(map(os.fsencode, parts))

    def take(self, rows: NDArray[np.int64]) -> StringTable:
        """The strings at `rows`, in that order."""
        return StringTable(self[i] for i in rows.tolist())

    def blocks(self, strings: int = 8192) -> Iterator[bytes]:
        """All strings, each followed by a zero byte, so many at a time."""
        for start in range(0, len(self), strings):
            stop = min(start + strings, len(self))
            yield b"".join(os.fsencode(self[i]) + b"\0" for i in range(start, stop))

    def to_arrays(self) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
        """(the bytes, where each string ends in them), to be stored in a file."""
        return np.frombuffer(bytes(self._bytes), np.uint8), np.array(self._ends, np.int64)

    @staticmethod
    def from_arrays(data: NDArray[np.uint8], ends: NDArray[np.int64]) -> StringTable:
        table = StringTable()
        table._bytes = bytearray(data.tobytes())
        table._ends = array("q", ends.astype(np.int64).tobytes())
        return table

    def __len__(self) -> int:
        return len(self._ends)

    def __getitem__(self, index: int) -> str:
        start = self._ends[index - 1] if index else 0
        return os.fsdecode(bytes(self._bytes[start : self._ends[index]]))

    def __iter__(self) -> Iterator[str]:
        return (self[i] for i in range(len(self)))


class ImageDataset(Protocol):
    """Labelled images by index. Picklable; reading has no state, so any process may read any index."""

    @property
    def name(self) -> str: ...

    @property
    def classes(self) -> tuple[str, ...]: ...

    @property
    def channels(self) -> int: ...

    @property
    def targets(self) -> Targets:
        """(N,) int64, indices into `classes`; for multi-label and regression (N, K) float32, one column for each of
        `classes` (`zoo.tasks`). N is len(self)."""

    @property
    def in_memory(self) -> bool:
        """True if `read` takes microseconds, so that loader workers would only slow it down."""

    @property
    def shards(self) -> Indices | None:
        """(N,) int64, the shard of each image, if shards should be read sequentially; None if any order is as good."""

    @property
    def groups(self) -> Indices | None:
        """(N,) int64, the group of each image; a split does not divide groups. None if there are no groups."""

    @property
    def names(self) -> StringTable:
        """(N,) unique names that do not depend on where the data set is stored."""

    @property
    def skip_unreadable(self) -> bool:
        """True: a file that is unreadable in training is dropped from its batch. False: it stops the run."""

    def __len__(self) -> int: ...

    def read(self, index: int, choose_view: ChooseView | None = None) -> Pixels:
        """(H, W, channels) uint8, RGB order: the whole image, or only the view that `choose_view(height, width)`
        returns, which is faster. Raises UnreadableImage."""

    def intensity_stats(self, index: int) -> IntensityStats:
        """The pixel value range of an image of more than 8 bits."""

    def with_intensity_range(self, intensity_range: IntensityRange) -> ImageDataset:
        """The same images; those of more than 8 bits are scaled from this range."""

    def read_file_bytes(self, index: int) -> bytes:
        """The encoded image, as stored. Raises UnreadableImage."""

    def where(self, index: int) -> str:
        """The file's path, or "digits[12]"."""

    def fingerprint(self) -> str:
        """16 hex digits of a hash of names, sizes and labels, not of contents."""


@dataclass(frozen=True)
class DatasetWrapper:
    """Base class of views of `source`, with the properties that they share."""

    source: ImageDataset

    @property
    def name(self) -> str:
        return self.source.name

    @property
    def classes(self) -> tuple[str, ...]:
        return self.source.classes

    @property
    def channels(self) -> int:
        return self.source.channels

    @property
    def in_memory(self) -> bool:
        return self.source.in_memory

    @property
    def skip_unreadable(self) -> bool:
        return self.source.skip_unreadable


@dataclass(frozen=True)
class Subset(DatasetWrapper):
    """The images of `source` at `indices` (N,), in that order."""

    indices: Indices

    @property
    def targets(self) -> Targets:
        return self.source.targets[self.indices]

    @property
    def shards(self) -> Indices | None:
        shards = self.source.shards
        return None if shards is None else shards[self.indices]

    @property
    def groups(self) -> Indices | None:
        groups = self.source.groups
        return None if groups is None else groups[self.indices]

    @property
    def names(self) -> StringTable:
        return self.source.names.take(self.indices)

    def __len__(self) -> int:
        return len(self.indices)

    def read(self, index: int, choose_view: ChooseView | None = None) -> Pixels:
        return self.source.read(int(self.indices[index]), choose_view)

    def intensity_stats(self, index: int) -> IntensityStats:
        return self.source.intensity_stats(int(self.indices[index]))

    def with_intensity_range(self, intensity_range: IntensityRange) -> Subset:
        return replace(self, source=self.source.with_intensity_range(intensity_range))

    def read_file_bytes(self, index: int) -> bytes:
        return self.source.read_file_bytes(int(self.indices[index]))

    def where(self, index: int) -> str:
        return self.source.where(int(self.indices[index]))

    def fingerprint(self) -> str:
        digest = hashlib.sha256(self.source.fingerprint().encode())
        digest.update(np.ascontiguousarray(self.indices, dtype="<i8").tobytes())
        return digest.hexdigest()[:16]


@dataclass(frozen=True)
class Data:
    """A data set ready for training.

    Args:
        name: name of the data set.
        source: the source as the user wrote it.
        train: training images.
        val: validation images.
        classes: names of the classes, labels or target columns.
        rule: a sentence on how the images were split.
        problems: files left out (unreadable ones under the policy "skip", broken links).
        flips_ok: whether a horizontal flip keeps the targets.
        notes: what was ignored or assumed.
        useful_size: input size in pixels above which nothing is gained, if known.
        task: name of the task.
        was_split: whether zoo made the split, instead of the source.
    """

    name: str
    source: str
    train: ImageDataset
    val: ImageDataset
    classes: tuple[str, ...]
    rule: str
    problems: tuple[BadFile, ...]
    flips_ok: bool
    notes: tuple[str, ...] = ()
    useful_size: int | None = None
    task: TaskName = "single-label"
    was_split: bool = False

    def with_intensity_range(self, intensity_range: IntensityRange) -> Data:
        return replace(
            self,
            train=self.train.with_intensity_range(intensity_range),
            val=self.val.with_intensity_range(intensity_range),
        )

    def fingerprint(self) -> str:
        """16 hex digits, equal for equal names, sizes and labels of training and validation images."""
        both = self.train.fingerprint() + self.val.fingerprint()
        return hashlib.sha256(both.encode()).hexdigest()[:16]


def flips_safe(classes: tuple[str, ...]) -> bool:
    """False if a horizontal flip may change the class: class names that are single letters or digits ("7", "b"), or
    contain left or right."""
    words = [set(name.lower().replace("-", " ").replace("_", " ").split()) for name in classes]
    symbols = all(len(name) == 1 and name.isalnum() for name in classes)
    sides = any(w & {"left", "right"} for w in words)
    return not symbols and not sides
