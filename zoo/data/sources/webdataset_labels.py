"""The labels of a WebDataset's samples: contents of .cls, .txt and .json members → targets of a task.

A label is text, a number, or, in a .json, a list. Lists of equal length with decimal numbers are regression targets;
lists of 0 and 1 have one flag per label; other lists contain the labels of the image. Integers are indices into the
file of class names, if there is one next to the shards.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import Any

from zoo.data.dataset import StringTable, Targets
from zoo.data.schema.cells import LIST, RowErrors
from zoo.data.schema.column_stats import ColumnStats
from zoo.data.schema.columns import Columns
from zoo.data.schema.infer_task import infer_task, make_label_reader
from zoo.tasks import TaskName

# Names of the label in a .json, best first.
LABEL_FIELDS = ("label", "labels", "target", "targets", "class", "classes", "class_name", "category", "tags", "cls")

_BLOCK = 4096


def read_label_cells(data: bytes, extension: str, fields: Sequence[str]) -> list[str | list[str]]:
    """The label in a member with this extension; of a .json one per field. Raises ValueError with the reason."""
    if extension.rpartition(".")[2] != "json":
        return [data.decode("utf-8-sig").strip()]
    try:
        value = json.loads(data)
    except RecursionError:
        raise ValueError("its .json is nested too deeply") from None
    if not isinstance(value, dict):
        return [_cell(value)]
    found = []
    for name in fields or [next((f for f in LABEL_FIELDS if f in value), "")]:
        if name not in value:
            known = ", ".join(map(repr, value)) or "nothing"
            raise ValueError(f"no field {name!r} in its .json" if name else f"no label in its .json, only {known}")
        found.append(_cell(value[name]))
    return found


def _cell(value: Any) -> str | list[str]:
    if isinstance(value, list):
        return [_text(v) for v in value]
    return _text(value)


def _text(value: Any) -> str:
    if isinstance(value, bool):
        return str(int(value))
    if not isinstance(value, str | int | float):
        raise ValueError(f"the label is neither text nor a number: {json.dumps(value)[:40]}")
    return str(value).strip()


@dataclass
class ShardLabels:
    """The labels of all samples so far, one column of cells per field. where: the data in messages."""

    where: str
    names: tuple[str, ...]
    class_names: tuple[str, ...] = ()
    columns: list[StringTable] = field(default_factory=list)

    def add(self, cells: Sequence[str | list[str]]) -> None:
        """Add one sample. Raises ValueError for an integer without a class name."""
        texts = [LIST + LIST.join(map(self._named, c)) if isinstance(c, list) else self._named(c) for c in cells]
        self.columns = self.columns or [StringTable() for _ in texts]
        for column, text in zip(self.columns, texts, strict=True):
            column.append(text)

    def _named(self, text: str) -> str:
        if not self.class_names or not text.isdecimal():
            return text
        if int(text) >= len(self.class_names):
            raise ValueError(f"class {text}, but there are only {len(self.class_names)} class names")
        return self.class_names[int(text)]

    def finish(
        self, task: str, separator: str | None, sample_name: Callable[[int], str]
    ) -> tuple[TaskName, str, tuple[str, ...], Targets]:
        """(task, a sentence on why, classes, targets). sample_name: index -> name in messages. Raises DataError."""
        errors = _SampleErrors(self.where, "fix these samples", sample_name)
        column_stats = [ColumnStats(name) for name in self.names]
        for _, cells in self._blocks():
            for stats, column in zip(column_stats, cells, strict=True):
                stats.update(column)
        given = Columns(separator=separator)
        chosen, why = infer_task(column_stats, len(self.columns[0]), given, table=self.where, task=task)
        reader = make_label_reader(column_stats, chosen, separator, self.class_names)
        for at, cells in self._blocks():
            reader.add(at, cells, errors)
        errors.raise_if_any()
        return chosen, why, *reader.finish()

    def _blocks(self) -> Iterator[tuple[list[int], list[list[str]]]]:
        """(indices of the samples, cells of each column) of blocks of samples."""
        iterators = [iter(c) for c in self.columns]
        start = 0
        while (block := [list(islice(i, _BLOCK)) for i in iterators])[0]:
            yield list(range(start, start + len(block[0]))), block
            start += len(block[0])


class _SampleErrors(RowErrors):
    """Errors in samples, which have names instead of line numbers."""

    def __init__(self, where: str, hint: str, sample_name: Callable[[int], str]) -> None:
        super().__init__(where, hint)
        self._sample_name = sample_name

    def _places(self, lines: list[int], count: int) -> str:
        return ", ".join(map(self._sample_name, lines[:5])) + (f" … ({count:,} in all)" if count > 5 else "")
