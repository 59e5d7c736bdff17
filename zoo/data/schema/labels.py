"""Labels to targets: cells of a table, or class names, for each task (`zoo.tasks`)."""

from __future__ import annotations

import math
import unicodedata
from array import array
from collections.abc import Iterable, Sequence
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from zoo.data.dataset import Targets
from zoo.data.decode.errors import printable
from zoo.data.schema.cells import RowErrors, list_items
from zoo.errors import DataError
from zoo.tasks import TaskName, get_task

# Name of the target of class folders whose names are numbers, in regression.
FOLDER_TARGET = "value"

_BOOLEANS = {"0": False, "1": True, "0.0": False, "1.0": True, "false": False, "true": True}


def parse_number(text: str) -> float | None:
    """`text` as a number, possibly NaN or infinite; None if it is not a number. 1_000 is not accepted."""
    try:
        value = float(text)
    except ValueError:
        return None
    return None if "_" in text else value


def parse_bool(text: str) -> bool | None:
    """True for 1 and true, False for 0 and false, case-insensitive; else None."""
    return _BOOLEANS.get(text.lower())


class LabelReader(Protocol):
    """Collects the label cells of a table in blocks and returns the targets at the end."""

    def add(self, lines: Sequence[int], columns: Sequence[Sequence[str]], errors: RowErrors) -> None:
        """Add rows: their line numbers and the cells of the label columns. Errors are added to `errors`."""

    def finish(self) -> tuple[tuple[str, ...], Targets]:
        """(classes, targets) of all rows."""


class ClassReader:
    """One column of class names -> (N,) int64, indices into the sorted names."""

    def __init__(self, column: str) -> None:
        self._column = column
        self._codes: dict[str, int] = {}
        self._rows = array("q")

    def add(self, lines: Sequence[int], columns: Sequence[Sequence[str]], errors: RowErrors) -> None:
        (cells,) = columns
        codes = {text: self._codes.setdefault(_nfc(text), len(self._codes)) for text in dict.fromkeys(cells)}
        if "" in codes:
            for line, text in zip(lines, cells, strict=True):
                if not text:
                    errors.add(f"no label in column {self._column!r}", line)
        self._rows.extend(codes[text] for text in cells)

    def finish(self) -> tuple[tuple[str, ...], Targets]:
        classes, order = _sorted(self._codes)
        return classes, order[np.array(self._rows, dtype=np.int64)]


class TagReader:
    """One column of label names -> (N, K) float32 of 0 and 1, labels sorted.

    separator: text between the names in a cell; None: one name per cell. An empty cell has no label.
    """

    def __init__(self, separator: str | None) -> None:
        self._separator = separator
        self._codes: dict[str, int] = {}
        self._sets: dict[str, tuple[int, ...]] = {}
        self._labels = array("q")
        self._counts = array("q")

    def add(self, lines: Sequence[int], columns: Sequence[Sequence[str]], errors: RowErrors) -> None:
        (cells,) = columns
        for text in cells:
            found = self._sets.get(text) or self._split(text)
            self._labels.extend(found)
            self._counts.append(len(found))

    def _split(self, text: str) -> tuple[int, ...]:
        parts = [text] if self._separator is None else text.split(self._separator)
        names = dict.fromkeys(_nfc(p.strip()) for p in parts)
        found = tuple(self._codes.setdefault(name, len(self._codes)) for name in names if name)
        if len(self._sets) < _MAX_CACHED_SETS:
            self._sets[text] = found
        return found

    def finish(self) -> tuple[tuple[str, ...], Targets]:
        classes, order = _sorted(self._codes)
        targets = np.zeros((len(self._counts), len(classes)), np.float32)
        rows = np.repeat(np.arange(len(self._counts)), np.array(self._counts, dtype=np.int64))
        targets[rows, order[np.array(self._labels, dtype=np.int64)]] = 1
        return classes, targets


_MAX_CACHED_SETS = 100_000  # cells whose labels are cached


class BinaryReader:
    """One column of 0 and 1 per label -> (N, K) float32, columns sorted by name."""

    def __init__(self, names: Iterable[str]) -> None:
        self._names = tuple(names)
        self._columns = [array("b") for _ in self._names]

    def add(self, lines: Sequence[int], columns: Sequence[Sequence[str]], errors: RowErrors) -> None:
        for name, values_so_far, cells in zip(self._names, self._columns, columns, strict=True):
            values = {text: parse_bool(text) for text in set(cells)}
            if None in values.values():
                for line, text in zip(lines, cells, strict=True):
                    if values[text] is None:
                        errors.add(f"neither 0 nor 1 in column {name!r}", line, text or "an empty cell")
            values_so_far.extend(int(values[text] or 0) for text in cells)

    def finish(self) -> tuple[tuple[str, ...], Targets]:
        order = sorted(range(len(self._names)), key=lambda i: self._names[i])
        targets = np.empty((len(self._columns[0]), len(order)), np.float32)
        for k, i in enumerate(order):
            targets[:, k] = np.frombuffer(self._columns[i], dtype=np.int8)
        return tuple(self._names[i] for i in order), targets


class NumberReader:
    """One column of numbers per target -> (N, K) float32, in the given order."""

    def __init__(self, names: Sequence[str]) -> None:
        self._names = tuple(names)
        self._columns = [array("f") for _ in names]

    def add(self, lines: Sequence[int], columns: Sequence[Sequence[str]], errors: RowErrors) -> None:
        for name, values_so_far, cells in zip(self._names, self._columns, columns, strict=True):
            for line, text in zip(lines, cells, strict=True):
                value = parse_number(text)
                if value is None or not abs(value) <= _MAX_FLOAT32:
                    errors.add(f"not a finite number in column {name!r}", line, text or "an empty cell")
                    value = 0.0
                values_so_far.append(value)

    def finish(self) -> tuple[tuple[str, ...], Targets]:
        return self._names, np.stack([np.frombuffer(c, dtype=np.float32) for c in self._columns], axis=1)


_MAX_FLOAT32 = float(np.finfo(np.float32).max)


class ListReader:
    """One column of lists. Item i of each list is a cell of column i of `reader`."""

    def __init__(self, reader: LabelReader, column: str, length: int) -> None:
        self._reader, self._column, self._length = reader, column, length

    def add(self, lines: Sequence[int], columns: Sequence[Sequence[str]], errors: RowErrors) -> None:
        (cells,) = columns
        rows = [list_items(cell) for cell in cells]
        for i, items in enumerate(rows):
            if len(items) != self._length:
                what = f"a list of {len(items)} items" if items else "not a list"
                errors.add(f"{what} in column {self._column!r} instead of {self._length}", lines[i])
                rows[i] = ["0"] * self._length
        self._reader.add(lines, list(zip(*rows, strict=True)), errors)

    def finish(self) -> tuple[tuple[str, ...], Targets]:
        return self._reader.finish()


class GroupReader:
    """One column of group names -> (N,) int64, numbered in order of appearance over all tables read by this object."""

    def __init__(self, column: str) -> None:
        self.column = column
        self._codes: dict[str, int] = {}
        self._rows = array("q")

    def add(self, lines: Sequence[int], cells: Sequence[str], errors: RowErrors) -> None:
        for line, text in zip(lines, cells, strict=True):
            if not text:
                errors.add(f"no group in column {self.column!r}", line)
            self._rows.append(self._codes.setdefault(_nfc(text), len(self._codes)))

    def finish(self) -> NDArray[np.int64]:
        """The groups of the rows since the last call."""
        found = np.array(self._rows, dtype=np.int64)
        self._rows = array("q")
        return found


def from_classes(
    targets: NDArray[np.int64], classes: tuple[str, ...], task: TaskName, where: str
) -> tuple[Targets, tuple[str, ...]]:
    """(targets of `task`, classes) for class indices (N,). multi-label: the class is the only label of an image.
    regression: the class name is the value of one target, "value". Raises DataError if a name is not a number."""
    owner = get_task(task)
    if owner.has_one_class_per_image:
        return targets, classes
    if owner.has_classes:
        one_hot = np.zeros((len(targets), len(classes)), np.float32)
        one_hot[np.arange(len(targets)), targets] = 1
        return one_hot, classes
    values = [parse_number(name) for name in classes]
    other = [name for name, v in zip(classes, values, strict=True) if v is None or not math.isfinite(v)]
    if other:
        raise DataError(
            f"class folders of {where} whose names are not numbers: {format_list(other)}",
            "regression takes the folder name as the target; for one target per image use a CSV table",
        )
    return np.array(values, dtype=np.float32)[targets][:, None], (FOLDER_TARGET,)


def format_list(names: Sequence[str]) -> str:
    """The first ten of `names`, printable, and their number if there are more."""
    return ", ".join(printable(n) for n in names[:10]) + (f" … ({len(names):,} in all)" if len(names) > 10 else "")


def _nfc(text: str) -> str:
    return unicodedata.normalize("NFC", text)


def _sorted(codes: dict[str, int]) -> tuple[tuple[str, ...], NDArray[np.int64]]:
    """(sorted names, index in it of each code)."""
    classes = tuple(sorted(codes))
    order = np.empty(len(codes), dtype=np.int64)
    for index, name in enumerate(classes):
        order[codes[name]] = index
    return classes, order
