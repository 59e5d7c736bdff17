"""How the validation images are told from the training ones, where the data do not say it themselves."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from zoo.arrays import Indices
from zoo.data.dataset import ImageDataset
from zoo.data.split.file import read_split
from zoo.data.split.holdout import holdout_split
from zoo.data.split.kfold import fold_numbers
from zoo.errors import UsageError
from zoo.tasks import TaskName

__all__ = ["SplitStrategy"]


@dataclass(frozen=True)
class SplitStrategy:
    """A share drawn with a seed; the fold number `fold`, from 1, of `folds`; or the split in the file or run
    `split_file`.

    Raises UsageError if that is contradictory.
    """

    fraction: float = 0.2
    seed: int = 0
    folds: int | None = None
    fold: int | None = None
    split_file: str | None = None

    def __post_init__(self) -> None:
        if self.split_file is not None and self.folds is not None:
            raise UsageError(
                f"--folds {self.folds} makes a split, and --split {self.split_file} brings one", "leave one of them out"
            )
        if self.folds is None:
            if self.fold is not None:
                raise UsageError(f"--fold {self.fold} of how many?", "add --folds with their number")
        elif self.folds < 2:
            raise UsageError(f"--folds {self.folds}: a split needs two parts or more", "5 and 10 are usual")
        elif self.fold is None:
            raise UsageError(
                f"--folds {self.folds}, but not which of them is for validation",
                f"add --fold 1 for the first run, to --fold {self.folds} for the last",
            )
        elif not 1 <= self.fold <= self.folds:
            raise UsageError(f"--fold {self.fold} is none of {self.folds} folds", f"they count from 1 to {self.folds}")

    def reject_given_val(self, where: str) -> None:
        """Raises UsageError if a split is asked for in so many words, and the validation images are given."""
        asked = (
            f"--folds {self.folds}"
            if self.folds is not None
            else f"--split {self.split_file}"
            if self.split_file
            else ""
        )
        if asked:
            raise UsageError(
                f"{asked} splits the images, but {where} brings its own validation images",
                "leave that out, or give one folder or table of all images, without --val or a split column",
            )

    def of(self, source: ImageDataset, task: TaskName) -> tuple[Indices, Indices, str, tuple[str, ...]]:
        """(train, val, a sentence that says how, what else a reader should know): indices in rising order.

        Groups (`source.groups`) stay whole, but for a saved split, which is taken as it is. Raises what
        `holdout_split`, `fold_numbers` and `read_split` raise.
        """
        if self.split_file is not None:
            return self._from_file(source)
        targets, classes, groups = source.targets, source.classes, source.groups
        if self.folds is None:
            return *holdout_split(targets, classes, task, fraction=self.fraction, seed=self.seed, groups=groups), ()
        fold = fold_numbers(targets, classes, task, folds=self.folds, seed=self.seed, groups=groups)
        train, val = np.flatnonzero(fold != self.fold), np.flatnonzero(fold == self.fold)
        whole = "" if groups is None else f" of {len(np.unique(groups)):,} whole groups"
        rule = f"fold {self.fold} of {self.folds}{whole}, drawn with seed {self.seed}"
        return train, val, f"{_describe_count(val, source)}: {rule}", ()

    def _from_file(self, source: ImageDataset) -> tuple[Indices, Indices, str, tuple[str, ...]]:
        split_file = read_split(str(self.split_file))
        held_out, changed = split_file.apply(source)
        notes = [changed] if changed else []
        if source.groups is not None:
            shared = len(np.intersect1d(source.groups[held_out], source.groups[~held_out]))
            if shared:
                notes.append(f"split {split_file.path}: {shared:,} groups have images in both training and validation")
        train, val = np.flatnonzero(~held_out), np.flatnonzero(held_out)
        return train, val, f"{_describe_count(val, source)}: those that {split_file.path} names", tuple(notes)


def _describe_count(val: Indices, source: ImageDataset) -> str:
    return f"{len(val):,} of {len(source):,} images held out for validation"
