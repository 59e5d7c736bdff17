"""Tables of any kind as columns of text, which is what the rules for columns and labels are written for.

A cell is stripped text, "" where there is none. A list is `LIST` before each of its items; what can be neither image
nor label (objects, lists of lists) is `NESTED`. Stripped text begins with neither.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from typing import Any, NamedTuple, Protocol

from zoo.arrays import Indices
from zoo.data.packed_files import StoredImages

__all__ = ["LIST", "NESTED", "StoredRows", "TableReader", "list_items", "to_cell"]


LIST = "\x1f"  # ASCII's "unit separator", which str.strip takes for a space
NESTED = "\x1e"


class StoredRows(NamedTuple):
    """images: of some rows. sizes: bytes of each, 0 where unknown. shards: the part of the table that each lies in,
    where such parts are best read one after the other."""

    images: StoredImages
    sizes: Indices
    shards: Indices | None = None

    def take(self, rows: Indices) -> StoredRows:
        shards = None if self.shards is None else self.shards[rows]
        return StoredRows(self.images.take(rows), self.sizes[rows], shards)


class TableReader(Protocol):
    """A table that can be read again and again, in blocks, so that one of any length takes the memory of a block.

    name: for messages. folder: paths in its cells are taken from there. header: names of the columns. unit: what a row
    is called. images: columns that hold images themselves, not paths; their cells name the image, and a call with the
    numbers of rows gives it. classes: columns whose texts are known to be names of classes.
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
        """The rows, some thousands at a time: the number of each (its line, or its row from 1 on) and the cells of
        every column. Raises DataError."""


def to_cell(value: Any) -> str:
    """The cell that says what `value` says."""
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
    """The items of a list; of no items where it is empty, of one where the cell is no list."""
    if cell.startswith(LIST):
        return cell[1:].split(LIST) if len(cell) > 1 else []
    return [cell] if cell else []
