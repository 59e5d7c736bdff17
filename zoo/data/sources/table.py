"""Tables of images and labels, in any format (`TableReader`)."""

from __future__ import annotations

import os
from abc import abstractmethod
from array import array
from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from itertools import compress
from typing import NoReturn

import numpy as np

from zoo.data.dataset import SPLIT_NAMES, TRAIN_SPLIT_NAMES, VAL_SPLIT_NAMES, StringTable, flips_safe
from zoo.data.decode.errors import printable
from zoo.data.file_dataset import FileDataset, OpenedFiles
from zoo.data.schema.cells import RowErrors, TableReader
from zoo.data.schema.column_stats import read_column_stats
from zoo.data.schema.columns import Columns, infer_columns
from zoo.data.schema.infer_task import infer_task, make_label_reader
from zoo.data.schema.labels import GroupReader, TagReader
from zoo.data.schema.rows import TableRows
from zoo.data.sources.source import (
    EvalImages,
    OpenOptions,
    Source,
    SourceSplits,
    describe_given_splits,
    find_source,
    require_known_classes,
    require_two_classes,
)
from zoo.errors import DataError, UsageError, nearest
from zoo.tasks import get_task


def open_table_train(cells: TableReader, val: TableReader | None, options: OpenOptions) -> SourceSplits:
    """The training rows of a table, and its validation rows or those of the table `val`, if there are any.

    Raises DataError: what `Table` raises, a class only in validation, an image in both splits.
    """
    columns = options.columns
    table = Table(cells, columns, options.task)
    found = table.read(table.train_splits, options)
    one_class_each = get_task(table.task).has_one_class_per_image
    if one_class_each:
        require_two_classes(found.source, table.name)
    notes = [table.rule, *found.notes]
    held_out = None
    rule = ""
    if val is not None:
        group = columns.group if columns.group in val.header else None
        named = replace(columns, labels=table.label_names, split=None, group=group)
        other = Table(val, named, table.task, reference=table)
        held_out = other.read(None, options)
        unused, where = table.val_splits, other.name
    else:
        if table.val_splits:
            held_out = table.read(table.val_splits[:1], options)
        unused, where = table.val_splits[1:], f"{table.name}, {table.val_splits[0] if table.val_splits else ''}"
    if unused:
        notes.append(f"not used: rows of {', '.join(unused)} in column {table.split_name!r}")
    if held_out is not None:
        notes += [f"{where}: {n}" for n in held_out.notes]
        _require_disjoint(found.source, held_out.source, table.name, where)
        if one_class_each:
            require_known_classes(held_out.source, found.source, f"{where} has")
        notes += _shared_groups(found.source, held_out.source, columns.group)
        rule = describe_given_splits(found.source, f"in {table.name}", held_out.source, f"in {where}")
    return SourceSplits(
        name=found.source.name,
        where=table.name,
        task=table.task,
        train=found.source,
        val=held_out.source if held_out else None,
        rule=rule,
        problems=(*found.bad, *(held_out.bad if held_out else ())),
        notes=tuple(notes),
        flips_ok=flips_safe(found.source.classes),
    )


def open_table_eval(
    cells: TableReader, split: str | None, classes: tuple[str, ...], options: OpenOptions
) -> OpenedFiles:
    """The rows of `split`; None: of the validation (or test) split, or all rows if the table has no splits."""
    columns = options.columns
    table = Table(cells, replace(columns, group=None), options.task, classes)
    if split is not None:
        if split.lower() not in table.splits:
            close = nearest(split, table.splits)
            has = (
                f"it has {', '.join(close or table.splits)}" if table.splits else "name its column with --split-column"
            )
            raise DataError(f"{table.name} has no rows of split {split!r}", has)
        wanted: Sequence[str] | None = (split.lower(),)
    else:
        wanted = table.val_splits[:1] if table.splits else None
        if table.splits and not wanted:
            raise DataError(
                f"{table.name} has rows of {', '.join(table.splits)} but of neither val nor test",
                "give another table, or name the split with --split",
            )
    found = table.read(wanted, options)
    if not get_task(options.task).has_classes and len(classes) == len(columns.labels) == 1:
        # The user names the column of the only target; the model may know it by another name.
        return replace(found, source=replace(found.source, classes=classes))
    return found


class Table:
    """A table after its first reading: the roles of its columns, the task, and the splits.

    Args:
        cells: the table.
        columns: names of columns; the rest is inferred.
        task: name of a task, or "auto".
        classes: names of a model's classes, labels or targets, which may be columns of the table.
        reference: the training table; its labels and group numbers are used here too.

    Raises:
        DataError, UsageError: as `infer_columns` and `infer_task`; values of the split column that are no split names.
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
        first_labels = ", ".join(map(repr, self.label_names[:4])) + (" …" if len(labels) > 4 else "")
        image = column_stats[self._column_roles.image].name
        self.rule = f"{self.name}: images from column {image!r}, labels from {first_labels}; {why}"
        self.splits: tuple[str, ...] = ()
        self.split_name = ""
        if self._column_roles.split is not None:
            split = column_stats[self._column_roles.split]
            self.split_name = split.name
            values = {v.lower() for v in split.values or ("",)}
            if split.empty or not values <= set(SPLIT_NAMES):
                self._reject_split_column(self._column_roles.split)
            self.splits = tuple(sorted(values, key=SPLIT_NAMES.index))

    @property
    def train_splits(self) -> tuple[str, ...] | None:
        """Names of the training splits; None: all rows. Raises DataError if there are splits, but none for training."""
        if not self.splits:
            return None
        found = tuple(s for s in self.splits if s in TRAIN_SPLIT_NAMES)
        if not found:
            raise DataError(
                f"column {self.split_name!r} of {self.name} has the values {', '.join(self.splits)} but no train",
                "write train in the training rows, or name the column with --split-column NAME",
            )
        return found

    @property
    def val_splits(self) -> tuple[str, ...]:
        """Names of the validation splits, best first."""
        return tuple(s for s in self.splits if s in VAL_SPLIT_NAMES)

    def read(self, splits: Collection[str] | None, options: OpenOptions) -> OpenedFiles:
        """The rows of `splits`, or all rows: targets, and verified images.

        Raises DataError with line numbers: cells without a path or label, invalid labels, rows that contradict each
        other, missing and unreadable files (the last two are left out under `options.skip_unreadable`).
        """
        names, lines = StringTable(), array("q")
        reader = make_label_reader(self._labels, self.task, self._separator)
        unit = self._cells.unit
        errors = RowErrors(self.name, f"fix or remove these {unit}s", unit)
        for at, cells in self._cells.blocks():
            if splits is not None and self._column_roles.split is not None:
                wanted = [value.lower() in splits for value in cells[self._column_roles.split]]
                at = list(compress(at, wanted))  # noqa: PLW2901
                cells = [tuple(compress(column, wanted)) for column in cells]  # noqa: PLW2901
            paths = cells[self._column_roles.image]
            if "" in paths:
                for line, path in zip(at, paths, strict=True):
                    if not path:
                        errors.add("no image path", line)
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
        bad, sizes, inside = rows.check_images(
            self._cells.folder, skip_unreadable=options.skip_unreadable, channels=options.channels
        )
        source = FileDataset(
            name=os.path.splitext(self.name)[0],
            root=self._cells.folder,
            classes=classes,
            names=rows.names,
            targets=rows.targets,
            sizes=sizes,
            channels=options.channels,
            skip_unreadable=options.skip_unreadable,
            labels_in_names=False,
            packed=inside.images if inside else None,
            shards=inside.shards if inside else None,
            groups=rows.groups,
        )
        return OpenedFiles(source, bad, (), notes)

    def _reject_split_column(self, column: int) -> NoReturn:
        errors = RowErrors(self.name, f"every row needs one of {', '.join(SPLIT_NAMES)}", self._cells.unit)
        for lines, cells in self._cells.blocks():
            for line, value in zip(lines, cells[column], strict=True):
                if not value:
                    errors.add(f"no split in column {self.split_name!r}", line)
                elif value.lower() not in SPLIT_NAMES:
                    errors.add(f"unknown split in column {self.split_name!r}", line, value)
        errors.raise_if_any()
        raise DataError(f"{self.name} changed during reading", "try again")


def _require_disjoint(train: FileDataset, val: FileDataset, train_name: str, val_name: str) -> None:
    """Raises DataError if an image is in both splits."""
    held_out = {os.path.normpath(val.where(i)) for i in range(len(val))}
    both = [p for p in (os.path.normpath(train.where(i)) for i in range(len(train))) if p in held_out]
    if both:
        raise DataError(
            f"{len(both):,} {'image is' if len(both) == 1 else 'images are'} in both training ({train_name}) and "
            f"validation ({val_name}), such as {printable(both[0])}",
            "remove them from one of the two",
        )


def _shared_groups(train: FileDataset, val: FileDataset, column: str | None) -> list[str]:
    """A sentence on groups with images in both splits, if there are any."""
    if train.groups is None or val.groups is None:
        return []
    both = len(np.intersect1d(train.groups, val.groups))
    return [f"{both:,} groups of column {column!r} have images in both training and validation"] if both else []


@dataclass(frozen=True)
class TableSet:
    """The tables of a source."""

    name: str
    source: str  # the source as the user wrote it
    tables: dict[str, TableReader]  # split in lower case -> table; "" for a table that belongs to no split

    @property
    def train(self) -> TableReader:
        """The table to train on. Raises DataError if there is none."""
        found = self._first(("", *TRAIN_SPLIT_NAMES))
        if found is None and len(self.tables) == 1 and not set(self.tables) & set(VAL_SPLIT_NAMES):
            (found,) = self.tables.values()  # the only table, whatever its name
        if found is None:
            raise DataError(
                f"{printable(self.source)} has the splits {', '.join(self.tables)} but no train",
                "name the training table itself",
            )
        return found

    @property
    def val(self) -> TableReader | None:
        return self._first(VAL_SPLIT_NAMES)

    @property
    def for_evaluation(self) -> TableReader:
        return self._first((*VAL_SPLIT_NAMES, "")) or next(iter(self.tables.values()))

    def _first(self, names: tuple[str, ...]) -> TableReader | None:
        return next((self.tables[n] for n in names if n in self.tables), None)


class TabularSource(Source):
    """A source that is read as one table, or as one per split."""

    @abstractmethod
    def open_tables(self, source: str) -> TableSet:
        """Raises DataError if the tables cannot be read."""

    def open_train(self, source: str, val: str | None, options: OpenOptions) -> SourceSplits:
        tables = self.open_tables(source)
        train, held_out = tables.train, tables.val
        if val is not None:
            other = find_source(val)
            if not isinstance(other, TabularSource):
                raise UsageError(
                    f"{printable(source)} is a table, but --val {printable(val)} is not", "give a table for both"
                )
            held_out = other.open_tables(val).for_evaluation
        found = open_table_train(train, held_out, options)
        unused = [split for split, cells in tables.tables.items() if cells is not train and cells is not held_out]
        notes = (f"not used: {', '.join(unused)} of {printable(source)}",) if unused else ()
        return replace(found, name=tables.name, notes=(*found.notes, *notes))

    def open_eval(self, source: str, split: str | None, classes: tuple[str, ...], options: OpenOptions) -> EvalImages:
        tables = self.open_tables(source)
        cells = tables.for_evaluation
        if split is not None and "" not in tables.tables:
            if split.lower() not in tables.tables:
                raise DataError(f"{printable(source)} has no split {split!r}", f"it has {', '.join(tables.tables)}")
            cells, split = tables.tables[split.lower()], None
        found = open_table_eval(cells, split, classes, options)
        return EvalImages(found.source, found.problems)
