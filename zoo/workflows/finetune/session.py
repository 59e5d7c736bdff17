"""What `prepare` hands to the epochs."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from zoo.data import Data, Loader
from zoo.models import Model
from zoo.preprocess import Preprocess
from zoo.recipe import Recipe
from zoo.strategy.freeze import FreezePlan
from zoo.tasks import Task
from zoo.training.autotune.precision import Execution
from zoo.training.features.dataset import FeatureBatches, Keeping
from zoo.training.trainer import Trainer

__all__ = ["Prepared"]


@dataclass(frozen=True)
class Prepared:
    """A run that could start: everything is built, and one step of a few images has been tried.

    plain opens the training images shuffled and without augmentation, as the steps before the first epoch want them.
    head_first: whether the head learns on frozen features before the first epoch (LP-FT). keeping: how features of the
    frozen part are kept, None where they are computed in each epoch; `feature_cache.keep` then puts them in the
    place of the images. solves: whether the head is then solved directly, in one epoch.
    """

    recipe: Recipe  # with every choice resolved: task, classes, size, loss, precision, workers, absolute paths
    task: Task
    data: Data
    model: Model
    preprocess: Preprocess
    plan: FreezePlan
    execution: Execution
    trainer: Trainer
    train: Loader | FeatureBatches
    val: Loader | FeatureBatches
    plain: Callable[[], Loader]
    head_first: bool
    keeping: Keeping | None
    solves: bool
    notes: tuple[str, ...]  # what was decided for the user, a sentence each

    @property
    def epochs(self) -> int:
        return 1 if self.solves else self.recipe.train.epochs
