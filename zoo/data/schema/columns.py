"""Which columns of a table hold the image, its labels, its part and its group.

What the user names is taken. The rest is found by the rules in `infer_columns`, or refused with the names of the
columns in question: a wrong guess would train on the wrong thing in silence.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from zoo.data.dataset import SPLIT_NAMES
from zoo.data.schema.column_stats import ColumnStats
from zoo.data.schema.labels import format_list
from zoo.errors import DataError, UsageError, nearest
from zoo.tasks import target_kind

__all__ = ["CLASS_NAMES", "UNNAMED", "ColumnRoles", "Columns", "infer_columns"]

_FILE = ("file", "filename", "file_name", "filepath", "file_path", "path")
_IMAGE = ("image", "images", "image_path", "imagepath", "img", "img_path", "image_name", "image_file", *_FILE)
CLASS_NAMES = ("label", "labels", "class", "classes", "class_name", "class_id", "category", "categories")
_LABEL = (*CLASS_NAMES, "target", "targets", "tag", "tags")
_SPLIT = ("split", "subset", "partition", "set")


@dataclass(frozen=True)
class Columns:
    """What the user says of a table: the columns' names, and the text that separates several labels in a cell.

    group: the column whose equal cells stay on one side of a split.
    """

    image: str | None = None
    labels: tuple[str, ...] = ()
    separator: str | None = None
    split: str | None = None
    group: str | None = None


UNNAMED = Columns()


@dataclass(frozen=True)
class ColumnRoles:
    """Numbers of the columns; `split` is None if the table does not tell parts apart, `group` if none is named."""

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
    """The columns of the table called `table`; `classes` are a model's, whose names label columns may bear.

    The image: a column of images themselves, if there is one; else the column named so by habit (`image`, `file`,
    `path` …), of several the first that holds image names; else the first that holds nothing but names of images. The
    part: a column called split, subset, partition or set that holds only names of parts (train, val …). The labels: the
    model's own columns; else the one called by habit (`label`, `class`, `target`, `tags` …); else the one that is left;
    else all that are left, if they hold nothing but 0 and 1, or nothing but numbers with decimals (numbers of any kind
    under the task regression). Columns without a name (an index), without any value or with objects in it are never
    chosen. Raises DataError if nothing or too much fits, UsageError if a named column does not exist.
    """
    if columns.separator == "":
        raise UsageError("the label separator is empty", "give for example --label-separator '|'")
    place = {stats.name: i for i, stats in enumerate(column_stats)}
    named = [n for n in (columns.image, *columns.labels, columns.split, columns.group) if n is not None]
    for name in named:
        if name not in place:
            close = nearest(name, place)
            known = ", ".join(map(repr, place))
            raise UsageError(
                f"{table} has no column {name!r}", f"did you mean {close[0]!r}?" if close else f"it has {known}"
            )
        if named.count(name) > 1:
            raise UsageError(f"column {name!r} of {table} is named for two purposes", "name each column once")
        if column_stats[place[name]].nested:
            raise DataError(
                f"column {name!r} of {table} holds objects, neither text nor numbers",
                "write what matters of them as text",
            )
        if column_stats[place[name]].holds_images and name != columns.image:
            raise DataError(f"column {name!r} of {table} holds images", "name it with --image-column, or another")
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
        place[image],
        tuple(place[n] for n in labels),
        None if split is None else place[split],
        None if columns.group is None else place[columns.group],
    )


def _image(free: Sequence[ColumnStats], table: str) -> str:
    by_name = {f.name.lower(): f for f in reversed(free)}
    usual = [by_name[n] for n in _IMAGE if n in by_name]
    holds_images = [f for f in free if f.holds_images]
    found = next((f for f in usual if f.holds_images), None) or (holds_images[0] if len(holds_images) == 1 else None)
    if holds_images and found is None:
        raise DataError(
            f"{len(holds_images)} columns of {table} hold images: {_format_names([f.name for f in holds_images])}",
            "name one with --image-column NAME",
        )
    found = found or next((f for f in usual if f.images), None) or next(iter(usual), None)
    found = found or next((f for f in free if f.images == f.texts > 0 and not f.integers + f.decimals), None)
    if found is None:
        raise DataError(
            f"no column of {table} looks like paths of images: {_format_names([f.name for f in free])}",
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
        raise DataError(f"{table} has no column of labels beside the images", "add one, or see --label-column")
    if not usual:
        binary = kind in (None, "multi_hot") and all(f.is_binary for f in free)
        decimals = kind is None and all(f.is_decimal for f in free)
        if binary or decimals or (kind == "values" and all(f.is_numeric for f in free)):
            return tuple(names)
    raise DataError(
        f"{len(usual or free)} columns of {table} may hold the label: {_format_names(usual or names)}",
        "name it with --label-column NAME (again for several), and the images' with --image-column NAME",
    )


def _format_names(names: Sequence[str]) -> str:
    return format_list([repr(n) for n in names]) or "none has any text"
