"""Statistics of table columns, from one reading."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from zoo.data.decode.errors import is_image_name
from zoo.data.schema.cells import LIST, NESTED, TableReader, list_items
from zoo.data.schema.labels import parse_bool, parse_number

# Maximum number of different values that are stored. A column with more contains no classes, unless the user says so.
MAX_DISTINCT = 10_000


@dataclass
class ColumnStats:
    """Statistics of one column. All counts are of different values, or list items; `empty` counts cells."""

    name: str
    holds_images: bool = False  # it contains images, not paths
    is_class_names: bool = False  # its values are class names, whatever they look like
    # the different values; None if there are more than `MAX_DISTINCT`
    values: set[str] | None = field(default_factory=set)
    images: int = 0
    decimals: int = 0
    integers: int = 0
    texts: int = 0
    booleans: int = 0
    commas: int = 0  # numbers with a decimal comma
    empty: int = 0
    lists: int = 0
    nested: int = 0
    lengths: set[int] = field(default_factory=set)

    def update(self, cells: Sequence[str]) -> None:
        if self.holds_images:
            self.images += len(cells)
            return
        self.empty += cells.count("")
        new = set(cells) - {""} if self.values is None else set(cells) - self.values - {""}
        for text in new:
            if text.startswith(LIST):
                items = list_items(text)
                self.lists += 1
                self.lengths.add(len(items))
                for item in items:
                    self._count(item)
            elif text == NESTED:
                self.nested += 1
            else:
                self._count(text)
        if self.values is not None:
            self.values |= new
            if len(self.values) > MAX_DISTINCT:
                self.values = None

    def _count(self, text: str) -> None:
        if self.is_class_names:
            self.texts += 1
            return
        value = parse_number(text)
        self.images += is_image_name(text)
        self.booleans += parse_bool(text) is not None
        if value is None:
            self.texts += 1
            self.commas += "," in text and parse_number(text.replace(",", ".", 1)) is not None
        elif value.is_integer():
            self.integers += 1
        else:
            self.decimals += 1

    @property
    def has_values(self) -> bool:
        return self.holds_images or self.integers + self.decimals + self.texts > 0

    @property
    def is_binary(self) -> bool:
        """Only 0 and 1, or true and false."""
        return self.has_values and self.booleans == self.integers + self.decimals + self.texts

    @property
    def is_decimal(self) -> bool:
        """Mostly decimal numbers; a few texts among them, such as NA, are errors, not classes."""
        return self.decimals > self.texts

    @property
    def is_numeric(self) -> bool:
        return self.is_decimal or (self.integers > 0 and self.texts == 0)

    @property
    def length(self) -> int | None:
        """The length of its lists, if all are equal."""
        (only,) = self.lengths if len(self.lengths) == 1 else (None,)
        return only or None


def read_column_stats(table: TableReader) -> tuple[list[ColumnStats], int]:
    """(statistics of every column, number of rows), from one reading of the table."""
    column_stats = [ColumnStats(name, name in table.images, name in table.classes) for name in table.header]
    rows = 0
    for lines, columns in table.blocks():
        rows += len(lines)
        for stats, cells in zip(column_stats, columns, strict=True):
            stats.update(cells)
    return column_stats, rows
