"""The task of the label columns of a table, and the reader of their labels."""

from __future__ import annotations

from collections.abc import Sequence

from zoo.data.schema.cells import LIST, list_items
from zoo.data.schema.column_stats import MAX_DISTINCT, ColumnStats
from zoo.data.schema.columns import CLASS_NAMES, Columns
from zoo.data.schema.labels import (
    BinaryReader,
    ClassReader,
    LabelReader,
    ListReader,
    NumberReader,
    TagReader,
    parse_number,
)
from zoo.errors import DataError, UsageError
from zoo.tasks import TaskName, target_kind

_MAX_INTEGER_CLASSES = 100  # a column with more different integers is regression

_SEPARATOR = "--label-separator {}"


def infer_task(
    labels: Sequence[ColumnStats], rows: int, columns: Columns, *, table: str, task: str = "auto"
) -> tuple[TaskName, str]:
    """(task, a sentence on why).

    With "auto": a separator, or several columns of 0 and 1, mean multi-label; decimal numbers, or several columns of
    numbers, mean regression; text means single-label. Integers in one column are classes if there are at most 100
    different ones (10,000 if the column is named label, class or category) and at least two rows per class on average;
    else they are regression targets. Lists contain the labels of an image; but lists of equal length have one flag per
    label if they contain 0 and 1 only, and are regression targets if they contain decimal numbers.

    Args:
        labels: statistics of the label columns.
        rows: number of rows of the table.
        columns: columns and separator given by the user.
        table: name of the table in messages.
        task: name of a task, or "auto".

    Raises:
        DataError: the columns do not fit the task, or no task fits several columns.
        UsageError: the separator does not fit.
    """
    names = " and ".join(repr(f.name) for f in labels) if len(labels) < 3 else f"{len(labels)} columns"
    chosen, why = _infer(labels, rows, columns, names) if task == "auto" else (task, "as requested")
    empty = [f.name for f in labels if not f.has_values]
    if empty:
        raise DataError(f"column {empty[0]!r} of {table} has no labels", "fill it, or name another column")
    commas = next((f for f in labels if 2 * f.commas > f.texts + f.integers), None)
    if commas is not None and columns.separator is None:
        raise DataError(
            f"column {commas.name!r} of {table} has numbers with a decimal comma, such as {_example_values(commas)}",
            "write them with a decimal point",
        )
    if any(f.lists for f in labels):
        return _infer_from_lists(labels, columns, table, task)
    kind = target_kind(chosen)
    if kind == "values":
        texts = [f for f in labels if f.texts >= f.integers + f.decimals]  # a few texts are errors, reported by line
        if texts:
            raise DataError(
                f"column {texts[0].name!r} of {table} has non-numbers, such as {_example_values(texts[0])}",
                "regression needs numbers: name their columns with --label-column, or choose another --task",
            )
        if columns.separator is not None:
            raise UsageError("regression does not take a label separator", "give --label-column several times instead")
        return "regression", f"regression, {why}"
    if kind == "multi_hot":
        if len(labels) > 1 and columns.separator is not None:
            raise UsageError(f"a label separator needs a single label column, not {names}", "name one column")
        other = [f for f in labels if not f.booleans]
        if len(labels) > 1 and other:
            raise DataError(
                f"column {other[0].name!r} of {table} has more than 0 and 1, such as {_example_values(other[0])}",
                "omit it from --label-column, or name one column and the separator in its cells",
            )
        return "multi-label", f"multi-label, {why}"
    if kind == "class_index":
        if len(labels) > 1:
            raise DataError(
                f"{names} of {table} are several label columns, but single-label needs one",
                "name one --label-column, or choose --task multi-label or regression",
            )
        if columns.separator is not None:
            raise UsageError(
                "a label separator means several labels per image", "omit it, or choose --task multi-label"
            )
        return "single-label", f"single-label, {why}"
    raise DataError(
        f"no task fits {names} of {table}: they contain {why}",
        "name one --label-column, several columns of 0 and 1 (multi-label), or several of numbers (regression)",
    )


def make_label_reader(
    labels: Sequence[ColumnStats], task: TaskName, separator: str | None, flag_names: Sequence[str] = ()
) -> LabelReader:
    """The reader that turns the cells of these columns into targets of `task`, as found by `infer_task`.

    flag_names: names of the labels in lists of flags, if their number fits; else the labels are named 0, 1 ….
    """
    names = [f.name for f in labels]
    first = labels[0]
    kind = target_kind(task)
    if first.lists and (kind == "values" or _holds_flags(first)):
        indices = range(first.length or 0)
        if kind == "values":
            return ListReader(NumberReader([f"{first.name}[{i}]" for i in indices]), first.name, len(indices))
        named = flag_names if len(flag_names) == len(indices) else [f"{i}" for i in indices]
        return ListReader(BinaryReader(named), first.name, len(indices))
    if kind == "class_index":
        return ClassReader(first.name)
    if kind == "values":
        return NumberReader(names)
    if first.lists:
        return TagReader(LIST)
    return BinaryReader(names) if separator is None and (len(labels) > 1 or first.is_binary) else TagReader(separator)


def _holds_flags(column: ColumnStats) -> bool:
    return column.is_binary and (column.length or 0) > 1


def _infer_from_lists(labels: Sequence[ColumnStats], columns: Columns, table: str, task: str) -> tuple[TaskName, str]:
    column = next(f for f in labels if f.lists)
    if len(labels) > 1:
        raise DataError(
            f"column {column.name!r} of {table} contains lists, but is one of {len(labels)} label columns",
            "name one with --label-column",
        )
    if columns.separator is not None:
        raise UsageError(f"column {column.name!r} of {table} contains lists, which need no separator", "omit it")
    reason = f"because {column.name!r} contains lists"
    kind = target_kind(task)
    if kind == "class_index":
        raise DataError(
            f"column {column.name!r} of {table} contains lists, but single-label needs one class per image",
            "choose --task multi-label, or name another --label-column",
        )
    even = column.length is not None
    if kind == "values" and not (even and column.is_numeric):
        raise DataError(
            f"column {column.name!r} of {table} contains lists of "
            + ("different lengths" if column.is_numeric else f"{_example_values(column)}"),
            "regression needs the same number of values for every image",
        )
    if even and (kind == "values" or (task == "auto" and column.is_decimal)):
        return "regression", f"regression, {reason} of {column.length} numbers"
    if _holds_flags(column):
        return "multi-label", f"multi-label, {reason} of {column.length} flags"
    return "multi-label", f"multi-label, {reason}"


def _infer(labels: Sequence[ColumnStats], rows: int, columns: Columns, names: str) -> tuple[str, str]:
    if columns.separator is not None:
        return "multi-label", f"because a label separator is given ({columns.separator!r})"
    if len(labels) > 1:
        if all(f.is_binary for f in labels):
            return "multi-label", f"because {names} contain only 0 and 1"
        if all(f.is_numeric for f in labels):
            return "regression", f"because {names} contain numbers"
        return "", "text and numbers"
    (column,) = labels
    if column.is_decimal:
        return "regression", f"because {names} contains decimal numbers"
    if column.texts:
        return "single-label", f"because {names} contains text{_separator_hint(column)}"
    most = MAX_DISTINCT if column.name.lower() in CLASS_NAMES else _MAX_INTEGER_CLASSES
    different = None if column.values is None else len(column.values)
    if different is not None and different <= most and rows >= 2 * different:
        return "single-label", f"because {names} contains {different:,} different integers in {rows:,} rows"
    count = f"more than {MAX_DISTINCT:,}" if different is None else f"{different:,}"
    return "regression", f"because {names} contains {count} different integers in {rows:,} rows"


def _separator_hint(stats: ColumnStats) -> str:
    """A hint, if most of the values look like several labels."""
    values = stats.values or ()
    mark = next((m for m in "|;," if 2 * sum(m in v for v in values) > len(values)), "")
    advice = f"if these are several labels, use {_SEPARATOR.format(repr(mark))}"
    return f" (most values contain {mark!r}; {advice})" if mark else ""


def _example_values(stats: ColumnStats) -> str:
    values = {item for cell in stats.values or () for item in list_items(cell)}
    texts = sorted(v for v in values if parse_number(v) is None) or sorted(values)
    return ", ".join(map(repr, texts[:3])) or "other text"
