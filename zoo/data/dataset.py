"""What the rest of the house knows of images and labels: `ImageDataset`, and the pair of them in `Data`."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from zoo.arrays import Indices, Pixels
from zoo.data.decode.intensity import IntensityStats
from zoo.data.decode.read import ChooseView
from zoo.data.string_table import StringTable
from zoo.preprocess import IntensityRange
from zoo.tasks import TaskName

__all__ = [
    "SPLIT_NAMES",
    "TRAIN_SPLIT_NAMES",
    "VAL_SPLIT_NAMES",
    "BadFile",
    "Data",
    "DatasetWrapper",
    "ImageDataset",
    "Subset",
    "Targets",
    "flips_safe",
]

Targets = NDArray[np.int64] | NDArray[np.float32]

# What the parts of a data set are called, in any case: folders in it, or values of a table's column.
TRAIN_SPLIT_NAMES = ("train", "training")
VAL_SPLIT_NAMES = ("val", "valid", "validation", "dev", "test", "testing")  # in this order of preference
SPLIT_NAMES = (*TRAIN_SPLIT_NAMES, *VAL_SPLIT_NAMES)


@dataclass(frozen=True)
class BadFile:
    """A file that holds no readable image, and why."""

    path: str
    reason: str

    def __str__(self) -> str:
        return f"{self.path}: {self.reason}"


class ImageDataset(Protocol):
    """Labelled images by number. Pickles into loader workers; reading has no state: any process may read any index."""

    @property
    def name(self) -> str: ...

    @property
    def classes(self) -> tuple[str, ...]: ...

    @property
    def channels(self) -> int: ...

    @property
    def targets(self) -> Targets:
        """(N,) int64, indices into `classes`; for several labels an image, or numbers, (N, K) float32, a column for
        each of `classes` (`zoo.tasks`). N is len(self)."""

    @property
    def in_memory(self) -> bool:
        """True if `read` costs microseconds, so that worker processes would only slow it down."""

    @property
    def shards(self) -> Indices | None:
        """(N,) int64, the shard in which each image lies, where shards are best read one after the other; None if any
        order is as good."""

    @property
    def groups(self) -> Indices | None:
        """(N,) int64, the group of each image, which a split keeps whole; None if each is for itself."""

    @property
    def names(self) -> StringTable:
        """(N,) strings, by which images are known again: different for each, and the same wherever the data lie."""

    @property
    def skip_unreadable(self) -> bool:
        """True if a file that proves unreadable while training is left out of its batch, False if it stops the run."""

    def __len__(self) -> int: ...

    def read(self, index: int, choose_view: ChooseView | None = None) -> Pixels:
        """(H, W, channels) uint8, RGB order: the whole image, or the view that `choose(height, width)` returns,
        which spares the decoder the rest. Raises `UnreadableImage`."""

    def intensity_stats(self, index: int) -> IntensityStats:
        """The levels beyond 8 bits of an image."""

    def with_intensity_range(self, intensity_range: IntensityRange) -> ImageDataset:
        """The same images, their levels beyond 8 bits read by this rule."""

    def read_file_bytes(self, index: int) -> bytes:
        """The image as it is stored: what tells it from all others. Raises UnreadableImage."""

    def where(self, index: int) -> str:
        """The file's path, or "digits[12]"."""

    def fingerprint(self) -> str:
        """16 hex digits that change when the list of images or a label does: names and sizes, not contents."""


@dataclass(frozen=True)
class DatasetWrapper:
    """What stays as it is in `source` when its images are chosen from or read in another way."""

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
    """The images of `source` at `indices`, in that order."""

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

    classes: names of the classes, labels or target columns. rule: one sentence, how training and validation images were
    told apart. problems: the files left out, with reasons (unreadable ones under the policy "skip", and broken links).
    notes: sentences about what was ignored or assumed. flips_ok: whether mirroring an image keeps its label.
    useful_size: pixels a side beyond which enlarging the images gains nothing, where that is known. was_split: whether
    the validation images were split off here rather than given.
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
        """16 hex digits for the run record: the same for the same training and validation images and labels."""
        both = self.train.fingerprint() + self.val.fingerprint()
        return hashlib.sha256(both.encode()).hexdigest()[:16]


def flips_safe(classes: tuple[str, ...]) -> bool:
    """False if mirroring would change what an image shows: single letters or figures as class names ("7", "b"), or
    names that say left or right."""
    words = [set(name.lower().replace("-", " ").replace("_", " ").split()) for name in classes]
    symbols = all(len(name) == 1 and name.isalnum() for name in classes)
    sides = any(w & {"left", "right"} for w in words)
    return not symbols and not sides
