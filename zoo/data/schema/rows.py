"""The rows of a table with their targets: repeated images are merged, files are verified."""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass

import numpy as np

from zoo.arrays import Indices
from zoo.data.dataset import BadFile, StringTable, Targets
from zoo.data.decode.errors import printable
from zoo.data.schema.cells import RowErrors, StoredRows
from zoo.data.validate import raise_if_any, verify_files
from zoo.errors import DataError
from zoo.tasks import TaskName, get_task


@dataclass
class TableRows:
    """The rows of a table."""

    where: str  # name of the table in messages
    names: StringTable  # image paths as in the table, or names of stored images
    lines: Indices  # (N,) line numbers
    targets: Targets
    groups: Indices | None = None  # (N,) groups, if there are any
    unit: str = "line"  # word for a row
    # function from line numbers to stored images, if the names are not paths
    stored: Callable[[Indices], StoredRows] | None = None

    def merge(self, task: TaskName, *, combine_labels: bool) -> tuple[str, ...]:
        """Merge the rows of the same image; returns notes. combine_labels: take the union of their labels.

        Raises DataError with the lines if their targets or groups differ otherwise.
        """
        duplicates = {} if self.stored is not None else self._find_duplicates()
        if not duplicates:
            return ()
        hint = "keep one row per image"
        if get_task(task).has_one_class_per_image:
            hint = "if an image may have several labels, use --task multi-label"
        errors = RowErrors(self.where, hint, self.unit)
        for row, first in duplicates.items():
            other = ["group"] if self.groups is not None and self.groups[row] != self.groups[first] else []
            if combine_labels:
                self.targets[first] = np.maximum(self.targets[first], self.targets[row])
            elif not np.array_equal(self.targets[row], self.targets[first]):
                other.append("label")
            for what in other:
                example = f"{self.names[row]} ({self.unit} {self.lines[first]})"
                errors.add(f"an image with another {what} in an earlier {self.unit}", int(self.lines[row]), example)
        errors.raise_if_any()
        self._drop(duplicates)
        count = f"{len(duplicates):,} repeated {'row' if len(duplicates) == 1 else 'rows'} of the same image"
        return (f"{count}: {'labels combined' if combine_labels else 'ignored, the labels are equal'}",)

    def check_images(
        self, folder: str, *, skip_unreadable: bool, channels: int
    ) -> tuple[tuple[BadFile, ...], Indices, StoredRows | None]:
        """Verify the images (`zoo.data.validate`): (files left out, sizes of the others, the others if stored).

        Raises DataError with the missing or unreadable files if they are not to be skipped, or if none is left.
        """
        if self.stored is not None:
            return self._check_stored(self.stored(self.lines), folder, skip_unreadable, channels)
        sizes = np.zeros(len(self.names), dtype=np.int64)
        missing: dict[int, str] = {}
        for i, name in enumerate(self.names):
            try:
                sizes[i] = os.stat(os.path.join(folder, name)).st_size
            except OSError as e:
                missing[i] = (e.strerror or str(e)).lower()
        if missing and (len(missing) == len(sizes) or not skip_unreadable):
            raise self._missing_error(missing, folder)
        bad = self._bad_files(missing, folder)
        sizes = np.delete(sizes, list(missing))
        self._drop(missing)
        damaged = verify_files(folder, self.names, channels=channels)
        bad += self._bad_files(damaged, folder)
        if not skip_unreadable or len(damaged) == len(sizes):
            raise_if_any(bad)
        self._drop(damaged)
        return tuple(bad), np.delete(sizes, list(damaged)), None

    def _check_stored(
        self, found: StoredRows, folder: str, skip_unreadable: bool, channels: int
    ) -> tuple[tuple[BadFile, ...], Indices, StoredRows]:
        damaged = verify_files(folder, self.names, found.images, channels=channels)
        bad = tuple(BadFile(os.path.join(folder, self.names[i]), why) for i, why in sorted(damaged.items()))
        if not skip_unreadable or len(damaged) == len(self.names):
            raise_if_any(bad)
        if damaged:
            self._drop(damaged)
            found = found.take(np.setdiff1d(np.arange(len(found.images)), list(damaged)))
        return bad, found.sizes, found

    def _bad_files(self, reasons: Mapping[int, str], folder: str) -> list[BadFile]:
        """The files with these reasons, in row order."""
        found = sorted(reasons.items())
        return [BadFile(os.path.join(folder, self.names[i]), f"{r} ({self.unit} {self.lines[i]})") for i, r in found]

    def _missing_error(self, missing: Mapping[int, str], folder: str) -> DataError:
        first = list(missing.items())[:10]
        listed = [f"\n  {self.unit} {self.lines[i]}: {printable(self.names[i])}: {why}" for i, why in first]
        more = f"\n  … and {len(missing) - 10:,} more" if len(missing) > 10 else ""
        of = f"{len(self.lines):,} images of {self.where}"
        return DataError(
            f"{len(missing):,} of the {of} {'does' if len(missing) == 1 else 'do'} not exist:{''.join(listed)}{more}",
            f"paths are relative to the folder of the table, {printable(os.path.abspath(folder))}"
            + ("" if len(missing) == len(self.lines) else "; skip missing files with --set data.unreadable=skip"),
        )

    def _drop(self, rows: Collection[int]) -> None:
        if not rows:
            return
        selected = np.ones(len(self.lines), dtype=bool)
        selected[list(rows)] = False
        self.names = StringTable(self.names[int(i)] for i in np.flatnonzero(selected))
        self.lines, self.targets = self.lines[selected], self.targets[selected]
        self.groups = None if self.groups is None else self.groups[selected]

    def _find_duplicates(self) -> dict[int, int]:
        """Row -> first row of the same image. Compares hashes first: a dictionary of a million paths takes 150 MB."""
        hashes = np.fromiter((hash(os.path.normpath(n)) for n in self.names), np.int64, len(self.names))
        order = np.argsort(hashes, kind="stable")
        equal = hashes[order][1:] == hashes[order][:-1]
        suspects = np.unique(np.concatenate([order[1:][equal], order[:-1][equal]]))
        first: dict[str, int] = {}
        duplicates = {}
        for row in map(int, suspects):
            earliest = first.setdefault(os.path.normpath(self.names[row]), row)
            if earliest != row:
                duplicates[row] = earliest
        return duplicates
