"""Tables of images and labels as a source, whatever they are written in (`TableReader`)."""

from __future__ import annotations

import os
from array import array
from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from itertools import compress
from typing import NoReturn

import numpy as np

from zoo.data.dataset import SPLIT_NAMES, TRAIN_SPLIT_NAMES, VAL_SPLIT_NAMES, flips_safe
from zoo.data.decode.read import printable
from zoo.data.file_dataset import FileDataset, OpenedDataset, SourceSplits
from zoo.data.schema.cells import TableReader
from zoo.data.schema.column_stats import read_column_stats
from zoo.data.schema.columns import Columns, infer_columns
from zoo.data.schema.infer_task import infer_task, make_label_reader
from zoo.data.schema.labels import GroupReader, TagReader, format_list
from zoo.data.schema.row_errors import RowErrors
from zoo.data.schema.rows import TableRows
from zoo.data.string_table import StringTable
from zoo.errors import DataError, nearest
from zoo.tasks import get_task, target_kind

__all__ = ["Table", "TableSet", "open_table_eval", "open_table_train"]


def open_table_train(
    cells: TableReader, val: TableReader | None, *, columns: Columns, task: str, channels: int, skip_unreadable: bool
) -> SourceSplits:
    """The training rows of a table, and its validation rows or those of the table `val`, if there are any.

    Raises DataError: what `Table` refuses, a class only in validation, an image in both.
    """
    table = Table(cells, columns, task)
    found = table.read(table.train_splits, channels=channels, skip_unreadable=skip_unreadable)
    if get_task(table.task).has_one_class_per_image and len(found.source.classes) < 2:
        raise DataError(
            f"one class only in {table.name}: {format_list(found.source.classes)}", "a classifier needs two"
        )
    notes = [table.rule, *found.notes]
    held_out = None
    rule = ""
    if val is not None:
        group = columns.group if columns.group in val.header else None
        named = replace(columns, labels=table.label_names, split=None, group=group)
        other = Table(val, named, table.task, reference=table)
        held_out = other.read(None, channels=channels, skip_unreadable=skip_unreadable)
        unused, where = table.val_splits, other.name
    else:
        if table.val_splits:
            held_out = table.read(table.val_splits[:1], channels=channels, skip_unreadable=skip_unreadable)
        unused, where = table.val_splits[1:], f"{table.name}, {table.val_splits[0] if table.val_splits else ''}"
    if unused:
        notes.append(f"not used: rows of {', '.join(unused)} in column {table.split_name!r}")
    if held_out is not None:
        notes += [f"{where}: {n}" for n in held_out.notes]
        _require_disjoint(found.source, held_out.source, table.name, where)
        if get_task(table.task).has_one_class_per_image:
            _require_known(held_out.source, found.source.classes, where)
        notes += _shared_groups(found.source, held_out.source, columns.group)
        rule = (
            f"as given: {len(found.source):,} images of {table.name} for training, {len(held_out.source):,} of "
            f"{where} for validation"
        )
    return SourceSplits(
        name=found.source.name,
        task=table.task,
        train=found.source,
        val=held_out.source if held_out else None,
        rule=rule,
        problems=(*found.bad, *(held_out.bad if held_out else ())),
        notes=tuple(notes),
        where=table.name,
        flips_ok=flips_safe(found.source.classes),
    )


def open_table_eval(
    cells: TableReader,
    classes: tuple[str, ...],
    *,
    columns: Columns,
    task: str,
    split: str | None,
    channels: int,
    skip_unreadable: bool,
) -> OpenedDataset:
    """The rows of part `split`; if that is None those of its validation (or test) part, or all if it has no parts."""
    table = Table(cells, replace(columns, group=None), task, classes)
    if split is not None:
        if split.lower() not in table.parts:
            close = nearest(split, table.parts)
            has = f"it has {', '.join(close or table.parts)}" if table.parts else "name its column with --split-column"
            raise DataError(f"{table.name} has no rows of a part {split!r}", has)
        wanted: Sequence[str] | None = (split.lower(),)
    else:
        wanted = table.val_splits[:1] if table.parts else None
        if table.parts and not wanted:
            raise DataError(
                f"{table.name} has rows of {', '.join(table.parts)} but of neither val nor test",
                "give another table, or name the part with --split",
            )
    found = table.read(wanted, channels=channels, skip_unreadable=skip_unreadable)
    if target_kind(task) == "values" and len(classes) == len(columns.labels) == 1:
        # The user names the column of the one target; the model may know it by another name.
        return replace(found, source=replace(found.source, classes=classes))
    return found


class Table:
    """A table after its first reading: which columns serve what, the task, and the parts that it tells apart.

    `rule` is a sentence of that. `classes` are a model's: its labels or targets may be columns of the table.
    reference: the training table, whose way to read labels and whose numbers of groups hold here too. Raises
    DataError and UsageError as `infer_columns` and `infer_task` do, and if the split column holds anything but names
    of parts.
    """

    def __init__(
        self,
        cells: TableReader,
        columns: Columns,
        task: str,
        classes: tuple[str, ...] | None = None,
        *,
        reference: Table | None = None,
    ) -> None:
        self._cells = cells
        self.name = cells.name
        column_stats, rows = read_column_stats(cells)
        self._column_roles = infer_columns(column_stats, columns, table=self.name, task=task, classes=classes)
        self.label_names = tuple(column_stats[i].name for i in self._column_roles.labels)
        self._labels = labels = [column_stats[i] for i in self._column_roles.labels]
        self.task, why = infer_task(labels, rows, columns, table=self.name, task=task)
        self._separator = columns.separator
        self.groups: GroupReader | None = None
        if columns.group is not None:
            self.groups = reference.groups if reference is not None else GroupReader(columns.group)
        if reference is not None:
            self._labels = reference._labels
        few = ", ".join(map(repr, self.label_names[:4])) + (" …" if len(labels) > 4 else "")
        self.rule = (
            f"{self.name}: images from column {column_stats[self._column_roles.image].name!r}, labels from {few}; {why}"
        )
        self.parts: tuple[str, ...] = ()
        self.split_name = ""
        if self._column_roles.split is not None:
            split = column_stats[self._column_roles.split]
            self.split_name = split.name
            values = {v.lower() for v in split.values or ("",)}
            if split.empty or not values <= set(SPLIT_NAMES):
                self._reject_split_column(self._column_roles.split)
            self.parts = tuple(sorted(values, key=SPLIT_NAMES.index))

    @property
    def train_splits(self) -> tuple[str, ...] | None:
        """None: all rows. Raises DataError if the table has parts, and none of them is for training."""
        if not self.parts:
            return None
        found = tuple(p for p in self.parts if p in TRAIN_SPLIT_NAMES)
        if not found:
            raise DataError(
                f"column {self.split_name!r} of {self.name} holds {', '.join(self.parts)} but no train",
                "call the training rows train, or name the column with --split-column NAME",
            )
        return found

    @property
    def val_splits(self) -> tuple[str, ...]:
        """The parts to validate on, best first."""
        return tuple(p for p in self.parts if p in VAL_SPLIT_NAMES)

    def read(self, parts: Collection[str] | None, *, channels: int, skip_unreadable: bool) -> OpenedDataset:
        """The rows of `parts`, all if None: labels, and images that have been looked at as in a folder.

        Raises DataError that lists with line numbers: cells without a path or label, labels that are none, rows that
        contradict each other, missing and unreadable files (the last two are left out with `skip_unreadable`).
        """
        names, lines = StringTable(), array("q")
        reader = make_label_reader(self._labels, self.task, self._separator)
        unit = self._cells.unit
        errors = RowErrors(self.name, f"mend these {unit}s, or leave them out of the table", unit)
        for at, cells in self._cells.blocks():
            if parts is not None and self._column_roles.split is not None:
                wanted = [part.lower() in parts for part in cells[self._column_roles.split]]
                at = list(compress(at, wanted))  # noqa: PLW2901
                cells = [tuple(compress(column, wanted)) for column in cells]  # noqa: PLW2901
            paths = cells[self._column_roles.image]
            if "" in paths:
                for line, path in zip(at, paths, strict=True):
                    if not path:
                        errors.add("no path of an image", line)
            names.extend(paths)
            lines.extend(at)
            reader.add(at, [cells[i] for i in self._column_roles.labels], errors)
            if self.groups is not None and self._column_roles.group is not None:
                self.groups.add(at, cells[self._column_roles.group], errors)
        errors.raise_if_any()
        classes, targets = reader.finish()
        rows = TableRows(
            where=self.name,
            names=names,
            lines=np.array(lines, dtype=np.int64),
            targets=targets,
            groups=None if self.groups is None else self.groups.finish(),
            unit=unit,
            stored=self._cells.images.get(self._cells.header[self._column_roles.image]),
        )
        notes = rows.merge(self.task, combine_labels=isinstance(reader, TagReader))
        bad, sizes, inside = rows.check_images(self._cells.folder, skip_unreadable=skip_unreadable, channels=channels)
        source = FileDataset(
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
        return OpenedDataset(source, bad, (), notes)

    def _reject_split_column(self, column: int) -> NoReturn:
        errors = RowErrors(self.name, f"every row needs a part: {', '.join(SPLIT_NAMES)}", self._cells.unit)
        for lines, cells in self._cells.blocks():
            for line, part in zip(lines, cells[column], strict=True):
                if not part:
                    errors.add(f"no part in column {self.split_name!r}", line)
                elif part.lower() not in SPLIT_NAMES:
                    errors.add(f"no known part in column {self.split_name!r}", line, part)
        errors.raise_if_any()
        raise DataError(f"{self.name} changed while it was read", "try again")


def _require_disjoint(train: FileDataset, val: FileDataset, train_name: str, val_name: str) -> None:
    """Raises DataError if an image is in both: it would be judged on what it has learned by heart."""
    held_out = {os.path.normpath(val.where(i)) for i in range(len(val))}
    both = [p for p in (os.path.normpath(train.where(i)) for i in range(len(train))) if p in held_out]
    if both:
        raise DataError(
            f"{len(both):,} {'image is' if len(both) == 1 else 'images are'} in both training ({train_name}) and "
            f"validation ({val_name}), such as {printable(both[0])}",
            "take them out of one of the two",
        )


def _shared_groups(train: FileDataset, val: FileDataset, column: str | None) -> list[str]:
    """A sentence about groups with images in both, if there are such."""
    if train.groups is None or val.groups is None:
        return []
    both = len(np.intersect1d(train.groups, val.groups))
    return [f"{both:,} groups of column {column!r} have images in both training and validation"] if both else []


def _require_known(val: FileDataset, classes: tuple[str, ...], where: str) -> None:
    unknown = [c for c in val.classes if c not in set(classes)]
    if unknown:
        raise DataError(
            f"{where} holds classes without an image for training: {format_list(unknown)}",
            "add training images of them, or leave them out",
        )


@dataclass(frozen=True)
class TableSet:
    """name: of the data set. source: what the user calls it. parts: the table of each part, by its name in lower case;
    a table that does not lie in a part of its own is under ""."""

    name: str
    source: str
    parts: dict[str, TableReader]

    def open(
        self, val: TableSet | None, *, columns: Columns, task: str, channels: int, skip_unreadable: bool
    ) -> SourceSplits:
        """As `open_table_train`, with the validation part of `val` or of this set, if there is one."""
        train = self._first(("", *TRAIN_SPLIT_NAMES))
        if train is None and len(self.parts) == 1 and not set(self.parts) & set(VAL_SPLIT_NAMES):
            (train,) = self.parts.values()  # all that there is, whatever it is called
        if train is None:
            raise DataError(
                f"{printable(self.source)} holds {', '.join(self.parts)} but no train", "name the training table itself"
            )
        held_out = val.for_evaluation if val is not None else self._first(VAL_SPLIT_NAMES)
        found = open_table_train(
            train, held_out, columns=columns, task=task, channels=channels, skip_unreadable=skip_unreadable
        )
        unused = [p for p, cells in self.parts.items() if cells is not train and cells is not held_out]
        notes = (f"not used: {', '.join(unused)} of {printable(self.source)}",) if unused else ()
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
    ) -> OpenedDataset:
        """As `open_table_eval`, of the part `split`, else of the validation part, else of the only one."""
        cells: TableReader | None = self.for_evaluation
        if split is not None and "" not in self.parts:
            cells = self.parts.get(split.lower())
            if cells is None:
                raise DataError(f"{printable(self.source)} has no part {split!r}", f"it has {', '.join(self.parts)}")
            split = None
        return open_table_eval(
            self.for_evaluation if cells is None else cells,
            classes,
            columns=columns,
            task=task,
            split=split,
            channels=channels,
            skip_unreadable=skip_unreadable,
        )

    @property
    def for_evaluation(self) -> TableReader:
        return self._first((*VAL_SPLIT_NAMES, "")) or next(iter(self.parts.values()))

    def _first(self, names: tuple[str, ...]) -> TableReader | None:
        return next((self.parts[n] for n in names if n in self.parts), None)
