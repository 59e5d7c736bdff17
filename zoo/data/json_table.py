"""A JSONL file, one JSON object a line, as a table: its columns are the keys of all its objects.

A value may be text, a number, true or false, null (no value) or a list of those. Hugging Face's metadata.jsonl is one.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from zoo.data.cells import cell_of
from zoo.data.text_file import BLOCK, TextFile
from zoo.data.text_table import Troubles
from zoo.errors import DataError

__all__ = ["JsonTable"]

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
                column.append(cell_of(row.get(name)))
            if len(lines) == BLOCK:
                yield lines, columns
                lines, columns = [], [[] for _ in self.header]
        if lines:
            yield lines, columns

    def _objects(self) -> Iterator[tuple[int, dict[str, Any]]]:
        troubles = Troubles(self.name, _EXAMPLE)
        for number, text in enumerate(self.lines(), 1):
            if not text.strip():
                continue
            try:
                row = json.loads(text)
                if "\\ud" in text.lower():
                    json.dumps(row, ensure_ascii=False).encode()
            except UnicodeEncodeError:
                troubles.add("half of a surrogate pair, which is no text", number)
            except ValueError as e:
                troubles.add("no JSON", number, str(e))
            except RecursionError:
                troubles.add("nested too deeply", number)
            else:
                if isinstance(row, dict):
                    yield number, row
                else:
                    troubles.add("no JSON object", number, text.strip()[:40])
        troubles.refuse()
