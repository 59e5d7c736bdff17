"""A path or a name → training and validation images, checked."""

from __future__ import annotations

import os
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from zoo.data.dataset import BadFile, Data, ImageDataset, Subset
from zoo.data.decode.read import printable
from zoo.data.file_dataset import FileDataset, OpenedDataset, SourceSplits, relabel
from zoo.data.schema.columns import UNNAMED, Columns
from zoo.data.schema.labels import format_list
from zoo.data.sources.digits import Digits
from zoo.data.sources.folder import open_folder_eval, open_folder_train, require_path
from zoo.data.sources.huggingface import find_hub_tables, is_hub_name
from zoo.data.sources.shard_paths import is_webdataset, reject_remote
from zoo.data.sources.table import TableSet
from zoo.data.sources.table_folder import TABLES, find_tables, is_table, open_table
from zoo.data.sources.torchvision import open_torchvision_eval, open_torchvision_train
from zoo.data.sources.torchvision_sets import is_torchvision_name
from zoo.data.sources.webdataset import open_shards_eval, open_shards_train
from zoo.data.split.strategy import SplitStrategy
from zoo.errors import DataError, UsageError
from zoo.tasks import DEFAULT_TASK, TaskName, get_task

__all__ = [
    "Unreadable",
    "open_data",
    "open_eval",
    "open_source_eval",
    "open_source_train",
    "open_tables",
    "reject_columns",
    "resolve_task",
]


def open_tables(source: str) -> TableSet | None:
    """The tables that `source` stands for, None if it is no table. Raises DataError if they cannot be read."""
    if is_hub_name(source):
        return find_hub_tables(source)
    path = os.path.expanduser(source)
    if is_table(path):
        path = require_path(source)
        return TableSet(os.path.splitext(os.path.basename(path))[0], source, {"": open_table(path)})
    return find_tables(path) if os.path.isdir(path) else None


Unreadable = Literal["error", "skip"]

# Pixels a side: four times the digits' own 8, and the size at which the built-in backbone was pretrained.
_DIGITS_SIZE = 32
_NO_FLIPS = "images are not mirrored: a number such as an angle or a position need not survive it"


def open_data(
    source: str,
    *,
    val: str | None = None,
    val_fraction: float = 0.2,
    seed: int = 0,
    folds: int | None = None,
    fold: int | None = None,
    saved_split: str | None = None,
    channels: int = 3,
    unreadable: Unreadable = "error",
    expected_classes: tuple[str, ...] | None = None,
    task: str = "auto",
    columns: Columns = UNNAMED,
) -> Data:
    """Open `source`: "digits", a folder ROOT/train + ROOT/val (validation, test), or ROOT/<class> which is split, a zip
    or tar of such a folder, WebDataset shards (a pattern, a folder of tars, one tar), a table of images and labels
    (CSV, TSV, JSONL, Parquet, a list of files, a folder with one of those for it, "hf:NAME"), or "torchvision:NAME".

    val: a folder of class folders to validate on instead, beside a table another table. val_fraction, seed: of the
    split, where one is made; folds: it is the one numbered `fold`, from 1, of so many that cover all images;
    saved_split: the file or run that it is taken from (`zoo.data.split.file`). channels: 1 or 3, the model's.
    unreadable: "error" refuses a data set with missing or unreadable files and lists them; "skip" leaves them out
    before the split and records them in `Data.problems`; none is ever replaced by another image. Up to 20,000 files are
    decoded in full to find them (`zoo.data.validate`).
    expected_classes: names of classes, labels or targets in a model's order; the data must have the same, and its
    targets follow that order. task: a name of `zoo.tasks`, or "auto": single-label for class folders and digits, by
    the rule of `zoo.data.schema.infer_task` for a table. columns: of a table, where its own names do not say it.

    Raises DataError: no such path, no images, images outside class folders, one class only, a class with one image
    where a split is made, different classes in training and validation, unreadable files, labels that do not serve the
    task; of a table also rows that are wrong, by line. UsageError: columns that do not exist or fit.
    """
    skip = _skip_unreadable(unreadable)
    strategy = SplitStrategy(val_fraction, seed, folds, fold, saved_split)
    if task != "auto":
        get_task(task)
    if source == "digits":
        if val is not None:
            raise UsageError("digits brings its own validation images", "leave --val out, or use --data FOLDER")
        reject_columns(columns, source)
        return _digits(resolve_task(task), strategy, channels, expected_classes)
    parts = open_source_train(source, val, columns=columns, task=task, channels=channels, skip_unreadable=skip)
    if parts is None:
        path = require_path(source)
        reject_columns(columns, source)
        parts = open_folder_train(path, val, task=resolve_task(task), channels=channels, skip_unreadable=skip)
    return _finish(source, parts, expected_classes, strategy)


def open_eval(
    source: str,
    classes: tuple[str, ...],
    *,
    channels: int = 3,
    split: str | None = None,
    val_fraction: float = 0.2,
    seed: int = 0,
    folds: int | None = None,
    fold: int | None = None,
    saved_split: str | None = None,
    unreadable: Unreadable = "error",
    task: str = DEFAULT_TASK.name,
    columns: Columns = UNNAMED,
) -> tuple[ImageDataset, tuple[BadFile, ...]]:
    """Images to evaluate a model with these classes (labels, targets) and task on, and the files left out. Targets
    follow the model's order.

    "digits": the held-out part of the split that `open_data` makes with the same arguments. A folder:
    ROOT/`split` if given, else ROOT/val (validation, test) if there is a ROOT/train or it is the only kind of
    folder, else ROOT/<class> whole. A table: the rows of part `split`, else of its val (or test) part, else all.
    columns: of a table; without meaning for the others, so that what a run recorded may always be given. Classes and
    labels of the model may be missing, targets not. Raises DataError: classes that the model does not know, no such
    folder, split or target, no images, unreadable files under the policy "error", rows that are wrong.
    """
    skip = _skip_unreadable(unreadable)
    chosen = get_task(task).name
    if source == "digits":
        return _digits(chosen, SplitStrategy(val_fraction, seed, folds, fold, saved_split), channels, classes).val, ()
    found = open_source_eval(
        source, classes, split, columns=columns, task=chosen, channels=channels, skip_unreadable=skip
    ) or open_folder_eval(require_path(source), task=chosen, split=split, channels=channels, skip_unreadable=skip)
    where, what = printable(source), get_task(task).outputs
    unknown = [c for c in found.source.classes if c not in set(classes)]
    if unknown:
        raise DataError(
            f"{where} holds {what} that the model does not know: {format_list(unknown)}",
            f"the model knows {format_list(classes)}",
        )
    missing = [c for c in classes if c not in set(found.source.classes)]
    if missing and not get_task(chosen).has_classes:
        raise DataError(
            f"{where} lacks {what} of the model: {format_list(missing)}", "name its columns with --label-column"
        )
    return relabel(found.source, classes), (*found.bad, *found.links)


def _digits(task: TaskName, strategy: SplitStrategy, channels: int, expected: tuple[str, ...] | None) -> Data:
    whole = Digits(channels=channels, task=task)
    classes = _class_order(whole.classes, expected, "digits")
    if classes != whole.classes:
        raise DataError(
            f"digits has its classes in the order {format_list(whole.classes)}, the model in {format_list(classes)}",
            "train the model on digits",
        )
    train, val, rule, notes = strategy.of(whole, task)
    return Data(
        name="digits",
        source="digits",
        train=Subset(whole, train),
        val=Subset(whole, val),
        classes=classes,
        rule=rule,
        problems=(),
        flips_ok=False,
        notes=notes,
        useful_size=_DIGITS_SIZE,
        task=task,
        was_split=True,
    )


def _finish(source: str, parts: SourceSplits, expected: tuple[str, ...] | None, strategy: SplitStrategy) -> Data:
    own = parts.train.classes
    if get_task(parts.task).targets == "multi_hot" and parts.val is not None:
        own = tuple(sorted({*own, *parts.val.classes}))
    classes = _class_order(own, expected, parts.where)
    whole = relabel(parts.train, classes)
    train: ImageDataset = whole
    _require_labels(whole, parts)
    notes = [*parts.notes]
    if parts.val is not None:
        strategy.reject_given_val(parts.where)
        val: ImageDataset = relabel(parts.val, classes)
        rule = parts.rule
    else:
        inner, outer, rule, more_notes = strategy.of(whole, parts.task)
        train, val = Subset(whole, inner), Subset(whole, outer)
        notes += more_notes
    notes += _missing_class_notes(train, val, parts.task)
    keeps_targets = get_task(parts.task).keeps_targets_under_geometry
    if not keeps_targets:
        notes.append(_NO_FLIPS)
    return Data(
        name=parts.name,
        source=source,
        train=train,
        val=val,
        classes=classes,
        rule=rule,
        problems=parts.problems,
        flips_ok=parts.flips_ok and keeps_targets,
        notes=tuple(notes),
        task=parts.task,
        was_split=parts.val is None,
    )


def _require_labels(source: FileDataset, parts: SourceSplits) -> None:
    """Raises DataError if a class has no image left, or a target is the same for all: nothing to learn from."""
    task = get_task(parts.task)
    if task.has_one_class_per_image:
        empty = [source.classes[i] for i in np.flatnonzero(_counts(source) == 0)]
        if empty:
            raise DataError(f"no readable image of class {format_list(empty)}", "replace the files or remove the class")
    elif not task.has_classes:
        for name, column in zip(source.classes, source.targets.T, strict=True):
            if (column == column[0]).all():
                raise DataError(
                    f"the target {name!r} is {column[0]:g} for every image of {parts.where}",
                    "leave it out: there is nothing to learn",
                )


def _missing_class_notes(train: ImageDataset, val: ImageDataset, task: TaskName) -> list[str]:
    """Sentences about the classes or labels that no image of a part shows."""
    if not get_task(task).has_classes:
        return []
    notes = []
    for part, source in (("training", train), ("validation", val)):
        absent = [source.classes[i] for i in np.flatnonzero(_counts(source) == 0)]
        if absent:
            what = get_task(task).outputs
            notes.append(
                f"no {part} image shows {len(absent):,} of the {len(source.classes):,} {what}: {format_list(absent)}"
            )
    return notes


def _counts(source: ImageDataset) -> NDArray[np.int64]:
    """Images of each class or label, (K,)."""
    targets = source.targets
    if targets.ndim == 1:
        return np.bincount(targets, minlength=len(source.classes))
    return np.asarray(np.count_nonzero(targets, axis=0), np.int64)


def _class_order(own: tuple[str, ...], expected: tuple[str, ...] | None, where: str) -> tuple[str, ...]:
    if expected is None:
        return own
    if set(expected) != set(own):
        raise DataError(
            f"{where} holds the classes {format_list(own)}; expected {format_list(expected)}",
            "give the data of the same classes",
        )
    return expected


def _skip_unreadable(unreadable: str) -> bool:
    if unreadable not in ("error", "skip"):
        raise UsageError(f"no policy {unreadable!r} for unreadable files", "known: error, skip")
    return unreadable == "skip"


def open_source_train(
    source: str, val: str | None, *, columns: Columns, task: str, channels: int, skip_unreadable: bool
) -> SourceSplits | None:
    """Training and validation images of tables (`table_sources`), shards and torchvision's data sets; None for others.

    Raises what those raise, and UsageError for what the kind does not have.
    """
    if is_torchvision_name(source):
        if val is not None:
            raise UsageError(f"{source} brings its own validation images, or is split", "leave --val out")
        reject_columns(columns, source)
        return open_torchvision_train(
            source, task=resolve_task(task), channels=channels, skip_unreadable=skip_unreadable
        )
    reject_remote(source)
    if is_webdataset(source):
        if columns.group is not None:
            raise UsageError(f"{printable(source)} has no columns, and so none of groups", "leave --group-column out")
        return open_shards_train(
            source, val, columns=columns, task=task, channels=channels, skip_unreadable=skip_unreadable
        )
    tables = open_tables(source)
    if tables is None:
        return None
    other = None if val is None else open_tables(val)
    if val is not None and other is None:
        raise UsageError(f"{printable(source)} is a table, but --val {printable(val)} is none", "give a table for both")
    return tables.open(other, columns=columns, task=task, channels=channels, skip_unreadable=skip_unreadable)


def open_source_eval(
    source: str,
    classes: tuple[str, ...],
    split: str | None,
    *,
    columns: Columns,
    task: TaskName,
    channels: int,
    skip_unreadable: bool,
) -> OpenedDataset | None:
    """The images to evaluate on, of the same kinds."""
    if is_torchvision_name(source):
        return open_torchvision_eval(source, task=task, split=split, channels=channels, skip_unreadable=skip_unreadable)
    reject_remote(source)
    if is_webdataset(source):
        return open_shards_eval(
            source, columns=columns, task=task, split=split, channels=channels, skip_unreadable=skip_unreadable
        )
    tables = open_tables(source)
    if tables is None:
        return None
    return tables.evaluate(
        classes, split, columns=columns, task=task, channels=channels, skip_unreadable=skip_unreadable
    )


def resolve_task(task: str) -> TaskName:
    """Of data whose labels tell no task by themselves."""
    return DEFAULT_TASK.name if task == "auto" else get_task(task).name


def reject_columns(columns: Columns, source: str) -> None:
    """Raises UsageError if columns are named, of something that has none."""
    if columns != UNNAMED:
        raise UsageError(
            f"columns are those of a table, and {printable(source)} is none",
            f"leave the columns and the label separator out, or give {TABLES}",
        )
