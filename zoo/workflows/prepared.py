"""What `prepare` hands to the epochs."""

from __future__ import annotations

from dataclasses import dataclass

from zoo.data import Data, Loader
from zoo.models import Model
from zoo.preprocess import Preprocess
from zoo.recipe import Recipe
from zoo.strategy.freeze import FreezePlan
from zoo.training.precision import Precision
from zoo.training.trainer import Trainer

__all__ = ["Prepared"]


@dataclass(frozen=True)
class Prepared:
    """A run that could start: everything is built, and one step of a few images has been tried."""

    recipe: Recipe  # with every choice resolved: classes, size, precision, workers, absolute paths
    data: Data
    model: Model
    preprocess: Preprocess
    plan: FreezePlan
    precision: Precision
    trainer: Trainer
    train: Loader
    val: Loader
    notes: tuple[str, ...]  # what was decided for the user, a sentence each
