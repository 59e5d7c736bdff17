"""What the columns of a table hold, from reading it once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from zoo.data.decode.read import is_image_name
from zoo.data.schema.cells import LIST, NESTED, Cells, items_of
from zoo.data.schema.labels import number, truth

__all__ = ["MANY", "Facts", "survey"]

# Different values of a column that are counted; a column with more holds no classes unless the user says so.
MANY = 10_000


@dataclass
class Facts:
    """What a column holds. values: its different texts, None beyond `MANY`; the counts are of different texts too, of
    those in lists where there are such, but `empty` counts cells.

    stored: it holds images themselves. named: its texts are names of classes, whatever they look like.
    """

    name: str
    stored: bool = False
    named: bool = False
    values: set[str] | None = field(default_factory=set)
    images: int = 0
    fractions: int = 0
    wholes: int = 0
    texts: int = 0
    truths: int = 0
    commas: int = 0  # numbers but for their decimal comma
    empty: int = 0
    lists: int = 0
    nested: int = 0
    lengths: set[int] = field(default_factory=set)  # of the lists

    def see(self, cells: Sequence[str]) -> None:
        if self.stored:
            self.images += len(cells)
            return
        self.empty += cells.count("")
        new = set(cells) - {""} if self.values is None else set(cells) - self.values - {""}
        for text in new:
            if text.startswith(LIST):
                items = items_of(text)
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
            if len(self.values) > MANY:
                self.values = None

    def _count(self, text: str) -> None:
        if self.named:
            self.texts += 1
            return
        value = number(text)
        self.images += is_image_name(text)
        self.truths += truth(text) is not None
        if value is None:
            self.texts += 1
            self.commas += "," in text and number(text.replace(",", ".", 1)) is not None
        elif value.is_integer():
            self.wholes += 1
        else:
            self.fractions += 1

    @property
    def filled(self) -> bool:
        return self.stored or self.wholes + self.fractions + self.texts > 0

    @property
    def is_binary(self) -> bool:
        """Nothing but 0 and 1, or true and false."""
        return self.filled and self.truths == self.wholes + self.fractions + self.texts

    @property
    def is_fractions(self) -> bool:
        """Numbers with decimals; a few texts such as NA among them are mistakes, not classes."""
        return self.fractions > self.texts

    @property
    def is_numbers(self) -> bool:
        return self.is_fractions or (self.wholes > 0 and self.texts == 0)

    @property
    def length(self) -> int | None:
        """Of its lists, if all have the same."""
        (only,) = self.lengths if len(self.lengths) == 1 else (None,)
        return only or None


def survey(table: Cells) -> tuple[list[Facts], int]:
    """(facts of every column, number of rows), from reading the whole table once."""
    facts = [Facts(name, name in table.images, name in table.classes) for name in table.header]
    rows = 0
    for lines, columns in table.blocks():
        rows += len(lines)
        for fact, cells in zip(facts, columns, strict=True):
            fact.see(cells)
    return facts, rows
