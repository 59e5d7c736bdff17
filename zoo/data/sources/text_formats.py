"""Text tables: CSV and TSV, JSONL, and lists of files, read in blocks, so that memory does not grow with their length.

Files are UTF-8, with or without a byte order mark. A .tsv file is separated by tabs. Other tables are separated by
commas, or, if the header has none, by semicolons (as spreadsheets write with a decimal comma) or tabs. Spaces around a
cell are removed, and empty rows are skipped.
"""

from __future__ import annotations

import csv
import json
import os
import re
import stat
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from functools import partial
from itertools import islice
from typing import Any

from zoo.data.decode.errors import EXTENSIONS, describe_non_file, is_image_name, printable
from zoo.data.schema.cells import RowErrors, StoredRows, to_cell
from zoo.errors import DataError

BLOCK = 4096  # rows
_MAX_LINE_BYTES = 1 << 20  # a longer line means that the file is no text table


class TextFile:
    """A text file; the part of `TableReader` that all formats share.

    Args:
        path: path of the file.
        kind: name of the format in messages.

    Raises:
        DataError: it is not a file, or cannot be read.
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
        """The lines, with line ends. Raises DataError with the number of a line that is not UTF-8 text."""
        try:
            with open(self.path, "rb") as f:
                for number, raw in enumerate(iter(partial(f.readline, _MAX_LINE_BYTES + 1), b""), 1):
                    yield self._text(raw, number)
        except OSError as e:
            raise self._unreadable(e) from e

    def _text(self, raw: bytes, number: int) -> str:
        save_again = f"save it as {self._kind} in UTF-8"
        if number == 1 and raw.startswith((b"\xff\xfe", b"\xfe\xff")):
            raise DataError(f"{self.name} is UTF-16, not UTF-8", save_again)
        if b"\0" in raw:
            raise DataError(f"{self.name}, line {number}: a NUL byte; this is not a text table", save_again)
        if len(raw) > _MAX_LINE_BYTES:
            raise DataError(f"{self.name}, line {number}: longer than a megabyte; this is not a text table", save_again)
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


def _blocks(rows: Iterable[tuple[int, Sequence[str]]]) -> Iterator[tuple[list[int], list[tuple[str, ...]]]]:
    """(line numbers, cells of every column) of blocks of `rows`, which are (line number, cells)."""
    iterator = iter(rows)
    while block := list(islice(iterator, BLOCK)):
        yield [line for line, _ in block], list(zip(*(cells for _, cells in block), strict=True))


_TABS = (".tsv", ".tab")


class TextTable(TextFile):
    """A CSV or TSV table. Raises DataError if it cannot be read, or has no header or no rows."""

    def __init__(self, path: str) -> None:
        super().__init__(path, "CSV")
        self.delimiter = self._delimiter()
        records = self._records()
        self.header = next(records)[1]
        self._check_header()
        if next(records, None) is None:
            raise DataError(f"{self.name} has a header but no rows", "add one row per image")

    def blocks(self) -> Iterator[tuple[list[int], list[tuple[str, ...]]]]:
        """(line numbers, cells of every column) of blocks of rows. Raises DataError, at the end, if rows have more or
        fewer cells than the header."""
        errors = RowErrors(
            self.name, f"quote cells that contain a {'tab' if self.delimiter == chr(9) else self.delimiter!r}"
        )
        records = self._records()
        next(records)

        def complete() -> Iterator[tuple[int, list[str]]]:
            for line, row in records:
                if len(row) == len(self.header):
                    yield line, row
                else:
                    errors.add(f"{len(row)} cells, but the header has {len(self.header)}", line)

        yield from _blocks(complete())
        errors.raise_if_any()

    def _records(self) -> Iterator[tuple[int, list[str]]]:
        """(first line, stripped cells) of the header and every row that is not empty."""
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
                "fix the line, or save the table as CSV in UTF-8",
            ) from e

    def _delimiter(self) -> str:
        header = next((line for line in self.lines() if line.strip()), None)
        if header is None:
            raise DataError(f"{self.name} is empty", "the first line must name the columns, for example image,label")
        if os.path.splitext(self.path)[1].lower() in _TABS:
            return "\t"
        return next((mark for mark in (",", ";", "\t") if mark in header), ",")

    def _check_header(self) -> None:
        named = [name for name in self.header if name]
        repeated = sorted({name for name in named if named.count(name) > 1})
        if repeated:
            raise DataError(
                f"{self.name} has more than one column {', '.join(map(repr, repeated))}",
                "give each column its own name",
            )
        data = next((name for name in named if is_image_name(name)), None)
        if data is not None:
            raise DataError(
                f"the first line of {self.name} contains {data!r}: data instead of column names",
                "add a first line with the column names, for example image,label",
            )


def _explain(message: str) -> str:
    """The csv module's most frequent errors in plain words."""
    if "field larger" in message:
        return "a cell of more than 131,072 characters, perhaps because a quote is not closed"
    if "unexpected end of data" in message:
        return "a quote that opens here is not closed"
    if "new-line character" in message:
        return "carriage returns as line ends"
    return message


_PATH = re.compile(rf"(.*?(?:{'|'.join(map(re.escape, sorted(EXTENSIONS)))}))\s+(\S.*)", re.IGNORECASE)


class ListTable(TextFile):
    """A list of image paths with optional labels. Raises DataError if it cannot be read or a line has no image path."""

    header = ("path", "label")

    def __init__(self, path: str) -> None:
        super().__init__(path, "text")
        self._labelled = False
        rows = 0
        for _, (_, label) in self._rows():
            rows += 1
            self._labelled = self._labelled or bool(label)
        if not rows:
            raise DataError(f"{self.name} is empty", "each line is an image path, optionally followed by its label")

    def blocks(self) -> Iterator[tuple[list[int], list[tuple[str, ...]]]]:
        yield from _blocks(
            (line, (path, label if self._labelled else self._folder_of(path))) for line, (path, label) in self._rows()
        )

    def _folder_of(self, path: str) -> str:
        return os.path.basename(os.path.dirname(os.path.abspath(os.path.join(self.folder, path))))

    def _rows(self) -> Iterator[tuple[int, tuple[str, str]]]:
        errors = RowErrors(self.name, "each line is a path, or a path, a tab and a label")
        for number, text in enumerate(self.lines(), 1):
            line = text.strip()
            if line:
                found = _split_line(line)
                if found is None:
                    errors.add("no path with an image extension", number, line[:60])
                else:
                    yield number, found
        errors.raise_if_any()


def _split_line(line: str) -> tuple[str, str] | None:
    """(path, label or ""); None if there is no image path."""
    path, tab, label = line.partition("\t")
    if tab:
        return path.strip(), label.strip()
    match = _PATH.fullmatch(line)
    if match:
        return match[1], match[2]
    return (line, "") if is_image_name(line) else None


_EXAMPLE = 'each line is an object, for example {"image": "1.jpg", "label": "cat"}'


class JsonTable(TextFile):
    """A JSONL table. Raises DataError if it cannot be read, or a line is not an object."""

    def __init__(self, path: str) -> None:
        super().__init__(path, "JSONL")
        self.header = list(dict.fromkeys(key for _, row in self._objects() for key in row))
        if not self.header:
            raise DataError(f"{self.name} is empty", _EXAMPLE)

    def blocks(self) -> Iterator[tuple[list[int], list[tuple[str, ...]]]]:
        yield from _blocks((line, [to_cell(row.get(name)) for name in self.header]) for line, row in self._objects())

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
                errors.add("half of a surrogate pair, which is not text", number)
            except ValueError as e:
                errors.add("not JSON", number, str(e))
            except RecursionError:
                errors.add("nested too deeply", number)
            else:
                if isinstance(row, dict):
                    yield number, row
                else:
                    errors.add("not a JSON object", number, text.strip()[:40])
        errors.raise_if_any()
