"""Which task the label columns of a table make, and what reads them."""

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

__all__ = ["infer_task", "make_label_reader"]

_MAX_INTEGER_CLASSES = 100  # different whole numbers in a column that may still be classes

_SEPARATOR = "--label-separator {}"


def infer_task(
    labels: Sequence[ColumnStats], rows: int, columns: Columns, *, table: str, task: str = "auto"
) -> tuple[TaskName, str]:
    """(task, a sentence that says why) for label columns in a table of `rows` rows. `task` other than "auto" is taken.

    auto: a separator, or several columns of 0 and 1, are multi-label; numbers with decimals, or several columns of
    numbers, are regression; text is single-label. Whole numbers in one column are classes if there are at most 100
    different ones (10,000 if the column is called label, class or category) and two rows or more for each on average;
    else regression. Lists are the names of an image's labels; but of one length they are a flag for each label if they
    hold 0 and 1 only, and the targets of a regression if they hold numbers with decimals. Raises DataError if the
    columns cannot serve the task, or no task fits several columns.
    """
    names = " and ".join(repr(f.name) for f in labels) if len(labels) < 3 else f"{len(labels)} columns"
    chosen, why = _infer(labels, rows, columns, names) if task == "auto" else (task, "as asked")
    empty = [f.name for f in labels if not f.has_values]
    if empty:
        raise DataError(f"column {empty[0]!r} of {table} holds no label at all", "fill it, or name another")
    commas = next((f for f in labels if 2 * f.commas > f.texts + f.integers), None)
    if commas is not None and columns.separator is None:
        raise DataError(
            f"column {commas.name!r} of {table} holds numbers with a decimal comma, such as {_example_values(commas)}",
            "write them with a point",
        )
    if any(f.lists for f in labels):
        return _infer_from_lists(labels, columns, table, task)
    kind = target_kind(chosen)
    if kind == "values":
        texts = [
            f for f in labels if f.texts >= f.integers + f.decimals
        ]  # fewer are mistakes, to be named line by line
        if texts:
            raise DataError(
                f"column {texts[0].name!r} of {table} does not hold numbers but {_example_values(texts[0])}: no "
                "regression",
                "name the columns of numbers with --label-column, or choose another --task",
            )
        if columns.separator is not None:
            raise UsageError(
                "a label separator and the task regression exclude each other", "give several --label-column instead"
            )
        return "regression", f"regression, {why}"
    if kind == "multi_hot":
        if len(labels) > 1 and columns.separator is not None:
            raise UsageError("a label separator goes with one label column", f"it is one of {names}")
        other = [f for f in labels if not f.booleans]
        if len(labels) > 1 and other:
            raise DataError(
                f"column {other[0].name!r} of {table} does not hold 0 and 1 but {_example_values(other[0])}: no "
                "label of a "
                "multi-label task",
                "leave it out of --label-column, or name one column and the separator inside its cells",
            )
        return "multi-label", f"multi-label, {why}"
    if kind == "class_index":
        if len(labels) > 1:
            raise DataError(
                f"{names} of {table} are several columns, and a single-label task has one",
                "name one --label-column, or choose --task multi-label or regression",
            )
        if columns.separator is not None:
            raise UsageError("a label separator makes several labels", "leave it out, or choose --task multi-label")
        return "single-label", f"single-label, {why}"
    raise DataError(
        f"{names} of {table} hold {why}: no task fits them",
        "name one --label-column, several of 0 and 1 (multi-label), or several of numbers (regression)",
    )


def make_label_reader(
    labels: Sequence[ColumnStats], task: TaskName, separator: str | None, flag_names: Sequence[str] = ()
) -> LabelReader:
    """What turns the cells of these columns into the targets of `task`, which `infer_task` has found fit for it.

    flag_names: of the labels in lists of flags, if there are as many; else they are called 0, 1 ….
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
            f"column {column.name!r} of {table} holds lists, and is one of {len(labels)} label columns",
            "name one with --label-column",
        )
    if columns.separator is not None:
        raise UsageError(f"column {column.name!r} of {table} holds lists, which no separator divides", "leave it out")
    holds = f"as {column.name!r} holds lists"
    kind = target_kind(task)
    if kind == "class_index":
        raise DataError(
            f"column {column.name!r} of {table} holds lists, and a single-label task has one class for each image",
            "choose --task multi-label or leave it out, or name another --label-column",
        )
    even = column.length is not None
    if kind == "values" and not (even and column.is_numeric):
        raise DataError(
            f"column {column.name!r} of {table} holds lists of "
            + (
                "different lengths: no regression" if column.is_numeric else f"{_example_values(column)}: no regression"
            ),
            "a regression needs as many numbers for every image",
        )
    if even and (kind == "values" or (task == "auto" and column.is_decimal)):
        return "regression", f"regression, {holds} of {column.length} numbers"
    if _holds_flags(column):
        return "multi-label", f"multi-label, {holds} of {column.length} flags"
    return "multi-label", f"multi-label, {holds}"


def _infer(labels: Sequence[ColumnStats], rows: int, columns: Columns, names: str) -> tuple[str, str]:
    if columns.separator is not None:
        return "multi-label", f"as a label separator is given ({columns.separator!r})"
    if len(labels) > 1:
        if all(f.is_binary for f in labels):
            return "multi-label", f"as {names} hold 0 and 1 only"
        if all(f.is_numeric for f in labels):
            return "regression", f"as {names} hold numbers"
        return "", "neither 0 and 1 only nor numbers only"
    (column,) = labels
    if column.is_decimal:
        return "regression", f"as {names} holds numbers with decimals"
    if column.texts:
        return "single-label", f"as {names} holds text{_separator_hint(column)}"
    most = MAX_DISTINCT if column.name.lower() in CLASS_NAMES else _MAX_INTEGER_CLASSES
    different = None if column.values is None else len(column.values)
    if different is not None and different <= most and rows >= 2 * different:
        return "single-label", f"as {names} holds {different:,} different whole numbers in {rows:,} rows"
    count = f"more than {MAX_DISTINCT:,}" if different is None else f"{different:,}"
    return "regression", f"as {names} holds {count} different whole numbers in {rows:,} rows"


def _separator_hint(stats: ColumnStats) -> str:
    """A word of warning if most of the texts look like several labels each."""
    values = stats.values or ()
    mark = next((m for m in "|;," if 2 * sum(m in v for v in values) > len(values)), "")
    advice = f"if those are several labels: {_SEPARATOR.format(repr(mark))}"
    return f" (most of it with {mark!r} inside; {advice})" if mark else ""


def _example_values(stats: ColumnStats) -> str:
    values = {item for cell in stats.values or () for item in list_items(cell)}
    texts = sorted(v for v in values if parse_number(v) is None) or sorted(values)
    return ", ".join(map(repr, texts[:3])) or "other text"
