"""A text file of lines, in UTF-8 with or without a byte order mark: what tables and lists of files are written in."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Collection, Iterator, Mapping
from functools import partial
from typing import Any

from zoo.data.cells import StoredRows
from zoo.data.decode import not_a_file, shown
from zoo.errors import DataError

__all__ = ["BLOCK", "TextFile"]

BLOCK = 4096  # rows
_LONGEST_LINE = 1 << 20  # bytes; a file without line ends is no table, and would be read whole


class TextFile:
    """The file at `path`, of a kind that users know as `kind`; the part of `Cells` that all of them share.

    Raises DataError if it is no file, or cannot be read.
    """

    unit = "line"
    images: Mapping[str, Callable[[Any], StoredRows]] = {}
    classes: Collection[str] = ()

    def __init__(self, path: str, kind: str) -> None:
        self.path = path
        self.name = shown(os.path.basename(path))
        self.folder = os.path.dirname(path) or os.curdir
        self._kind = kind
        try:
            mode = os.stat(path).st_mode
        except OSError as e:
            raise self._unreadable(e) from e
        if not stat.S_ISREG(mode):
            raise DataError(f"{shown(path)} is {not_a_file(mode)}", f"give the path of a {kind} file")

    def lines(self) -> Iterator[str]:
        """Each with its end. Raises DataError with the number of the line that is no text."""
        try:
            with open(self.path, "rb") as f:
                for number, raw in enumerate(iter(partial(f.readline, _LONGEST_LINE + 1), b""), 1):
                    yield self._text(raw, number)
        except OSError as e:
            raise self._unreadable(e) from e

    def _text(self, raw: bytes, number: int) -> str:
        save_again = f"save it again as {self._kind} in UTF-8"
        if number == 1 and raw.startswith((b"\xff\xfe", b"\xfe\xff")):
            raise DataError(f"{self.name} is UTF-16, not UTF-8", save_again)
        if b"\0" in raw:
            raise DataError(f"{self.name}, line {number}: a NUL byte; this is no text table", save_again)
        if len(raw) > _LONGEST_LINE:
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
        return DataError(f"cannot read {shown(self.path)}: {(error.strerror or str(error)).lower()}")
