"""The images and labels that `zoo check` examines, including everything that is wrong with them."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

import numpy as np

from zoo.arrays import Indices
from zoo.data.dataset import BadFile, ImageDataset, Targets
from zoo.tasks import TaskName, get_task


@dataclass(frozen=True)
class ClassFolder:
    """A class folder on disk.

    Args:
        name: name of the folder.
        images: number of files with the name of an image, at any depth.
        inner: subfolder -> number of images; "" for images directly in the folder.
        checkpoints: whether it contains .ipynb_checkpoints.
    """

    name: str
    images: int
    inner: Counter[str] = field(default_factory=Counter)
    checkpoints: bool = False


@dataclass(frozen=True)
class Folder:
    """A folder of class folders. loose: names of images outside the class folders."""

    path: str
    classes: tuple[ClassFolder, ...]
    loose: tuple[str, ...] = ()


@dataclass(frozen=True)
class ListedSplit:
    """The images of one split.

    Args:
        name: "all" if the source has no splits, else "training" or "validation".
        source: the images.
        folder: structure of its folder, if it is a folder of class folders.
    """

    name: str
    source: ImageDataset
    folder: Folder | None = None


@dataclass(frozen=True)
class Listing:
    """The images of all splits, numbered from 0.

    Args:
        name: name of the data set.
        task: task of the targets.
        classes: names of the classes, labels or target columns.
        splits: training images first.
        bad: files with the name of an image that are not readable files; they have no number.
        links: broken symbolic links.
        notes: what was ignored or assumed.
        lost: (split, class) -> number of files in `bad`.
    """

    name: str
    task: TaskName
    classes: tuple[str, ...]
    splits: tuple[ListedSplit, ...]
    bad: tuple[BadFile, ...] = ()
    links: tuple[BadFile, ...] = ()
    notes: tuple[str, ...] = ()
    lost: Counter[tuple[str, str]] = field(default_factory=Counter)

    def __len__(self) -> int:
        return sum(len(s.source) for s in self.splits)

    @property
    def is_split(self) -> bool:
        return len(self.splits) > 1

    @property
    def targets(self) -> Targets:
        """Targets of all splits (`ImageDataset.targets`)."""
        return np.concatenate([s.source.targets for s in self.splits])

    @property
    def split_indices(self) -> Indices:
        """(n,) index into `splits` of each image."""
        return np.repeat(np.arange(len(self.splits)), [len(s.source) for s in self.splits])

    def locate(self, image: int) -> tuple[ListedSplit, int]:
        """The split of an image, and its index there."""
        for split in self.splits:
            if image < len(split.source):
                return split, image
            image -= len(split.source)
        raise IndexError(image)

    def where(self, image: int) -> str:
        split, index = self.locate(image)
        return split.source.where(index)

    def label(self, image: int) -> str:
        """The class, labels or values of an image, as text."""
        split, index = self.locate(image)
        return get_task(self.task).target_text(split.source.targets[index], self.classes)
