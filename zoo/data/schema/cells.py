"""The common form of all tables: columns of text cells.

A cell is stripped text, "" if empty. A list is written with `LIST` before each item. A value that can be neither image
nor label (an object, a list of lists) is `NESTED`. Stripped text never begins with either.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from typing import Any, NamedTuple, Protocol

from zoo.arrays import Indices
from zoo.data.packed_files import StoredImages
from zoo.errors import DataError

LIST = "\x1f"  # ASCII's "unit separator", which str.strip removes as space
NESTED = "\x1e"
_MAX_LISTED = 10  # rows named for one kind of error


class StoredRows(NamedTuple):
    """Images stored in a table. sizes: (N,) bytes, 0 if unknown. shards: (N,) section of the table of each image, if
    sequential reading is faster."""

    images: StoredImages
    sizes: Indices
    shards: Indices | None = None

    def take(self, rows: Indices) -> StoredRows:
        shards = None if self.shards is None else self.shards[rows]
        return StoredRows(self.images.take(rows), self.sizes[rows], shards)


class TableReader(Protocol):
    """A table that can be read several times, in blocks, so that memory does not grow with its length.

    Attributes:
        name: name for messages.
        folder: folder to which the paths in the cells are relative.
        header: names of the columns.
        unit: word for a row in messages: "line" or "row".
        images: columns of stored images -> function from row numbers to the images; their cells name the images.
        classes: columns whose values are known to be class names.
    """

    @property
    def name(self) -> str: ...
    @property
    def folder(self) -> str: ...
    @property
    def header(self) -> Sequence[str]: ...
    @property
    def unit(self) -> str: ...
    @property
    def images(self) -> Mapping[str, Callable[[Indices], StoredRows]]: ...
    @property
    def classes(self) -> Collection[str]: ...

    def blocks(self) -> Iterator[tuple[Sequence[int], Sequence[Sequence[str]]]]:
        """(numbers, cells of every column) of blocks of rows. A number is the line, or the row from 1. Raises
        DataError."""


def to_cell(value: Any) -> str:
    """`value` as a cell."""
    if isinstance(value, str):
        return value.strip()
    if isinstance(value, list | tuple):
        items = [to_cell(v) for v in value]
        if any(item[:1] in (LIST, NESTED) for item in items if item):
            return NESTED
        return LIST + LIST.join(item.replace(LIST, " ") for item in items)
    if value is None:
        return ""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, dict | bytes | bytearray | memoryview):
        return NESTED
    return str(value)


def list_items(cell: str) -> list[str]:
    """The items of a list; a cell that is no list has one item, an empty cell none."""
    if cell.startswith(LIST):
        return cell[1:].split(LIST) if len(cell) > 1 else []
    return [cell] if cell else []


class RowErrors:
    """The errors in a table, raised together: each kind with its first lines. unit: word for a row."""

    def __init__(self, where: str, hint: str, unit: str = "line") -> None:
        self._where, self._hint, self._unit = where, hint, unit
        self._kinds: dict[str, tuple[str, list[int], int]] = {}

    def add(self, what: str, line: int, example: str = "") -> None:
        """Add an error of the kind `what`. example: the wrong value; the first one of the kind is shown."""
        first, lines, count = self._kinds.get(what, (example, [], 0))
        if count < _MAX_LISTED:
            lines.append(line)
        self._kinds[what] = (first, lines, count + 1)

    def _places(self, lines: list[int], count: int) -> str:
        more = f", … ({count:,} in all)" if count > len(lines) else ""
        return f"{self._unit}{'s' * (count > 1)} {', '.join(map(str, lines))}{more}"

    def raise_if_any(self) -> None:
        """Raise DataError if there are errors."""
        if not self._kinds:
            return
        texts = []
        for what, (example, lines, count) in self._kinds.items():
            texts.append(f"{what}{example and f', such as {example!r}'}: {self._places(lines, count)}")
        listed = texts[0] if len(texts) == 1 else "".join(f"\n  {t}" for t in texts)
        raise DataError(f"{self._where}: {listed}", self._hint)
