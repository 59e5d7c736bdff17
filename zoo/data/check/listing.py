"""A path or a name → the images and labels that would be trained and validated on, whatever is wrong with them.

`open_data` refuses what is wrong; a check has to look at it. So class folders are listed here, and unreadable files and
classes that do not fit stay in; other sources are opened as a training opens them, and refused as there.
"""

from __future__ import annotations

import os
from collections import Counter
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from zoo.data.check.folders import ClassFolder, Folder
from zoo.data.dataset import BadFile, ImageDataset, Targets
from zoo.data.decode.read import is_image_name, printable
from zoo.data.file_dataset import FileDataset, SourceSplits, relabel
from zoo.data.schema.columns import UNNAMED, Columns
from zoo.data.schema.labels import from_classes
from zoo.data.sources.archive import is_archive_name
from zoo.data.sources.folder import find_layout, open_tree, require_path
from zoo.data.sources.registry import open_data, open_source_train, reject_columns, resolve_task
from zoo.data.sources.scan import Scan, Tree, encode_labels, scan_classes
from zoo.errors import DataError
from zoo.tasks import TaskName, get_task

__all__ = ["Listing", "Part", "open_listing"]


@dataclass(frozen=True)
class Part:
    """name: "all" before a split, "training" or "validation" after. folder: how it looks on the disk, if it is one."""

    name: str
    source: ImageDataset
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
        """As `ImageDataset.targets`, of all parts."""
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
        """The class, labels or values of an image, as text."""
        part, index = self.locate(image)
        return get_task(self.task).target_text(part.source.targets[index], self.classes)


def open_listing(source: str, *, val: str | None = None, task: str = "auto", columns: Columns = UNNAMED) -> Listing:
    """As `zoo.data.open_data` finds training and validation images, but not split by chance: a folder or table without
    a validation part is one part called "all".

    Raises DataError if there is nothing to check: no such path, no image, a table that `open_data` refuses.
    """
    if task != "auto":
        get_task(task)
    if source != "digits":
        found = open_source_train(source, val, columns=columns, task=task, channels=3, skip_unreadable=True)
        if found is not None:
            return _from_parts(found)
    if not (os.path.isdir(os.path.expanduser(source)) or is_archive_name(source)):
        data = open_data(source, val=val, unreadable="skip", task=task, columns=columns)
        parts = (Part("training", data.train), Part("validation", data.val))
        return Listing(data.name, data.task, data.classes, parts, data.problems, (), data.notes)
    reject_columns(columns, source)
    return _from_folder(require_path(source), val, resolve_task(task))


def _from_parts(found: SourceSplits) -> Listing:
    if found.val is None:
        return Listing(
            found.name, found.task, found.train.classes, (Part("all", found.train),), found.problems, (), found.notes
        )
    classes = found.train.classes
    if get_task(found.task).has_classes:
        classes = tuple(sorted({*classes, *found.val.classes}))
    parts = (Part("training", relabel(found.train, classes)), Part("validation", relabel(found.val, classes)))
    return Listing(found.name, found.task, classes, parts, found.problems, (), found.notes)


def _from_folder(root: str, val: str | None, task: TaskName) -> Listing:
    tree = open_tree(root)
    layout = find_layout(tree)
    val_tree = layout.val if val is None else open_tree(val)
    opened = [_open("all" if val_tree is None else "training", layout.train)]
    if val_tree is not None:
        opened.append(_open("validation", val_tree))
    if not any(len(o.source) for o in opened):
        bad = sum(len(o.scan.bad) for o in opened)
        raise DataError(
            f"no images in class folders of {printable(root)}" + (f", and {bad:,} that cannot be read" if bad else ""),
            "expected ROOT/<class>/image.jpg or ROOT/train/<class>/image.jpg",
        )
    classes = tuple(sorted({c for o in opened for c in o.source.classes}))
    parts, lost = [], Counter[tuple[str, str]]()
    for o in opened:
        source = relabel(o.source, classes)
        targets, names = from_classes(np.asarray(source.targets, np.int64), classes, task, printable(source.root))
        parts.append(Part(o.name, replace(source, targets=targets, classes=names), o.folder))
        lost.update({(o.name, name): n for name, n in o.lost.items()})
    return Listing(
        name=tree.name,
        task=task,
        classes=parts[0].source.classes,
        parts=tuple(parts),
        bad=tuple(b for o in opened for b in o.scan.bad),
        links=tuple(link for o in opened for link in o.scan.links),
        notes=(*tree.notes(), *[layout.note] * bool(layout.note), *(n for o in opened for n in o.scan.notes())),
        lost=lost,
    )


@dataclass(frozen=True)
class _Opened:
    name: str
    source: FileDataset
    folder: Folder
    scan: Scan
    lost: Counter[str]


def _open(name: str, root: Tree) -> _Opened:
    """ROOT/<class>/** without reading a file; the rules are those of `zoo.data.sources.folder`."""
    scan, labels, counts, lost = Scan(), list[str](), list[int](), Counter[str]()
    folders = []
    for folder, label, scan, count in scan_classes(root):
        own = os.path.basename(folder.path)
        unreadable = len(scan.bad) - sum(lost.values())
        names = (scan.names[i] for i in range(len(scan) - count, len(scan)))
        folders.append(
            ClassFolder(
                name=own,
                images=count + unreadable,
                inner=Counter(n[len(own) + 1 :].rpartition(os.sep)[0].partition(os.sep)[0] for n in names),
                checkpoints=folder.has_folder(".ipynb_checkpoints"),
            )
        )
        labels.append(label)
        counts.append(count)
        lost[label] += unreadable
    outside, links = root.outside()
    scan.links += links
    classes, targets = encode_labels(labels, counts)
    source = FileDataset(
        name=root.name,
        root=root.path,
        classes=classes,
        names=scan.names,
        targets=targets,
        sizes=np.array(scan.sizes, np.int64),
        channels=3,
        skip_unreadable=True,
        labels_in_names=True,
        packed=root.packed(scan),
    )
    loose = tuple(n for n in outside if is_image_name(n))
    return _Opened(name, source, Folder(root.path, tuple(folders), loose), scan, lost)
