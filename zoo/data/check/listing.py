"""A path or a name → the images and labels that would be trained and validated on, whatever is wrong with them.

`open_data` refuses what is wrong; a check has to look at it. So class folders are listed here, and unreadable files and
classes that do not fit stay in; other sources are opened as a training opens them, and refused as there.
"""

from __future__ import annotations

import os
import unicodedata
from collections import Counter
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from zoo.data.check.folders import ClassFolder, Folder
from zoo.data.columns import UNNAMED, Columns
from zoo.data.decode import is_image_name, shown
from zoo.data.file_source import FileSource, StringTable, relabel
from zoo.data.folder import find_layout, require_path
from zoo.data.labels import from_classes
from zoo.data.open import open_data
from zoo.data.scan import Scan, folders_in, is_ignored, scan_folder
from zoo.data.source import BadFile, ImageSource, Targets
from zoo.data.table import table_parts
from zoo.data.text_table import is_table_name
from zoo.errors import DataError, UsageError
from zoo.tasks import TaskName, get_task

__all__ = ["Listing", "Part", "open_listing"]


@dataclass(frozen=True)
class Part:
    """name: "all" before a split, "training" or "validation" after. folder: how it looks on the disk, if it is one."""

    name: str
    source: ImageSource
    folder: Folder | None = None


@dataclass(frozen=True)
class Listing:
    """The images of all parts, numbered through. bad: files that hold no image and have no number. links: symbolic
    links that lead nowhere. notes: what was ignored or assumed."""

    name: str
    task: TaskName
    classes: tuple[str, ...]
    parts: tuple[Part, ...]
    bad: tuple[BadFile, ...] = ()
    links: tuple[BadFile, ...] = ()
    notes: tuple[str, ...] = ()
    lost: Counter[tuple[str, str]] = field(default_factory=Counter)  # (part, class) → files among `bad`

    def __len__(self) -> int:
        return sum(len(p.source) for p in self.parts)

    @property
    def is_split(self) -> bool:
        return len(self.parts) > 1

    @property
    def targets(self) -> Targets:
        """As `ImageSource.targets`, of all parts."""
        return np.concatenate([p.source.targets for p in self.parts])

    @property
    def part(self) -> NDArray[np.int64]:
        """(n,) which of `parts` each image is in."""
        return np.repeat(np.arange(len(self.parts)), [len(p.source) for p in self.parts])

    def locate(self, image: int) -> tuple[Part, int]:
        """The part of an image, and its index there."""
        for part in self.parts:
            if image < len(part.source):
                return part, image
            image -= len(part.source)
        raise IndexError(image)

    def where(self, image: int) -> str:
        part, index = self.locate(image)
        return part.source.where(index)

    def label(self, image: int) -> str:
        """The class, the labels or the numbers of an image, as text."""
        part, index = self.locate(image)
        target = part.source.targets[index]
        if self.task == "single-label":
            return self.classes[int(target)]
        if self.task == "multi-label":
            return ", ".join(self.classes[k] for k in np.flatnonzero(target)) or "no label"
        return ", ".join(f"{name} {value:g}" for name, value in zip(self.classes, target, strict=True))


def open_listing(source: str, *, val: str | None = None, task: str = "auto", columns: Columns = UNNAMED) -> Listing:
    """As `zoo.data.open_data` finds training and validation images, but not split by chance: a folder or table without
    a validation part is one part called "all".

    Raises DataError if there is nothing to check: no such path, no image, a table that `open_data` refuses.
    """
    if task != "auto":
        get_task(task)
    if os.path.isfile(os.path.expanduser(source)) and is_table_name(source):
        return _from_table(require_path(source), val, task, columns)
    if not os.path.isdir(os.path.expanduser(source)):
        data = open_data(source, val=val, unreadable="skip", task=task, columns=columns)
        parts = (Part("training", data.train), Part("validation", data.val))
        return Listing(data.name, data.task, data.classes, parts, data.problems, (), data.notes)
    if columns != UNNAMED:
        raise UsageError(
            f"columns are those of a table, and {shown(source)} is a folder", "leave them out, or give a .csv file"
        )
    return _from_folder(require_path(source), val, "single-label" if task == "auto" else get_task(task).name)


def _from_table(path: str, val: str | None, task: str, columns: Columns) -> Listing:
    other = None if val is None else require_path(val)
    if other is not None and not is_table_name(other):
        raise UsageError(f"{shown(path)} is a table, but --val {shown(str(val))} is none", "give a table for both")
    found = table_parts(path, other, columns=columns, task=task, channels=3, skip_unreadable=True)
    if found.val is None:
        return Listing(
            found.name, found.task, found.train.classes, (Part("all", found.train),), found.problems, (), found.notes
        )
    classes = found.train.classes
    if found.task != "regression":
        classes = tuple(sorted({*classes, *found.val.classes}))
    parts = (Part("training", relabel(found.train, classes)), Part("validation", relabel(found.val, classes)))
    return Listing(found.name, found.task, classes, parts, found.problems, (), found.notes)


def _from_folder(root: str, val: str | None, task: TaskName) -> Listing:
    layout = find_layout(root)
    val_root = layout.val if val is None else require_path(val)
    if val_root is not None and not os.path.isdir(val_root):
        raise DataError(f"{shown(val_root)} is no folder", "give the folder that holds the class folders")
    opened = [_open("all" if val_root is None else "training", layout.train)]
    if val_root is not None:
        opened.append(_open("validation", val_root))
    if not any(len(o.source) for o in opened):
        bad = sum(len(o.scan.bad) for o in opened)
        raise DataError(
            f"no images in class folders of {shown(root)}" + (f", and {bad:,} that cannot be read" if bad else ""),
            "expected ROOT/<class>/image.jpg or ROOT/train/<class>/image.jpg",
        )
    classes = tuple(sorted({c for o in opened for c in o.source.classes}))
    parts, lost = [], Counter[tuple[str, str]]()
    for o in opened:
        source = relabel(o.source, classes)
        targets, names = from_classes(np.asarray(source.targets, np.int64), classes, task, shown(source.root))
        parts.append(Part(o.name, replace(source, targets=targets, classes=names), o.folder))
        lost.update({(o.name, name): n for name, n in o.lost.items()})
    return Listing(
        name=os.path.basename(os.path.abspath(root)),
        task=task,
        classes=parts[0].source.classes,
        parts=tuple(parts),
        bad=tuple(b for o in opened for b in o.scan.bad),
        links=tuple(link for o in opened for link in o.scan.links),
        notes=tuple([layout.note] * bool(layout.note) + [n for o in opened for n in o.scan.notes()]),
        lost=lost,
    )


@dataclass(frozen=True)
class _Opened:
    name: str
    source: FileSource
    folder: Folder
    scan: Scan
    lost: Counter[str]


def _open(name: str, root: str) -> _Opened:
    """ROOT/<class>/** without reading a file; the rules are those of `zoo.data.folder`."""
    scan, labels, lost = Scan(), list[str](), Counter[str]()
    folders = []
    for entry in folders_in(root):
        below = scan_folder(entry.path)
        label = unicodedata.normalize("NFC", entry.name)
        folders.append(
            ClassFolder(
                name=entry.name,
                images=len(below.files) + len(below.bad),
                inner=Counter(os.path.dirname(name).partition(os.sep)[0] for name, _ in below.files),
                checkpoints=os.path.isdir(os.path.join(entry.path, ".ipynb_checkpoints")),
            )
        )
        labels += [label] * len(below.files)
        lost[label] += len(below.bad)
        scan.extend(below, entry.name)
    with os.scandir(root) as entries:
        outside = sorted((e.name, e.path, e.is_symlink() and not os.path.exists(e.path)) for e in entries)
    scan.links += [BadFile(path, "symbolic link that leads nowhere") for _, path, broken in outside if broken]
    loose = [n for n, path, broken in outside if is_image_name(n) and not is_ignored(n) and not os.path.isdir(path)]
    classes = tuple(sorted(set(labels)))
    number = {c: i for i, c in enumerate(classes)}
    source = FileSource(
        name=os.path.basename(os.path.abspath(root)),
        root=root,
        classes=classes,
        names=StringTable(n for n, _ in scan.files),
        targets=np.array([number[label] for label in labels], dtype=np.int64),
        sizes=np.array([size for _, size in scan.files], dtype=np.int64),
        channels=3,
        skip_unreadable=True,
        labels_in_names=True,
    )
    return _Opened(name, source, Folder(root, tuple(folders), tuple(loose)), scan, lost)
