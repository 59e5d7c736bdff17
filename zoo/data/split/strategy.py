"""How to choose the validation images, if the data set does not define them."""

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


@dataclass(frozen=True)
class SplitStrategy:
    """A random share, one fold of a cross-validation, or a saved split.

    Args:
        fraction: share of validation images.
        seed: random seed.
        folds: number of folds.
        fold: number of the validation fold, from 1.
        split_file: path of a split file or of a run.

    Raises:
        UsageError: contradictory options.
    """

    fraction: float = 0.2
    seed: int = 0
    folds: int | None = None
    fold: int | None = None
    split_file: str | None = None

    def __post_init__(self) -> None:
        if self.split_file is not None and self.folds is not None:
            raise UsageError(
                f"--folds {self.folds} and --split {self.split_file} cannot be combined", "use one of them"
            )
        if self.folds is None:
            if self.fold is not None:
                raise UsageError(f"--fold {self.fold} needs --folds", "add --folds with the number of folds")
        elif self.folds < 2:
            raise UsageError(f"--folds {self.folds}: cross-validation needs two or more", "5 and 10 are usual")
        elif self.fold is None:
            raise UsageError(
                f"--folds {self.folds} needs --fold, the validation fold",
                f"add --fold 1 for the first run, to --fold {self.folds} for the last",
            )
        elif not 1 <= self.fold <= self.folds:
            raise UsageError(f"--fold {self.fold} is not one of {self.folds} folds", f"give 1 to {self.folds}")

    def reject_given_val(self, where: str) -> None:
        """Raises UsageError if a split is requested although the validation images are given."""
        option = f"--folds {self.folds}" if self.folds is not None else f"--split {self.split_file}"
        if self.folds is not None or self.split_file:
            raise UsageError(
                f"{option} splits the images, but {where} has its own validation images",
                "remove that option, or give one folder or table of all images, without --val or a split column",
            )

    def of(self, source: ImageDataset, task: TaskName) -> tuple[Indices, Indices, str, tuple[str, ...]]:
        """(sorted training indices, sorted validation indices, a message about the rule, notes).

        Groups (`source.groups`) stay whole, except in a saved split. Raises what `holdout_split`, `fold_numbers` and
        `read_split` raise.
        """
        if self.split_file is not None:
            return self._from_file(source)
        targets, classes, groups = source.targets, source.classes, source.groups
        if self.folds is None:
            return *holdout_split(targets, classes, task, fraction=self.fraction, seed=self.seed, groups=groups), ()
        fold = fold_numbers(targets, classes, task, folds=self.folds, seed=self.seed, groups=groups)
        train, val = np.flatnonzero(fold != self.fold), np.flatnonzero(fold == self.fold)
        of_groups = "" if groups is None else f" of {len(np.unique(groups)):,} whole groups"
        rule = f"fold {self.fold} of {self.folds}{of_groups}, seed {self.seed}"
        return train, val, _describe_split(val, source, rule), ()

    def _from_file(self, source: ImageDataset) -> tuple[Indices, Indices, str, tuple[str, ...]]:
        split_file = read_split(str(self.split_file))
        held_out, changed = split_file.apply(source)
        notes = [changed] if changed else []
        if source.groups is not None:
            shared = len(np.intersect1d(source.groups[held_out], source.groups[~held_out]))
            if shared:
                notes.append(f"split {split_file.path}: {shared:,} groups have images in both training and validation")
        train, val = np.flatnonzero(~held_out), np.flatnonzero(held_out)
        return train, val, _describe_split(val, source, f"from {split_file.path}"), tuple(notes)


def _describe_split(val: Indices, source: ImageDataset, rule: str) -> str:
    return f"validation: {len(val):,} of {len(source):,} images ({rule})"
