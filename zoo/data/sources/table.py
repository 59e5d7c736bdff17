"""Tables of images and labels as a source, whatever they are written in (`Cells`)."""

from __future__ import annotations

import os
from array import array
from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from itertools import compress
from typing import NoReturn

import numpy as np

from zoo.data.dataset import PARTS, TRAIN_NAMES, VAL_NAMES, flips_safe
from zoo.data.decode.read import shown
from zoo.data.file_dataset import FileSource, Found, Parts
from zoo.data.schema.cells import Cells
from zoo.data.schema.column_stats import survey
from zoo.data.schema.columns import Columns, choose
from zoo.data.schema.infer_task import decide, reader_of
from zoo.data.schema.labels import Groups, Tags, listed
from zoo.data.schema.row_errors import Troubles
from zoo.data.schema.rows import Rows
from zoo.data.string_table import StringTable
from zoo.errors import DataError, nearest

__all__ = ["Table", "TableSet", "table_eval", "table_parts"]


def table_parts(
    cells: Cells, val: Cells | None, *, columns: Columns, task: str, channels: int, skip_unreadable: bool
) -> Parts:
    """The training rows of a table, and its validation rows or those of the table `val`, if there are any.

    Raises DataError: what `Table` refuses, a class only in validation, an image in both.
    """
    table = Table(cells, columns, task)
    found = table.read(table.train_parts, channels=channels, skip_unreadable=skip_unreadable)
    if table.task == "single-label" and len(found.source.classes) < 2:
        raise DataError(f"one class only in {table.name}: {listed(found.source.classes)}", "a classifier needs two")
    notes = [table.rule, *found.notes]
    held_out = None
    rule = ""
    if val is not None:
        group = columns.group if columns.group in val.header else None
        named = replace(columns, labels=table.label_names, split=None, group=group)
        other = Table(val, named, table.task, like=table)
        held_out = other.read(None, channels=channels, skip_unreadable=skip_unreadable)
        unused, where = table.val_parts, other.name
    else:
        if table.val_parts:
            held_out = table.read(table.val_parts[:1], channels=channels, skip_unreadable=skip_unreadable)
        unused, where = table.val_parts[1:], f"{table.name}, {table.val_parts[0] if table.val_parts else ''}"
    if unused:
        notes.append(f"not used: rows of {', '.join(unused)} in column {table.split_name!r}")
    if held_out is not None:
        notes += [f"{where}: {n}" for n in held_out.notes]
        _require_apart(found.source, held_out.source, table.name, where)
        if table.task == "single-label":
            _require_known(held_out.source, found.source.classes, where)
        notes += _torn(found.source, held_out.source, columns.group)
        rule = (
            f"as given: {len(found.source):,} images of {table.name} for training, {len(held_out.source):,} of "
            f"{where} for validation"
        )
    return Parts(
        name=found.source.name,
        task=table.task,
        train=found.source,
        val=held_out.source if held_out else None,
        rule=rule,
        problems=(*found.bad, *(held_out.bad if held_out else ())),
        notes=tuple(notes),
        where=table.name,
        mirrors=flips_safe(found.source.classes),
    )


def table_eval(
    cells: Cells,
    classes: tuple[str, ...],
    *,
    columns: Columns,
    task: str,
    split: str | None,
    channels: int,
    skip_unreadable: bool,
) -> Found:
    """The rows of part `split`; if that is None those of its validation (or test) part, or all if it has no parts."""
    table = Table(cells, replace(columns, group=None), task, classes)
    if split is not None:
        if split.lower() not in table.parts:
            close = nearest(split, table.parts)
            has = f"it has {', '.join(close or table.parts)}" if table.parts else "name its column with --split-column"
            raise DataError(f"{table.name} has no rows of a part {split!r}", has)
        wanted: Sequence[str] | None = (split.lower(),)
    else:
        wanted = table.val_parts[:1] if table.parts else None
        if table.parts and not wanted:
            raise DataError(
                f"{table.name} has rows of {', '.join(table.parts)} but of neither val nor test",
                "give another table, or name the part with --split",
            )
    found = table.read(wanted, channels=channels, skip_unreadable=skip_unreadable)
    if task == "regression" and len(classes) == len(columns.labels) == 1:
        # The user names the column of the one target; the model may know it by another name.
        return replace(found, source=replace(found.source, classes=classes))
    return found


class Table:
    """A table after its first reading: which columns serve what, the task, and the parts that it tells apart.

    `rule` is a sentence of that. `classes` are a model's: its labels or targets may be columns of the table. like: the
    training table, whose way to read labels and whose numbers of groups hold here too. Raises
    DataError and UsageError as `choose` and `decide` do, and if the split column holds anything but names of parts.
    """

    def __init__(
        self,
        cells: Cells,
        columns: Columns,
        task: str,
        classes: tuple[str, ...] | None = None,
        *,
        like: Table | None = None,
    ) -> None:
        self._cells = cells
        self.name = cells.name
        facts, rows = survey(cells)
        self._roles = choose(facts, columns, table=self.name, task=task, classes=classes)
        self.label_names = tuple(facts[i].name for i in self._roles.labels)
        self._labels = labels = [facts[i] for i in self._roles.labels]
        self.task, why = decide(labels, rows, columns, table=self.name, task=task)
        self._separator = columns.separator
        self.groups: Groups | None = None
        if columns.group is not None:
            self.groups = like.groups if like is not None else Groups(columns.group)
        if like is not None:
            self._labels = like._labels
        few = ", ".join(map(repr, self.label_names[:4])) + (" …" if len(labels) > 4 else "")
        self.rule = f"{self.name}: images from column {facts[self._roles.image].name!r}, labels from {few}; {why}"
        self.parts: tuple[str, ...] = ()
        self.split_name = ""
        if self._roles.split is not None:
            split = facts[self._roles.split]
            self.split_name = split.name
            values = {v.lower() for v in split.values or ("",)}
            if split.empty or not values <= set(PARTS):
                self._refuse_parts(self._roles.split)
            self.parts = tuple(sorted(values, key=PARTS.index))

    @property
    def train_parts(self) -> tuple[str, ...] | None:
        """None: all rows. Raises DataError if the table has parts, and none of them is for training."""
        if not self.parts:
            return None
        found = tuple(p for p in self.parts if p in TRAIN_NAMES)
        if not found:
            raise DataError(
                f"column {self.split_name!r} of {self.name} holds {', '.join(self.parts)} but no train",
                "call the training rows train, or name the column with --split-column NAME",
            )
        return found

    @property
    def val_parts(self) -> tuple[str, ...]:
        """The parts to validate on, best first."""
        return tuple(p for p in self.parts if p in VAL_NAMES)

    def read(self, parts: Collection[str] | None, *, channels: int, skip_unreadable: bool) -> Found:
        """The rows of `parts`, all if None: labels, and images that have been looked at as in a folder.

        Raises DataError that lists with line numbers: cells without a path or label, labels that are none, rows that
        contradict each other, missing and unreadable files (the last two are left out with `skip_unreadable`).
        """
        names, lines = StringTable(), array("q")
        reader = reader_of(self._labels, self.task, self._separator)
        unit = self._cells.unit
        troubles = Troubles(self.name, f"mend these {unit}s, or leave them out of the table", unit)
        for at, cells in self._cells.blocks():
            if parts is not None and self._roles.split is not None:
                wanted = [part.lower() in parts for part in cells[self._roles.split]]
                at = list(compress(at, wanted))  # noqa: PLW2901
                cells = [tuple(compress(column, wanted)) for column in cells]  # noqa: PLW2901
            paths = cells[self._roles.image]
            if "" in paths:
                for line, path in zip(at, paths, strict=True):
                    if not path:
                        troubles.add("no path of an image", line)
            names.extend(paths)
            lines.extend(at)
            reader.add(at, [cells[i] for i in self._roles.labels], troubles)
            if self.groups is not None and self._roles.group is not None:
                self.groups.add(at, cells[self._roles.group], troubles)
        troubles.refuse()
        classes, targets = reader.finish()
        rows = Rows(
            where=self.name,
            names=names,
            lines=np.array(lines, dtype=np.int64),
            targets=targets,
            groups=None if self.groups is None else self.groups.finish(),
            unit=unit,
            stored=self._cells.images.get(self._cells.header[self._roles.image]),
        )
        notes = rows.merge(self.task, joins=isinstance(reader, Tags))
        bad, sizes, inside = rows.look(self._cells.folder, skip_unreadable=skip_unreadable, channels=channels)
        source = FileSource(
            name=os.path.splitext(self.name)[0],
            root=self._cells.folder,
            classes=classes,
            names=rows.names,
            targets=rows.targets,
            sizes=sizes,
            channels=channels,
            skip_unreadable=skip_unreadable,
            labels_in_names=False,
            packed=inside.images if inside else None,
            shards=inside.shards if inside else None,
            groups=rows.groups,
        )
        return Found(source, bad, (), notes)

    def _refuse_parts(self, column: int) -> NoReturn:
        troubles = Troubles(self.name, f"every row needs a part: {', '.join(PARTS)}", self._cells.unit)
        for lines, cells in self._cells.blocks():
            for line, part in zip(lines, cells[column], strict=True):
                if not part:
                    troubles.add(f"no part in column {self.split_name!r}", line)
                elif part.lower() not in PARTS:
                    troubles.add(f"no known part in column {self.split_name!r}", line, part)
        troubles.refuse()
        raise DataError(f"{self.name} changed while it was read", "try again")


def _require_apart(train: FileSource, val: FileSource, train_name: str, val_name: str) -> None:
    """Raises DataError if an image is in both: it would be judged on what it has learned by heart."""
    held_out = {os.path.normpath(val.where(i)) for i in range(len(val))}
    both = [p for p in (os.path.normpath(train.where(i)) for i in range(len(train))) if p in held_out]
    if both:
        raise DataError(
            f"{len(both):,} {'image is' if len(both) == 1 else 'images are'} in both training ({train_name}) and "
            f"validation ({val_name}), such as {shown(both[0])}",
            "take them out of one of the two",
        )


def _torn(train: FileSource, val: FileSource, column: str | None) -> list[str]:
    """A sentence about groups with images in both, if there are such."""
    if train.groups is None or val.groups is None:
        return []
    both = len(np.intersect1d(train.groups, val.groups))
    return [f"{both:,} groups of column {column!r} have images in both training and validation"] if both else []


def _require_known(val: FileSource, classes: tuple[str, ...], where: str) -> None:
    unknown = [c for c in val.classes if c not in set(classes)]
    if unknown:
        raise DataError(
            f"{where} holds classes without an image for training: {listed(unknown)}",
            "add training images of them, or leave them out",
        )


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
