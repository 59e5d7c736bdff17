"""Folders and archives of class folders: ROOT/<class>/…/image.jpg, or ROOT/train/<class> and ROOT/val/<class>."""

from __future__ import annotations

import os
from collections import Counter
from dataclasses import dataclass, replace

import numpy as np

from zoo.data.dataset import TRAIN_SPLIT_NAMES, VAL_SPLIT_NAMES, flips_safe
from zoo.data.decode.errors import is_image_name, printable
from zoo.data.file_dataset import FileDataset, OpenedFiles, relabel
from zoo.data.listing import ClassFolder, Folder, ListedSplit, Listing
from zoo.data.schema.labels import format_list, from_classes
from zoo.data.sources.archive import ArchiveFolder, is_archive_name, open_archive
from zoo.data.sources.registry import describe_sources
from zoo.data.sources.scan import DiskFolder, Scan, Tree, encode_labels, scan_classes
from zoo.data.sources.source import EvalImages, OpenOptions, Source, SourceSplits, describe_given_splits, require_path
from zoo.data.sources.table_folder import is_table_name
from zoo.data.validate import raise_if_any, verify_dataset
from zoo.errors import DataError, did_you_mean, nearest
from zoo.tasks import TaskName, get_task


class FolderSource(Source):
    """A folder of class folders, or of train and val (validation, test) folders with class folders."""

    def matches(self, source: str) -> bool:
        return os.path.isdir(os.path.expanduser(source))

    def open_train(self, source: str, val: str | None, options: OpenOptions) -> SourceSplits:
        task = options.class_task
        tree, layout, val_tree, notes = _open_layout(source, val)
        train = _open_folder(layout.train, options)
        notes += train.notes
        problems = [*train.problems]
        has_classes = get_task(task).has_classes
        if has_classes:
            _require_two_classes(train.source, layout.train)
        held_out, rule = None, ""
        if val_tree is not None:
            found = _open_folder(val_tree, options)
            problems += found.problems
            notes += [f"{os.path.basename(val_tree.path)}: {n}" for n in found.notes]
            if has_classes:
                _require_same_classes(train.source, found.source, layout.train.path, val_tree.path)
            held_out = _for_task(found.source, task)
            train_where, val_where = f"in {printable(layout.train.path)}", f"in {printable(val_tree.path)}"
            rule = describe_given_splits(train.source, train_where, held_out, val_where)
        return SourceSplits(
            name=tree.name,
            where=printable(layout.train.path),
            task=task,
            train=_for_task(train.source, task),
            val=held_out,
            rule=rule,
            problems=tuple(problems),
            notes=tuple(notes),
            flips_ok=flips_safe(train.source.classes),
        )

    def open_eval(self, source: str, split: str | None, classes: tuple[str, ...], options: OpenOptions) -> EvalImages:
        found = _open_folder(_eval_folder(_open_tree(source), split), options)
        return EvalImages(_for_task(found.source, options.class_task), found.problems)

    def list_for_check(self, source: str, val: str | None, options: OpenOptions) -> Listing:
        task = options.class_task
        tree, layout, val_tree, notes = _open_layout(source, val)
        options = replace(options, skip_unreadable=True)
        scanned = [_scan_class_folders(t, options) for t in (layout.train, val_tree) if t is not None]
        if not any(len(s.source) for s in scanned):
            bad = sum(len(s.scan.bad) for s in scanned)
            raise DataError(
                f"no images in class folders of {printable(tree.path)}"
                + (f", and {bad:,} unreadable files" if bad else ""),
                _EXPECTED,
            )
        classes = tuple(sorted({c for s in scanned for c in s.source.classes}))
        splits, lost = [], Counter[tuple[str, str]]()
        for name, s in zip(("training", "validation") if len(scanned) > 1 else ("all",), scanned, strict=True):
            dataset = _for_task(relabel(s.source, classes), task)
            splits.append(ListedSplit(name, dataset, s.details()))
            for folder in s.folders:
                lost[name, folder.label] += folder.unreadable
        return Listing(
            name=tree.name,
            task=task,
            classes=splits[0].source.classes,
            splits=tuple(splits),
            bad=tuple(b for s in scanned for b in s.scan.bad),
            links=tuple(link for s in scanned for link in (*s.scan.links, *s.root.outside()[1])),
            notes=(*notes, *(n for s in scanned for n in s.scan.notes())),
            lost=lost,
        )


class ArchiveSource(FolderSource):
    """A zip or tar of such a folder."""

    def matches(self, source: str) -> bool:
        path = os.path.expanduser(source)
        return is_archive_name(path) and os.path.exists(path) and not os.path.isdir(path)


_EXPECTED = "expected ROOT/<class>/image.jpg or ROOT/train/<class>/image.jpg"


@dataclass(frozen=True)
class _Layout:
    """Where the class folders are. val: None if there is no validation folder. note: folders that are not used."""

    train: Tree
    val: Tree | None
    note: str = ""


def _open_layout(root: str, val: str | None) -> tuple[Tree, _Layout, Tree | None, list[str]]:
    """(the folder, its layout, the folder of the validation images if any, notes)."""
    tree = _open_tree(root)
    layout = _find_layout(tree)
    notes = [*tree.notes(), *([layout.note] if layout.note else [])]
    if val is None:
        return tree, layout, layout.val, notes
    val_tree = _open_tree(val)
    return tree, layout, val_tree, [*notes, *val_tree.notes()]


def _for_task(source: FileDataset, task: TaskName) -> FileDataset:
    numbers = np.asarray(source.targets, np.int64)
    targets, classes = from_classes(numbers, source.classes, task, printable(source.root))
    return replace(source, targets=targets, classes=classes)


def _open_tree(path: str) -> Tree:
    """The folder or archive at `path`; the single top folder of an archive is skipped."""
    expanded = require_path(path)
    if os.path.isdir(expanded):
        return DiskFolder(expanded)
    if is_archive_name(expanded):
        return ArchiveFolder(open_archive(expanded)).strip_root_folder()
    raise DataError(f"{printable(path)} is a file, not a folder of images", f"give {describe_sources()}")


def _find_layout(root: Tree) -> _Layout:
    """Distinguish ROOT/train + ROOT/val from ROOT/<class>. If val and test both exist, val is used."""
    folders = _by_name(root)
    train = next((folders[n] for n in TRAIN_SPLIT_NAMES if n in folders), None)
    if train is None:
        if folders and set(folders) <= set(VAL_SPLIT_NAMES):
            raise DataError(
                f"{printable(root.path)} contains {', '.join(sorted(folders))} but no train folder",
                "rename one to train, or give the folder that contains the class folders",
            )
        return _Layout(root, None)
    val = [n for n in VAL_SPLIT_NAMES if n in folders]
    unused = sorted(set(folders) - {os.path.basename(train.path).lower(), *val[:1]})
    note = f"not used: {', '.join(printable(os.path.basename(folders[n].path)) for n in unused)}" if unused else ""
    return _Layout(train, folders[val[0]] if val else None, note)


def _by_name(root: Tree) -> dict[str, Tree]:
    return {os.path.basename(f.path).lower(): f for f in root.folders()}


def _eval_folder(root: Tree, split: str | None) -> Tree:
    """ROOT/`split`; None: ROOT/val (validation, test) if ROOT/train or only such folders exist, else ROOT."""
    folders = _by_name(root)
    if split is not None:
        if split.lower() not in folders:
            close = nearest(split, folders)
            raise DataError(
                f"{printable(root.path)} has no folder {split!r}",
                f"it has {', '.join(close or sorted(folders)) or 'none'}",
            )
        return folders[split.lower()]
    val = [n for n in VAL_SPLIT_NAMES if n in folders]
    if "train" in folders and not val:
        raise DataError(
            f"{printable(root.path)} contains train but neither val nor test",
            "give the folder that contains the class folders",
        )
    return folders[val[0]] if val and ("train" in folders or set(folders) == set(val)) else root


@dataclass(frozen=True)
class _ScannedFolder:
    """One class folder. names: range of its images in the scan. unreadable: files with the name of an image that are
    not regular files."""

    tree: Tree
    label: str
    names: range
    unreadable: int


@dataclass(frozen=True)
class _ScannedRoot:
    """ROOT/<class>/** before any file is read."""

    root: Tree
    source: FileDataset
    scan: Scan
    folders: tuple[_ScannedFolder, ...]

    def details(self) -> Folder:
        """The structure of the folders, for `zoo check`."""
        classes = []
        for folder in self.folders:
            own = os.path.basename(folder.tree.path)
            names = (self.scan.names[i][len(own) + 1 :] for i in folder.names)
            inner = Counter(n.rpartition(os.sep)[0].partition(os.sep)[0] for n in names)
            images, checkpoints = len(folder.names) + folder.unreadable, folder.tree.has_folder(".ipynb_checkpoints")
            classes.append(ClassFolder(own, images, inner, checkpoints))
        loose = tuple(n for n in self.root.outside()[0] if is_image_name(n))
        return Folder(self.root.path, tuple(classes), loose)


def _scan_class_folders(root: Tree, options: OpenOptions) -> _ScannedRoot:
    """Class names are the folder names (Unicode NFC), sorted by code point as in torchvision. Empty folders are
    ignored."""
    scan, folders, bad = Scan(), list[_ScannedFolder](), 0
    for tree, label, scan, count in scan_classes(root):
        folders.append(_ScannedFolder(tree, label, range(len(scan) - count, len(scan)), len(scan.bad) - bad))
        bad = len(scan.bad)
    classes, targets = encode_labels([f.label for f in folders], [len(f.names) for f in folders])
    source = FileDataset(
        name=root.name,
        root=root.path,
        classes=classes,
        names=scan.names,
        targets=targets,
        sizes=np.array(scan.sizes, np.int64),
        channels=options.channels,
        skip_unreadable=options.skip_unreadable,
        labels_in_names=True,
        packed=root.packed(scan),
    )
    return _ScannedRoot(root, source, scan, tuple(folders))


def _open_folder(root: Tree, options: OpenOptions) -> OpenedFiles:
    """Scan ROOT/<class>/** and verify the files.

    Raises DataError for images directly in `root`, no images at all, and unreadable files that are not to be skipped.
    """
    _reject_loose_images(root)
    scanned = _scan_class_folders(root, options)
    source, scan = scanned.source, scanned.scan
    if not len(scan):
        raise _no_images(root, scan)
    source, damaged = verify_dataset(source)
    bad = sorted([*scan.bad, *damaged], key=str)
    if not options.skip_unreadable:
        raise_if_any(bad)
    notes = scan.notes()
    empty = [os.path.basename(f.tree.path) for f in scanned.folders if not len(f.names) and not f.unreadable]
    if empty:
        notes.append(f"ignored {len(empty):,} folders without images ({', '.join(printable(n) for n in empty[:5])})")
    return OpenedFiles(source, tuple(bad), tuple(scan.links), tuple(notes))


def _reject_loose_images(root: Tree) -> None:
    names, _ = root.outside()
    loose = [n for n in names if is_image_name(n)]
    tables = [os.path.join(root.path, n) for n in names if is_table_name(n)]
    if loose:
        raise DataError(
            f"{len(loose):,} image{'s' if len(loose) > 1 else ''} directly in {printable(root.path)}, for example "
            f"{printable(loose[0])}: the class of an image is the name of its folder",
            f"give the table of their labels, for example {printable(tables[0])}"
            if tables
            else "move each image into a folder named after its class",
        )


def _no_images(root: Tree, scan: Scan) -> DataError:
    extra = []
    if scan.bad:
        extra.append(f"{len(scan.bad)} image names that are not files, for example {printable(str(scan.bad[0]))}")
    if scan.links:
        extra.append(f"{len(scan.links)} broken symbolic links, for example {printable(scan.links[0].path)}")
    extra.extend(scan.notes())
    found = f" ({'; '.join(extra)})" if extra else ""
    return DataError(f"no images in {printable(root.path)}{found}", _EXPECTED)


def _require_two_classes(source: FileDataset, root: Tree) -> None:
    if len(source.classes) > 1:
        return
    only = source.classes[0]
    inside = [f for f in root.folders() if os.path.basename(f.path) == only][:1]
    close = [printable(f.path) for f in inside if len(f.folders()) > 1]
    raise DataError(
        f"only one class in {printable(root.path)}: {printable(only)}",
        did_you_mean(close, "a classifier needs two or more"),
    )


def _require_same_classes(train: FileDataset, val: FileDataset, train_root: str, val_root: str) -> None:
    texts = []
    for own, other, root in ((train, val, train_root), (val, train, val_root)):
        only = [c for c in own.classes if c not in set(other.classes)]
        if only:
            texts.append(f"only in {printable(root)}: {format_list(only)}")
    if texts:
        raise DataError(
            f"training and validation have different classes; {'; '.join(texts)}", "give both the same class folders"
        )
