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
from zoo.training.autotune.precision import RuntimeSettings
from zoo.training.features.dataset import FeatureBatches, FeatureCachePolicy
from zoo.training.trainer import Trainer

__all__ = ["TrainingSession"]


@dataclass(frozen=True)
class TrainingSession:
    """A run that could start: everything is built, and one step of a few images has been tried.

    plain opens the training images shuffled and without augmentation, as the steps before the first epoch want them.
    uses_lp_ft: whether the head learns on frozen features before the first epoch (LP-FT). feature_cache: how features
    of the frozen part are kept, None where they are computed in each epoch; `feature_cache.keep` then puts them in the
    place of the images. fits_linear_probe: whether the head is then solved directly, in one epoch.
    """

    recipe: Recipe  # with every choice resolved: task, classes, size, loss, precision, workers, absolute paths
    task: Task
    data: Data
    model: Model
    preprocess: Preprocess
    plan: FreezePlan
    execution: RuntimeSettings
    trainer: Trainer
    train: Loader | FeatureBatches
    val: Loader | FeatureBatches
    unaugmented_loader: Callable[[], Loader]
    uses_lp_ft: bool
    feature_cache: FeatureCachePolicy | None
    fits_linear_probe: bool
    notes: tuple[str, ...]  # what was decided for the user, a sentence each

    @property
    def epochs(self) -> int:
        return 1 if self.fits_linear_probe else self.recipe.train.epochs
