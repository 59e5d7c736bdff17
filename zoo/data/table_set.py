"""A data set made of tables: one that holds all, or one for each part."""

from __future__ import annotations

from dataclasses import dataclass, replace

from zoo.data.cells import Cells
from zoo.data.columns import Columns
from zoo.data.decode import shown
from zoo.data.file_source import Found, Parts
from zoo.data.source import TRAIN_NAMES, VAL_NAMES
from zoo.data.table import table_eval, table_parts
from zoo.errors import DataError

__all__ = ["TableSet"]


@dataclass(frozen=True)
class TableSet:
    """name: of the data set. source: what the user calls it. parts: the table of each part, by its name in lower case;
    a table that does not lie in a part of its own is under ""."""

    name: str
    source: str
    parts: dict[str, Cells]

    def open(self, val: TableSet | None, *, columns: Columns, task: str, channels: int, skip_unreadable: bool) -> Parts:
        """As `table_parts`, with the validation part of `val` or of this set, if there is one."""
        train = self._first(("", *TRAIN_NAMES))
        if train is None and len(self.parts) == 1 and not set(self.parts) & set(VAL_NAMES):
            (train,) = self.parts.values()  # all that there is, whatever it is called
        if train is None:
            raise DataError(
                f"{shown(self.source)} holds {', '.join(self.parts)} but no train", "name the training table itself"
            )
        held_out = val.for_evaluation if val is not None else self._first(VAL_NAMES)
        found = table_parts(
            train, held_out, columns=columns, task=task, channels=channels, skip_unreadable=skip_unreadable
        )
        unused = [p for p, cells in self.parts.items() if cells is not train and cells is not held_out]
        notes = (f"not used: {', '.join(unused)} of {shown(self.source)}",) if unused else ()
        return replace(found, name=self.name, notes=(*found.notes, *notes))

    def evaluate(
        self,
        classes: tuple[str, ...],
        split: str | None,
        *,
        columns: Columns,
        task: str,
        channels: int,
        skip_unreadable: bool,
    ) -> Found:
        """As `table_eval`, of the part `split`, else of the validation part, else of the only one."""
        cells: Cells | None = self.for_evaluation
        if split is not None and "" not in self.parts:
            cells = self.parts.get(split.lower())
            if cells is None:
                raise DataError(f"{shown(self.source)} has no part {split!r}", f"it has {', '.join(self.parts)}")
            split = None
        return table_eval(
            self.for_evaluation if cells is None else cells,
            classes,
            columns=columns,
            task=task,
            split=split,
            channels=channels,
            skip_unreadable=skip_unreadable,
        )

    @property
    def for_evaluation(self) -> Cells:
        return self._first((*VAL_NAMES, "")) or next(iter(self.parts.values()))

    def _first(self, names: tuple[str, ...]) -> Cells | None:
        return next((self.parts[n] for n in names if n in self.parts), None)
