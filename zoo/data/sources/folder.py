"""Image folders: ROOT/<class>/…/image.jpg as a source, and the layouts ROOT/train, ROOT/val around it."""

from __future__ import annotations

import os
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from zoo.data.dataset import TRAIN_SPLIT_NAMES, VAL_SPLIT_NAMES, BadFile, flips_safe
from zoo.data.decode.read import is_image_name, printable
from zoo.data.file_dataset import FileDataset, OpenedDataset, SourceSplits
from zoo.data.schema.labels import format_list, from_classes
from zoo.data.sources.archive import ArchiveFolder, is_archive_name, open_archive
from zoo.data.sources.scan import DiskFolder, Scan, Tree, encode_labels, scan_classes
from zoo.data.sources.table_folder import TABLES, is_table_name
from zoo.data.validate import raise_if_any, verify_files
from zoo.errors import DataError, nearest
from zoo.tasks import TaskName, get_task

__all__ = ["find_layout", "open_folder_eval", "open_folder_train", "open_tree", "require_path"]


@dataclass(frozen=True)
class Layout:
    """Where the class folders are. `val` is None if they are to be split; `note` says what was left aside."""

    train: Tree
    val: Tree | None
    note: str = ""


def open_folder_train(
    root: str, val: str | None, *, task: TaskName, channels: int, skip_unreadable: bool
) -> SourceSplits:
    """ROOT/train and ROOT/val (validation, test) or `val`, or ROOT/<class> without a validation part. Both may be
    archives.

    Raises DataError: what `open_folder` refuses, one class only, other classes in validation than in training.
    """
    tree = open_tree(root)
    layout = find_layout(tree)
    notes = [*tree.notes(), *([layout.note] if layout.note else [])]
    train = open_folder(layout.train, channels=channels, skip_unreadable=skip_unreadable)
    problems = [*train.bad, *train.links]
    notes += train.notes
    flips_ok = flips_safe(train.source.classes)
    if get_task(task).has_classes:
        _require_two(train.source, layout.train)
    val_tree = layout.val
    if val is not None:
        val_tree = open_tree(val)
        notes += val_tree.notes()
    held_out, rule = None, ""
    if val_tree is not None:
        found = open_folder(val_tree, channels=channels, skip_unreadable=skip_unreadable)
        problems += [*found.bad, *found.links]
        notes += [f"{os.path.basename(val_tree.path)}: {n}" for n in found.notes]
        if get_task(task).has_classes:
            _require_same(train.source, found.source, layout.train.path, val_tree.path)
        held_out = _for_task(found.source, task)
        rule = (
            f"as given: {len(train.source):,} images in {printable(layout.train.path)} for training, "
            f"{len(held_out):,} in {printable(val_tree.path)} for validation"
        )
    return SourceSplits(
        name=tree.name,
        task=task,
        train=_for_task(train.source, task),
        val=held_out,
        rule=rule,
        problems=tuple(problems),
        notes=tuple(notes),
        where=printable(layout.train.path),
        flips_ok=flips_ok,
    )


def open_folder_eval(
    root: str, *, task: TaskName, split: str | None, channels: int, skip_unreadable: bool
) -> OpenedDataset:
    """ROOT/`split`; if that is None ROOT/val (validation, test) if there is a ROOT/train or no other kind of folder,
    else ROOT/<class> whole."""
    found = open_folder(_eval_folder(open_tree(root), split), channels=channels, skip_unreadable=skip_unreadable)
    return replace(found, source=_for_task(found.source, task))


def _for_task(source: FileDataset, task: TaskName) -> FileDataset:
    numbers = np.asarray(source.targets, np.int64)
    targets, classes = from_classes(numbers, source.classes, task, printable(source.root))
    return replace(source, targets=targets, classes=classes)


def require_path(path: str) -> str:
    """`path` with ~ expanded. Raises DataError if it leads nowhere, naming the nearest ones beside it."""
    expanded = os.path.expanduser(path)
    if os.path.exists(expanded):
        return expanded
    if os.path.lexists(expanded):
        raise DataError(f"{printable(path)} is a broken symbolic link", "give the folder that holds the class folders")
    parent = Path(expanded).absolute().parent
    try:
        beside = sorted(e.name for e in os.scandir(parent) if not e.name.startswith("."))
    except OSError:
        raise DataError(f"no such path: {printable(path)}", f"{printable(str(parent))} does not exist either") from None
    close = [printable(str(Path(path).parent / c)) for c in nearest(Path(expanded).name, beside)]
    if os.path.basename(path) == path:
        close = nearest(path, ["digits"]) + close
    hint = f"did you mean {' or '.join(close)}?" if close else ""
    raise DataError(
        f"no such path: {printable(path)}",
        hint or f"give a folder of class folders, a .zip or .tar of it, {TABLES}, hf:NAME, torchvision:NAME or digits",
    )


def open_tree(path: str) -> Tree:
    """The folder at `path`, or the archive as one; of an archive the one folder that all lies in is skipped.

    Raises DataError if there is neither, or the archive cannot be read (`zoo.data.sources.archive`).
    """
    expanded = require_path(path)
    if os.path.isdir(expanded):
        return DiskFolder(expanded)
    if is_archive_name(expanded):
        return ArchiveFolder(open_archive(expanded)).strip_root_folder()
    raise DataError(
        f"{printable(path)} is a file, not a folder of images",
        f"give the folder that holds the class folders, a .zip or .tar of it, or {TABLES}",
    )


def find_layout(root: Tree) -> Layout:
    """Tell ROOT/train + ROOT/val from ROOT/<class>. If val and test both exist, val is used. Raises DataError."""
    folders = _by_name(root)
    train = next((folders[n] for n in TRAIN_SPLIT_NAMES if n in folders), None)
    if train is None:
        if folders and set(folders) <= set(VAL_SPLIT_NAMES):
            raise DataError(
                f"{printable(root.path)} holds {', '.join(sorted(folders))} but no train folder",
                "rename one to train, or name the folder that holds the class folders",
            )
        return Layout(root, None)
    parts = [n for n in VAL_SPLIT_NAMES if n in folders]
    unused = sorted(set(folders) - {os.path.basename(train.path).lower(), *parts[:1]})
    note = f"not used: {', '.join(printable(os.path.basename(folders[n].path)) for n in unused)}" if unused else ""
    return Layout(train, folders[parts[0]] if parts else None, note)


def _by_name(root: Tree) -> dict[str, Tree]:
    return {os.path.basename(f.path).lower(): f for f in root.folders()}


def _eval_folder(root: Tree, split: str | None) -> Tree:
    folders = _by_name(root)
    if split is not None:
        if split.lower() not in folders:
            close = nearest(split, folders)
            raise DataError(
                f"{printable(root.path)} has no folder {split!r}",
                f"it has {', '.join(close or sorted(folders)) or 'none'}",
            )
        return folders[split.lower()]
    parts = [n for n in VAL_SPLIT_NAMES if n in folders]
    if "train" in folders and not parts:
        raise DataError(
            f"{printable(root.path)} holds train but neither val nor test",
            "name the folder that holds the class folders",
        )
    if parts and ("train" in folders or set(folders) == set(parts)):
        return folders[parts[0]]
    return root


def open_folder(root: Tree, *, channels: int, skip_unreadable: bool) -> OpenedDataset:
    """Scan ROOT/<class>/**; class names are the folders' names (Unicode NFC), sorted by code point as torchvision does.

    A folder without any image is no class. Raises DataError if images lie directly in `root`, if there are none at all,
    and if there are unreadable ones, unless those are to be skipped: then they are no part of the source.
    """
    _refuse_loose_images(root)
    scan, labels, counts, empty = Scan(), list[str](), list[int](), list[str]()
    for folder, label, scan, count in scan_classes(root):
        if not count and not any(b.path.startswith(os.path.join(folder.path, "")) for b in scan.bad):
            empty.append(os.path.basename(folder.path))
        labels.append(label)
        counts.append(count)
    if not len(scan):
        raise _no_images(root, scan)
    classes, targets = encode_labels(labels, counts)
    names, sizes, packed = scan.names, np.array(scan.sizes, np.int64), root.packed(scan)
    reasons = verify_files(root.path, names, packed, channels=channels)
    bad = sorted([*scan.bad, *(BadFile(os.path.join(root.path, names[i]), r) for i, r in reasons.items())], key=str)
    if not skip_unreadable:
        raise_if_any(bad)
    notes = scan.notes()
    if empty:
        notes.append(f"ignored {len(empty):,} folders without images ({', '.join(printable(n) for n in empty[:5])})")
    source = FileDataset(
        name=root.name,
        root=root.path,
        classes=classes,
        names=names,
        targets=targets,
        sizes=sizes,
        channels=channels,
        skip_unreadable=skip_unreadable,
        labels_in_names=True,
        packed=packed,
    )
    if reasons:
        source = source.take(np.setdiff1d(np.arange(len(source)), list(reasons)))
    return OpenedDataset(source, tuple(bad), tuple(scan.links), tuple(notes))


def _refuse_loose_images(root: Tree) -> None:
    names, _ = root.outside()
    loose = [n for n in names if is_image_name(n)]
    tables = [os.path.join(root.path, n) for n in names if is_table_name(n)]
    if loose:
        raise DataError(
            f"{len(loose):,} image{'s lie' if len(loose) > 1 else ' lies'} directly in {printable(root.path)}, "
            "for example "
            f"{printable(loose[0])}: the class of an image is the folder it lies in",
            f"give the table of their labels, such as {printable(tables[0])}"
            if tables
            else "move each image into a folder named after its class",
        )


def _no_images(root: Tree, scan: Scan) -> DataError:
    extra = []
    if scan.bad:
        extra.append(f"{len(scan.bad)} with an image's name are no files, such as {printable(str(scan.bad[0]))}")
    if scan.links:
        extra.append(f"{len(scan.links)} symbolic links lead nowhere, such as {printable(scan.links[0].path)}")
    extra.extend(scan.notes())
    found = f" ({'; '.join(extra)})" if extra else ""
    return DataError(
        f"no images in {printable(root.path)}{found}", "expected ROOT/<class>/image.jpg or ROOT/train/<class>/image.jpg"
    )


def _require_two(source: FileDataset, root: Tree) -> None:
    if len(source.classes) > 1:
        return
    only = source.classes[0]
    inside = next((f for f in root.folders() if os.path.basename(f.path) == only), None)
    raise DataError(
        f"one class only in {printable(root.path)}: {printable(only)}",
        f"did you mean {printable(inside.path)}?"
        if inside is not None and len(inside.folders()) > 1
        else "a classifier needs two or more",
    )


def _require_same(train: FileDataset, val: FileDataset, train_root: str, val_root: str) -> None:
    only_train = [c for c in train.classes if c not in set(val.classes)]
    only_val = [c for c in val.classes if c not in set(train.classes)]
    if only_train or only_val:
        parts = []
        if only_train:
            parts.append(f"only in {printable(train_root)}: {format_list(only_train)}")
        if only_val:
            parts.append(f"only in {printable(val_root)}: {format_list(only_val)}")
        raise DataError(
            f"training and validation have different classes; {'; '.join(parts)}", "give both the same class folders"
        )
