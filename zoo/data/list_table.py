"""A .txt file with a path a line as a table of two columns, `path` and `label`.

Of a line with a tab the path is what stands before the first one, and the label what follows. Of any other the path
goes up to the first space behind an image's ending (`my photo.jpg 3`), or is the whole line where it ends in one; the
rest is the label. If no line has a label, it is the name of the folder that the image lies in.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator

from zoo.data.decode import EXTENSIONS, is_image_name
from zoo.data.text_file import BLOCK, TextFile
from zoo.data.text_table import Troubles
from zoo.errors import DataError

__all__ = ["ListTable"]

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
        troubles = Troubles(self.name, "each line is a path, or a path, a tab and its label")
        for number, text in enumerate(self.lines(), 1):
            line = text.strip()
            if line:
                found = _divided(line)
                if found is None:
                    troubles.add("no path with an image's ending", number, line[:60])
                else:
                    yield number, found
        troubles.refuse()


def _divided(line: str) -> tuple[str, str] | None:
    """(path, label or "")"""
    path, tab, label = line.partition("\t")
    if tab:
        return path.strip(), label.strip()
    divided = _PATH.fullmatch(line)
    if divided:
        return divided[1], divided[2]
    return (line, "") if is_image_name(line) else None
