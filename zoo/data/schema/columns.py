"""The roles of a table's columns: image, labels, split, group.

Columns named by the user are used. The others are inferred by `infer_columns`. If that is ambiguous, it is an error:
a wrong guess would silently train on the wrong column.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from zoo.data.dataset import SPLIT_NAMES
from zoo.data.schema.column_stats import ColumnStats
from zoo.data.schema.labels import format_list
from zoo.errors import DataError, UsageError, did_you_mean, nearest
from zoo.tasks import target_kind

_FILE = ("file", "filename", "file_name", "filepath", "file_path", "path")
_IMAGE = ("image", "images", "image_path", "imagepath", "img", "img_path", "image_name", "image_file", *_FILE)
CLASS_NAMES = ("label", "labels", "class", "classes", "class_name", "class_id", "category", "categories")
_LABEL = (*CLASS_NAMES, "target", "targets", "tag", "tags")
_SPLIT = ("split", "subset", "partition", "set")


@dataclass(frozen=True)
class Columns:
    """The columns that the user names.

    Args:
        image: column of image paths or images.
        labels: columns of labels or targets.
        separator: text between several labels in a cell.
        split: column of split names such as train and val.
        group: column of groups; images of one group stay in the same split.
    """

    image: str | None = None
    labels: tuple[str, ...] = ()
    separator: str | None = None
    split: str | None = None
    group: str | None = None


UNNAMED = Columns()


@dataclass(frozen=True)
class ColumnRoles:
    """Indices of the columns. split: None if the table has no splits. group: None if not named by the user."""

    image: int
    labels: tuple[int, ...]
    split: int | None
    group: int | None = None


def infer_columns(
    column_stats: Sequence[ColumnStats],
    columns: Columns,
    *,
    table: str,
    task: str = "auto",
    classes: tuple[str, ...] | None = None,
) -> ColumnRoles:
    """The roles of the columns.

    - image: the column of stored images, if there is one; else the column with a usual name (`image`, `file` …), of
      several the first with image paths; else the first column with image paths only.
    - split: a column named split, subset, partition or set that contains only split names (train, val …).
    - labels: the columns named as the model's classes; else the one with a usual name (`label`, `class`, `target`,
      `tags` …); else the only remaining column; else all remaining columns, if all contain 0 and 1 only, or decimal
      numbers only (any numbers for regression).

    Columns without a name (an index), without values or with objects are never inferred.

    Args:
        column_stats: statistics of the columns.
        columns: columns named by the user.
        table: name of the table in messages.
        task: name of a task, or "auto".
        classes: names of a model's classes, labels or targets.

    Raises:
        DataError: no column fits, or too many.
        UsageError: a named column does not exist.
    """
    if columns.separator == "":
        raise UsageError("the label separator is empty", "use for example --label-separator '|'")
    index = {stats.name: i for i, stats in enumerate(column_stats)}
    named = [n for n in (columns.image, *columns.labels, columns.split, columns.group) if n is not None]
    for name in named:
        if name not in index:
            hint = did_you_mean(map(repr, nearest(name, index, n=1)), f"it has {', '.join(map(repr, index))}")
            raise UsageError(f"{table} has no column {name!r}", hint)
        if named.count(name) > 1:
            raise UsageError(f"column {name!r} of {table} is given two roles", "give each column one role")
        if column_stats[index[name]].nested:
            raise DataError(
                f"column {name!r} of {table} contains objects, not text or numbers",
                "write them as text or numbers",
            )
        if column_stats[index[name]].holds_images and name != columns.image:
            raise DataError(
                f"column {name!r} of {table} contains images", "name it with --image-column, or name another column"
            )
    free = [
        f for f in column_stats if f.name and not f.name.startswith("Unnamed:") and f.has_values and f.name not in named
    ]
    free = [f for f in free if not f.nested]
    image = columns.image or _image(free, table)
    free = [f for f in free if f.name != image and not f.holds_images]
    split = columns.split or _split(free)
    free = [f for f in free if f.name != split]
    labels = columns.labels or _labels(free, table, task, classes)
    return ColumnRoles(
        index[image],
        tuple(index[n] for n in labels),
        None if split is None else index[split],
        None if columns.group is None else index[columns.group],
    )


def _image(free: Sequence[ColumnStats], table: str) -> str:
    by_name = {f.name.lower(): f for f in reversed(free)}
    usual = [by_name[n] for n in _IMAGE if n in by_name]
    holds_images = [f for f in free if f.holds_images]
    found = next((f for f in usual if f.holds_images), None) or (holds_images[0] if len(holds_images) == 1 else None)
    if holds_images and found is None:
        raise DataError(
            f"{len(holds_images)} columns of {table} contain images: {_format_names([f.name for f in holds_images])}",
            "name one with --image-column NAME",
        )
    found = found or next((f for f in usual if f.images), None) or next(iter(usual), None)
    found = found or next((f for f in free if f.images == f.texts > 0 and not f.integers + f.decimals), None)
    if found is None:
        raise DataError(
            f"no column of {table} looks like image paths: {_format_names([f.name for f in free])}",
            "name it with --image-column NAME",
        )
    return found.name


def _split(free: Sequence[ColumnStats]) -> str | None:
    for stats in free:
        known = stats.values is not None and {v.lower() for v in stats.values} <= set(SPLIT_NAMES)
        if stats.name.lower() in _SPLIT and known:
            return stats.name
    return None


def _labels(free: Sequence[ColumnStats], table: str, task: str, classes: tuple[str, ...] | None) -> tuple[str, ...]:
    names = [f.name for f in free]
    kind = target_kind(task)
    if classes and kind != "class_index" and set(classes) <= set(names):
        return classes
    usual = [n for n in names if n.lower() in _LABEL]
    if len(usual) == 1 or len(free) == 1:
        return tuple(usual or names)
    if not free:
        raise DataError(f"{table} has no label column next to the images", "add one, or see --label-column")
    if not usual:
        binary = kind in (None, "multi_hot") and all(f.is_binary for f in free)
        decimals = kind is None and all(f.is_decimal for f in free)
        if binary or decimals or (kind == "values" and all(f.is_numeric for f in free)):
            return tuple(names)
    raise DataError(
        f"{len(usual or free)} columns of {table} may be the label: {_format_names(usual or names)}",
        "name it with --label-column NAME (repeat it for several), and the image column with --image-column NAME",
    )


def _format_names(names: Sequence[str]) -> str:
    return format_list([repr(n) for n in names]) or "all are empty"
