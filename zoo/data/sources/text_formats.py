"""A CSV or TSV file: its header, and its rows in blocks, so that a file of any length takes the memory of one block.

UTF-8, with or without a byte order mark. A .tsv file is separated by tabs; any other by commas, unless its header has
none but has semicolons (as spreadsheets write where the comma is the decimal sign) or tabs. Spaces around a cell are
dropped, and rows without any text skipped.
"""

from __future__ import annotations

import csv
import json
import os
import re
import stat
from collections.abc import Callable, Collection, Iterator, Mapping
from functools import partial
from typing import Any

from zoo.data.decode.read import EXTENSIONS, describe_non_file, is_image_name, printable
from zoo.data.schema.cells import StoredRows, to_cell
from zoo.data.schema.row_errors import RowErrors
from zoo.errors import DataError

__all__ = ["BLOCK", "JsonTable", "ListTable", "TextFile", "TextTable"]

BLOCK = 4096  # rows
_MAX_LINE_BYTES = 1 << 20  # bytes; a file without line ends is no table, and would be read whole


class TextFile:
    """The file at `path`, of a kind that users know as `kind`; the part of `Cells` that all of them share.

    Raises DataError if it is no file, or cannot be read.
    """

    unit = "line"
    images: Mapping[str, Callable[[Any], StoredRows]] = {}
    classes: Collection[str] = ()

    def __init__(self, path: str, kind: str) -> None:
        self.path = path
        self.name = printable(os.path.basename(path))
        self.folder = os.path.dirname(path) or os.curdir
        self._kind = kind
        try:
            mode = os.stat(path).st_mode
        except OSError as e:
            raise self._unreadable(e) from e
        if not stat.S_ISREG(mode):
            raise DataError(f"{printable(path)} is {describe_non_file(mode)}", f"give the path of a {kind} file")

    def lines(self) -> Iterator[str]:
        """Each with its end. Raises DataError with the number of the line that is no text."""
        try:
            with open(self.path, "rb") as f:
                for number, raw in enumerate(iter(partial(f.readline, _MAX_LINE_BYTES + 1), b""), 1):
                    yield self._text(raw, number)
        except OSError as e:
            raise self._unreadable(e) from e

    def _text(self, raw: bytes, number: int) -> str:
        save_again = f"save it again as {self._kind} in UTF-8"
        if number == 1 and raw.startswith((b"\xff\xfe", b"\xfe\xff")):
            raise DataError(f"{self.name} is UTF-16, not UTF-8", save_again)
        if b"\0" in raw:
            raise DataError(f"{self.name}, line {number}: a NUL byte; this is no text table", save_again)
        if len(raw) > _MAX_LINE_BYTES:
            raise DataError(f"{self.name}, line {number}: longer than a megabyte; this is no table", save_again)
        try:
            return raw.decode("utf-8-sig" if number == 1 else "utf-8")
        except UnicodeDecodeError as e:
            raise DataError(
                f"{self.name} is not UTF-8: byte 0x{raw[e.start]:02x} in line {number}, after "
                f"{raw[max(0, e.start - 20) : e.start].decode('utf-8', 'replace').lstrip()!r}",
                f"{save_again} (from Latin-1: iconv -f latin1 -t utf8)",
            ) from e

    def _unreadable(self, error: OSError) -> DataError:
        return DataError(f"cannot read {printable(self.path)}: {(error.strerror or str(error)).lower()}")


_TABS = (".tsv", ".tab")


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
        errors = RowErrors(
            self.name, f"put quotes around cells that hold a {'tab' if self.delimiter == chr(9) else self.delimiter!r}"
        )
        lines: list[int] = []
        rows: list[list[str]] = []
        records = self._records()
        next(records)
        for line, row in records:
            if len(row) != len(self.header):
                errors.add(f"{len(row)} cells where the header has {len(self.header)}", line)
                continue
            lines.append(line)
            rows.append(row)
            if len(rows) == BLOCK:
                yield lines, list(zip(*rows, strict=True))
                lines, rows = [], []
        if rows:
            yield lines, list(zip(*rows, strict=True))
        errors.raise_if_any()

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
                f"{self.name}, line {start}: {_explain(str(e))}",
                "mend the line, or save the table again as CSV in UTF-8",
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
        repeated = sorted({name for name in named if named.count(name) > 1})
        if repeated:
            raise DataError(
                f"{self.name} has more than one column {', '.join(map(repr, repeated))}", "give each a name of its own"
            )
        data = next((name for name in named if is_image_name(name)), None)
        if data is not None:
            raise DataError(
                f"the first line of {self.name} holds {data!r}: data, not the names of the columns",
                "add a first line that names the columns, such as image,label",
            )


def _explain(message: str) -> str:
    """The csv module's words for what users meet most, in ours."""
    if "field larger" in message:
        return "a cell of more than 131,072 characters, perhaps after a quote that is never closed"
    if "unexpected end of data" in message:
        return "a quote that opens here is never closed"
    if "new-line character" in message:
        return "line ends of old Macintoshes (carriage returns)"
    return message


_PATH = re.compile(rf"(.*?(?:{'|'.join(map(re.escape, sorted(EXTENSIONS)))}))\s+(\S.*)", re.IGNORECASE)


class ListTable(TextFile):
    """The list at `path`. Raises DataError if it is no such file, or a line of it names no image."""

    header = ("path", "label")

    def __init__(self, path: str) -> None:
        super().__init__(path, "text")
        self._labelled = False
        rows = 0
        for _, (_, label) in self._rows():
            rows += 1
            self._labelled = self._labelled or bool(label)
        if not rows:
            raise DataError(f"{self.name} is empty", "each line is the path of an image, its label behind it or not")

    def blocks(self) -> Iterator[tuple[list[int], list[tuple[str, ...]]]]:
        lines: list[int] = []
        rows: list[tuple[str, str]] = []
        for line, (path, label) in self._rows():
            lines.append(line)
            rows.append((path, label if self._labelled else self._folder_of(path)))
            if len(rows) == BLOCK:
                yield lines, list(zip(*rows, strict=True))
                lines, rows = [], []
        if rows:
            yield lines, list(zip(*rows, strict=True))

    def _folder_of(self, path: str) -> str:
        return os.path.basename(os.path.dirname(os.path.abspath(os.path.join(self.folder, path))))

    def _rows(self) -> Iterator[tuple[int, tuple[str, str]]]:
        errors = RowErrors(self.name, "each line is a path, or a path, a tab and its label")
        for number, text in enumerate(self.lines(), 1):
            line = text.strip()
            if line:
                found = _split_line(line)
                if found is None:
                    errors.add("no path with an image's ending", number, line[:60])
                else:
                    yield number, found
        errors.raise_if_any()


def _split_line(line: str) -> tuple[str, str] | None:
    """(path, label or "")"""
    path, tab, label = line.partition("\t")
    if tab:
        return path.strip(), label.strip()
    match = _PATH.fullmatch(line)
    if match:
        return match[1], match[2]
    return (line, "") if is_image_name(line) else None


_EXAMPLE = 'each line is an object, such as {"image": "1.jpg", "label": "cat"}'


class JsonTable(TextFile):
    """The table at `path`. Raises DataError if it is no such file, or a line of it holds no object."""

    def __init__(self, path: str) -> None:
        super().__init__(path, "JSONL")
        self.header = list(dict.fromkeys(key for _, row in self._objects() for key in row))
        if not self.header:
            raise DataError(f"{self.name} is empty", _EXAMPLE)

    def blocks(self) -> Iterator[tuple[list[int], list[list[str]]]]:
        lines: list[int] = []
        columns: list[list[str]] = [[] for _ in self.header]
        for line, row in self._objects():
            lines.append(line)
            for name, column in zip(self.header, columns, strict=True):
                column.append(to_cell(row.get(name)))
            if len(lines) == BLOCK:
                yield lines, columns
                lines, columns = [], [[] for _ in self.header]
        if lines:
            yield lines, columns

    def _objects(self) -> Iterator[tuple[int, dict[str, Any]]]:
        errors = RowErrors(self.name, _EXAMPLE)
        for number, text in enumerate(self.lines(), 1):
            if not text.strip():
                continue
            try:
                row = json.loads(text)
                if "\\ud" in text.lower():
                    json.dumps(row, ensure_ascii=False).encode()
            except UnicodeEncodeError:
                errors.add("half of a surrogate pair, which is no text", number)
            except ValueError as e:
                errors.add("no JSON", number, str(e))
            except RecursionError:
                errors.add("nested too deeply", number)
            else:
                if isinstance(row, dict):
                    yield number, row
                else:
                    errors.add("no JSON object", number, text.strip()[:40])
        errors.raise_if_any()
