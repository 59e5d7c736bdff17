"""A CSV or TSV file: its header, and its rows in blocks, so that a file of any length takes the memory of one block.

UTF-8, with or without a byte order mark. A .tsv file is separated by tabs; any other by commas, unless its header has
none but has semicolons (as spreadsheets write where the comma is the decimal sign) or tabs. Spaces around a cell are
dropped, and rows without any text skipped.
"""

from __future__ import annotations

import csv
import os
from collections.abc import Iterator

from zoo.data.decode import is_image_name
from zoo.data.text_file import BLOCK, TextFile
from zoo.errors import DataError

__all__ = ["TextTable", "Troubles"]

_TABS = (".tsv", ".tab")
_SHOWN = 10


class Troubles:
    """What is wrong with a table, each kind with the first lines that have it: all of it in one error. unit: what a
    line is called."""

    def __init__(self, where: str, hint: str, unit: str = "line") -> None:
        self._where, self._hint, self._unit = where, hint, unit
        self._kinds: dict[str, tuple[str, list[int], int]] = {}

    def add(self, what: str, line: int, example: str = "") -> None:
        """`what` stands at `line`; `example` is kept from the first one of the kind."""
        first, lines, count = self._kinds.get(what, (example, [], 0))
        if count < _SHOWN:
            lines.append(line)
        self._kinds[what] = (first, lines, count + 1)

    def refuse(self) -> None:
        """Raise DataError if there are any."""
        if not self._kinds:
            return
        texts = []
        for what, (example, lines, count) in self._kinds.items():
            numbers = ", ".join(f"{n}" for n in lines) + (f", … ({count:,} in all)" if count > len(lines) else "")
            texts.append(f"{what}{example and f', such as {example!r}'}: {self._unit}{'s' * (count > 1)} {numbers}")
        listed = texts[0] if len(texts) == 1 else "".join(f"\n  {t}" for t in texts)
        raise DataError(f"{self._where}: {listed}", self._hint)


class TextTable(TextFile):
    """The table at `path`. Raises DataError if it is no such file, has no header or no rows."""

    def __init__(self, path: str) -> None:
        super().__init__(path, "CSV")
        self.delimiter = self._delimiter()
        records = self._records()
        self.header = next(records)[1]
        self._check_header()
        if next(records, None) is None:
            raise DataError(f"{self.name} has a header but no rows", "add a row for each image")

    def blocks(self) -> Iterator[tuple[list[int], list[tuple[str, ...]]]]:
        """The rows after the header, some thousands at a time: the line that each begins in, and the cells of every
        column. Raises DataError, at the end, if rows have more or fewer cells than the header."""
        troubles = Troubles(
            self.name, f"put quotes around cells that hold a {'tab' if self.delimiter == chr(9) else self.delimiter!r}"
        )
        lines: list[int] = []
        rows: list[list[str]] = []
        records = self._records()
        next(records)
        for line, row in records:
            if len(row) != len(self.header):
                troubles.add(f"{len(row)} cells where the header has {len(self.header)}", line)
                continue
            lines.append(line)
            rows.append(row)
            if len(rows) == BLOCK:
                yield lines, list(zip(*rows, strict=True))
                lines, rows = [], []
        if rows:
            yield lines, list(zip(*rows, strict=True))
        troubles.refuse()

    def _records(self) -> Iterator[tuple[int, list[str]]]:
        """(line it begins in, stripped cells) of the header and every row that holds any text."""
        reader = csv.reader(self.lines(), delimiter=self.delimiter, strict=True, skipinitialspace=True)
        start = 1
        try:
            for row in reader:
                line, start = start, reader.line_num + 1
                cells = [cell.strip() for cell in row]
                if any(cells):
                    yield line, cells
        except csv.Error as e:
            raise DataError(
                f"{self.name}, line {start}: {_plain(str(e))}", "mend the line, or save the table again as CSV in UTF-8"
            ) from e

    def _delimiter(self) -> str:
        header = next((line for line in self.lines() if line.strip()), None)
        if header is None:
            raise DataError(f"{self.name} is empty", "the first line names the columns, such as image,label")
        if os.path.splitext(self.path)[1].lower() in _TABS:
            return "\t"
        return next((mark for mark in (",", ";", "\t") if mark in header), ",")

    def _check_header(self) -> None:
        named = [name for name in self.header if name]
        twice = sorted({name for name in named if named.count(name) > 1})
        if twice:
            raise DataError(
                f"{self.name} has more than one column {', '.join(map(repr, twice))}", "give each a name of its own"
            )
        data = next((name for name in named if is_image_name(name)), None)
        if data is not None:
            raise DataError(
                f"the first line of {self.name} holds {data!r}: data, not the names of the columns",
                "add a first line that names the columns, such as image,label",
            )


def _plain(message: str) -> str:
    """The csv module's words for what users meet most, in ours."""
    if "field larger" in message:
        return "a cell of more than 131,072 characters, perhaps after a quote that is never closed"
    if "unexpected end of data" in message:
        return "a quote that opens here is never closed"
    if "new-line character" in message:
        return "line ends of old Macintoshes (carriage returns)"
    return message
