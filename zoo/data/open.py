"""A path or a name → training and validation images, checked."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import replace
from typing import Literal

import numpy as np

from zoo.data.decode import shown
from zoo.data.digits import Digits
from zoo.data.folder import FolderSource, OpenFolder, find_layout, open_folder, require_folder
from zoo.data.scan import folders_in
from zoo.data.source import BadFile, Data, ImageSource, Subset, flips_safe
from zoo.data.split import split_rule, stratified_split
from zoo.data.verify import refuse, verify_files
from zoo.errors import DataError, UsageError, nearest

__all__ = ["Unreadable", "open_data", "open_eval"]

Unreadable = Literal["error", "skip"]

# Pixels a side: four times the digits' own 8, and the size at which the built-in backbone was pretrained.
_DIGITS_SIZE = 32


def open_data(
    source: str,
    *,
    val: str | None = None,
    val_fraction: float = 0.2,
    seed: int = 0,
    channels: int = 3,
    unreadable: Unreadable = "error",
    expected_classes: tuple[str, ...] | None = None,
) -> Data:
    """Open `source`: "digits", a folder ROOT/train + ROOT/val (validation, test), or ROOT/<class> which is split.

    val: a folder of class folders to validate on instead. val_fraction, seed: of the split, where one is made.
    channels: 1 or 3, the model's. unreadable: "error" refuses a data set with unreadable files and lists them;
    "skip" leaves them out before the split and records them in `Data.problems`; none is ever replaced by another
    image. Up to 20,000 files are decoded in full to find them (`zoo.data.verify`). expected_classes: class names in
    a model's order; the data must have the same, and its targets follow that order.

    Raises DataError: no such path, no images, images outside class folders, one class only, a class with one image
    where a split is made, different classes in training and validation, unreadable files.
    """
    if source == "digits":
        return _open_digits(val, val_fraction, seed, channels, expected_classes)
    _require_policy(unreadable)
    root = require_folder(source)
    layout = find_layout(root)
    notes = [layout.note] if layout.note else []
    train = _open(layout.train, channels, unreadable)
    val_root = require_folder(val) if val is not None else layout.val
    problems = [*train.bad, *train.links]
    notes += train.notes
    _require_two(train.source, layout.train)
    if val_root is None:
        classes = _ordered(train.source, expected_classes)
        whole = _relabel(train.source, classes)
        _require_images_of_each(whole)
        inner, outer = stratified_split(whole.targets, classes, fraction=val_fraction, seed=seed)
        train_part: ImageSource = Subset(whole, inner)
        val_part: ImageSource = Subset(whole, outer)
        rule = split_rule(val_fraction, seed, len(outer), len(whole))
    else:
        held_out = _open(val_root, channels, unreadable)
        problems += [*held_out.bad, *held_out.links]
        notes += [f"{os.path.basename(val_root)}: {n}" for n in held_out.notes]
        _require_same(train.source, held_out.source, layout.train, val_root)
        classes = _ordered(train.source, expected_classes)
        train_part, val_part = _relabel(train.source, classes), _relabel(held_out.source, classes)
        _require_images_of_each(train_part)
        rule = (
            f"as given: {len(train_part):,} images in {shown(layout.train)} for training, "
            f"{len(val_part):,} in {shown(val_root)} for validation"
        )
    name = os.path.basename(os.path.abspath(root))
    return Data(name, source, train_part, val_part, classes, rule, tuple(problems), flips_safe(classes), tuple(notes))


def open_eval(
    source: str,
    classes: tuple[str, ...],
    *,
    channels: int = 3,
    split: str | None = None,
    val_fraction: float = 0.2,
    seed: int = 0,
    unreadable: Unreadable = "error",
) -> tuple[ImageSource, tuple[BadFile, ...]]:
    """Images to evaluate a model with these class names on, and the files left out. Targets follow the model's order.

    "digits": the held-out part of the split that `open_data` makes with the same `val_fraction` and `seed`. A folder:
    ROOT/`split` if given, else ROOT/val (validation, test) if there is a ROOT/train or it is the only kind of
    folder, else ROOT/<class> whole. Classes of the model may be missing. Raises DataError: classes that the
    model does not know, no such folder or split, no images, unreadable files under the policy "error".
    """
    if source == "digits":
        return _open_digits(None, val_fraction, seed, channels, classes).val, ()
    _require_policy(unreadable)
    folder = _eval_folder(require_folder(source), split)
    found = _open(folder, channels, unreadable)
    unknown = [c for c in found.source.classes if c not in classes]
    if unknown:
        raise DataError(
            f"{shown(folder)} holds classes that the model does not know: {_names(unknown)}",
            f"the model knows {_names(classes)}",
        )
    return _relabel(found.source, classes), (*found.bad, *found.links)


def _eval_folder(root: str, split: str | None) -> str:
    folders = {e.name.lower(): e.path for e in folders_in(root)}
    if split is not None:
        if split.lower() not in folders:
            close = nearest(split, folders)
            raise DataError(
                f"{shown(root)} has no folder {split!r}", f"it has {', '.join(close or sorted(folders)) or 'none'}"
            )
        return folders[split.lower()]
    parts = [n for n in ("val", "valid", "validation", "dev", "test", "testing") if n in folders]
    if "train" in folders and not parts:
        raise DataError(
            f"{shown(root)} holds train but neither val nor test", "name the folder that holds the class folders"
        )
    if parts and ("train" in folders or set(folders) == set(parts)):
        return folders[parts[0]]
    return root


def _open_digits(
    val: str | None, val_fraction: float, seed: int, channels: int, expected: tuple[str, ...] | None
) -> Data:
    if val is not None:
        raise UsageError("digits brings its own validation images", "leave --val out, or use --data FOLDER")
    whole = Digits(channels=channels)
    if expected is not None and set(expected) != set(whole.classes):
        raise _different("digits", whole.classes, expected)
    inner, outer = stratified_split(whole.targets, whole.classes, fraction=val_fraction, seed=seed)
    rule = split_rule(val_fraction, seed, len(outer), len(whole))
    classes = expected or whole.classes
    if classes != whole.classes:
        raise DataError(
            f"digits has its classes in the order {_names(whole.classes)}, the model in {_names(classes)}",
            "train the model on digits",
        )
    return Data(
        "digits",
        "digits",
        Subset(whole, inner),
        Subset(whole, outer),
        classes,
        rule,
        problems=(),
        flips_ok=False,
        useful_size=_DIGITS_SIZE,
    )


def _open(root: str, channels: int, unreadable: Unreadable) -> OpenFolder:
    found = open_folder(root, channels=channels, verify=verify_files, skip_unreadable=unreadable == "skip")
    if unreadable == "error":
        refuse(found.bad)
    return found


def _require_policy(unreadable: str) -> None:
    if unreadable not in ("error", "skip"):
        raise UsageError(f"no policy {unreadable!r} for unreadable files", "known: error, skip")


def _names(classes: Sequence[str]) -> str:
    return ", ".join(shown(c) for c in classes[:10]) + (f" … ({len(classes):,} in all)" if len(classes) > 10 else "")


def _require_two(source: FolderSource, root: str) -> None:
    if len(source.classes) > 1:
        return
    only = source.classes[0]
    inside = os.path.join(root, only)
    folders = list(folders_in(inside)) if os.path.isdir(inside) else []
    raise DataError(
        f"one class only in {shown(root)}: {shown(only)}",
        f"did you mean {shown(inside)}?" if len(folders) > 1 else "a classifier needs two or more",
    )


def _require_images_of_each(source: FolderSource) -> None:
    counts = np.bincount(source.targets, minlength=len(source.classes))
    empty = [name for name, n in zip(source.classes, counts, strict=True) if n == 0]
    if empty:
        raise DataError(f"no readable image of class {_names(empty)}", "replace the files or remove the folder")


def _require_same(train: FolderSource, val: FolderSource, train_root: str, val_root: str) -> None:
    only_train = [c for c in train.classes if c not in set(val.classes)]
    only_val = [c for c in val.classes if c not in set(train.classes)]
    if only_train or only_val:
        parts = []
        if only_train:
            parts.append(f"only in {shown(train_root)}: {_names(only_train)}")
        if only_val:
            parts.append(f"only in {shown(val_root)}: {_names(only_val)}")
        raise DataError(
            f"training and validation have different classes; {'; '.join(parts)}", "give both the same class folders"
        )


def _ordered(source: FolderSource, expected: tuple[str, ...] | None) -> tuple[str, ...]:
    if expected is None:
        return source.classes
    if set(expected) != set(source.classes):
        raise _different(shown(source.root), source.classes, expected)
    return expected


def _different(where: str, found: tuple[str, ...], expected: tuple[str, ...]) -> DataError:
    return DataError(
        f"{where} holds the classes {_names(found)}; expected {_names(expected)}", "use the same class folders"
    )


def _relabel(source: FolderSource, classes: tuple[str, ...]) -> FolderSource:
    """`source` with its targets counted in `classes`, which holds all of its own."""
    if classes == source.classes:
        return source
    number = np.array([classes.index(c) for c in source.classes], dtype=np.int64)
    return replace(source, classes=classes, targets=number[source.targets])
