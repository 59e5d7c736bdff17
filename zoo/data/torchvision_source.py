"""torchvision's classification data sets: `torchvision:CIFAR10`, downloaded to $ZOO_CACHE/torchvision/CIFAR10.

Where a data set is made of image files, those are read by our rules. Others are taken as torchvision gives them, which
for arrays is what they hold, and travel as uncompressed files from there on. Classes keep torchvision's order.
"""

from __future__ import annotations

import io
import os
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from zoo.data.file_source import FileSource, Found, Parts
from zoo.data.labels import from_classes
from zoo.data.packed import BadMember
from zoo.data.source import VAL_NAMES, BadFile, flips_safe
from zoo.data.strings import StringTable
from zoo.data.torchvision_load import classes_of, download_folder, files_of, load, size_of, targets_of
from zoo.data.torchvision_sets import TorchvisionSet, find_set
from zoo.data.verify import refuse, verify_files
from zoo.errors import DataError
from zoo.tasks import TaskName

__all__ = ["TorchvisionImages", "torchvision_eval", "torchvision_parts"]

Indices = NDArray[np.int64]


def torchvision_parts(source: str, *, task: TaskName, channels: int, skip_unreadable: bool) -> Parts:
    """The data set's training part, and its validation part, or test part if it has no other.

    Raises UsageError for an unknown name, DataError if it can be neither found nor downloaded.
    """
    name, known, _ = find_set(source)
    reader = _Reader(source, channels, skip_unreadable)
    val_part = _val_part(known)
    train, problems = reader.read(next(iter(known.parts)))
    val: FileSource | None = None
    rule = ""
    if val_part is not None:
        val, more = reader.read(val_part)
        problems += more
        rule = (
            f"as given: {len(train):,} images of {source} for training, {len(val):,} of its part {val_part} for "
            "validation"
        )
    shown_classes = np.unique(np.concatenate([train.targets, *([val.targets] if val is not None else [])]))
    mirrors = known.mirrors and flips_safe(train.classes)
    train = _with_classes(train, np.asarray(shown_classes, np.int64), task)
    unused = [part for part in known.parts if part not in (val_part, next(iter(known.parts)))]
    return Parts(
        name=name,
        task=task,
        train=train,
        val=None if val is None else _with_classes(val, np.asarray(shown_classes, np.int64), task),
        rule=rule,
        problems=problems,
        notes=(f"not used: part {', '.join(unused)} of {source}",) if unused else (),
        where=source,
        mirrors=mirrors,
    )


def torchvision_eval(source: str, *, task: TaskName, split: str | None, channels: int, skip_unreadable: bool) -> Found:
    """The part `split`; if that is None the validation (or test) part, or all if there are no parts."""
    _, known, _ = find_set(source)
    part = _val_part(known) or next(iter(known.parts))
    if split is not None:
        part = split.lower()
        if part not in known.parts:
            has = ", ".join(filter(None, known.parts)) or "no parts"
            raise DataError(f"{source} has no part {split!r}", f"it has {has}")
    found, bad = _Reader(source, channels, skip_unreadable).read(part)
    there = np.asarray(np.unique(found.targets), np.int64)
    return Found(_with_classes(found, there, task), bad, (), ())


def _val_part(known: TorchvisionSet) -> str | None:
    return next((part for part in VAL_NAMES if part in known.parts), None)


def _with_classes(source: FileSource, there: Indices, task: TaskName) -> FileSource:
    """`source` with no other classes than `there`, as targets of `task`."""
    numbers = np.searchsorted(there, np.asarray(source.targets, np.int64))
    classes = tuple(source.classes[i] for i in there.tolist())
    targets, classes = from_classes(numbers, classes, task, source.name)
    return replace(source, targets=targets, classes=classes)


@dataclass(frozen=True)
class TorchvisionImages:
    """The images at `rows` (N,) of a torchvision `dataset`."""

    dataset: Any
    rows: Indices

    def __len__(self) -> int:
        return len(self.rows)

    def take(self, rows: Indices) -> TorchvisionImages:
        return replace(self, rows=self.rows[rows])

    def raw(self, row: int) -> bytes:
        """Raises BadMember."""
        try:
            image = self.dataset[int(self.rows[row])][0]
            if not isinstance(image, Image.Image):
                raise BadMember(f"torchvision gives a {type(image).__name__}, no image")
            return _as_file(image)
        except (OSError, SyntaxError, IndexError, KeyError, RuntimeError) as e:
            raise BadMember(str(e) or type(e).__name__) from e

    def head(self, row: int, most: int) -> bytes:
        return self.raw(row)[:most]

    def changed(self, row: int) -> int:
        return 0  # torchvision refuses files that do not have the checksum it knows


def _as_file(image: Image.Image) -> bytes:
    """As it was, if it is still a file, else uncompressed."""
    path = getattr(image, "filename", "")
    if path:
        with open(path, "rb") as f:
            return f.read()
    file = io.BytesIO()
    if image.mode in ("L", "RGB"):
        image.save(file, "PPM")
    elif image.mode == "CMYK":
        image.save(file, "TIFF")
    else:
        image.save(file, "PNG", compress_level=0)
    return file.getvalue()


@dataclass(frozen=True)
class _Reader:
    source: str
    channels: int
    skip_unreadable: bool

    def read(self, part: str) -> tuple[FileSource, tuple[BadFile, ...]]:
        name, known, extra = find_set(self.source)
        dataset = load(self.source, name, known, {**known.parts[part], **extra})
        files = files_of(dataset)
        root = f"{self.source}/{part}".rstrip("/")
        if files is None:
            names, sizes = StringTable(f"{i}" for i in range(len(dataset))), np.zeros(len(dataset), np.int64)
            stored = TorchvisionImages(dataset, np.arange(len(dataset)))
        else:
            root = str(download_folder(name))
            names = StringTable(os.path.relpath(f, root) for f in files)
            sizes, stored = np.array([size_of(f) for f in files], np.int64), None
        targets = targets_of(dataset)
        found = FileSource(
            name=self.source,
            root=root,
            classes=classes_of(dataset, int(targets.max(initial=0)) + 1),
            names=names,
            targets=targets,
            sizes=sizes,
            channels=self.channels,
            skip_unreadable=self.skip_unreadable,
            labels_in_names=False,
            packed=stored,
        )
        if stored is not None:  # mostly arrays, which no reading can find damaged
            return found, ()
        reasons = verify_files(root, names, stored, channels=self.channels)
        bad = tuple(BadFile(found.where(i), why) for i, why in sorted(reasons.items()))
        if not self.skip_unreadable:
            refuse(bad)
        return found.take(np.setdiff1d(np.arange(len(found)), list(reasons))) if reasons else found, bad
