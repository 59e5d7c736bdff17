"""What the stages of `build_session` hand on: the model ready for a step, and the session ready for the epochs."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from zoo.augment.mixing import Mixing
from zoo.data import Data, Loader
from zoo.losses import Loss
from zoo.metrics import MetricAccumulator
from zoo.models import Model
from zoo.preprocess import Preprocess
from zoo.recipe import Recipe
from zoo.strategy.freeze import FreezePlan
from zoo.tasks import Task
from zoo.training.autotune.precision import RuntimeSettings
from zoo.training.features.dataset import FeatureBatches, FeatureCachePolicy
from zoo.training.inference import Normalize
from zoo.training.target_scaler import TargetScaler
from zoo.training.trainer import Trainer


@dataclass(frozen=True)
class SampleBatch:
    """A few training images on the device, to try and time steps with.

    images: (n, C, H, W) uint8. targets: as the data have them. loss_targets: as the loss takes them, scaled and mixed.
    """

    images: Tensor
    targets: Tensor
    loss_targets: Tensor


@dataclass(frozen=True)
class BuiltModel:
    """The model on its device, with everything that a training step takes except the optimizer.

    data: read with the intensity range of `preprocess`. scale: of regression targets. set_train_mode: see `Trainer`.
    """

    task: Task
    data: Data
    model: Model
    plan: FreezePlan
    preprocess: Preprocess
    device: torch.device
    loss: Loss
    normalize: Normalize
    scale: TargetScaler | None
    mixing: Mixing | None
    set_train_mode: Callable[[int], None]
    sample: SampleBatch

    @property
    def auxiliary(self) -> float:
        """Weight of the losses of auxiliary heads."""
        return self.model.auxiliary or 0.0


@dataclass(frozen=True)
class TrainingSession:
    """A run that is ready to start: everything is built, and one step on a few images has been tried.

    unaugmented_loader opens the training images shuffled and without augmentation, for the steps before the first
    epoch. feature_cache: how the outputs of the frozen layers are cached, None if they are computed in each epoch;
    `apply_feature_cache` then replaces the images by features.
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
    feature_cache: FeatureCachePolicy | None
    notes: tuple[str, ...]  # what was decided for the user, a sentence each

    @property
    def uses_lp_ft(self) -> bool:
        """Whether the head is trained on frozen features before the first epoch (LP-FT)."""
        return self.recipe.transfer.start == "lp-ft"

    @property
    def fits_linear_probe(self) -> bool:
        """Whether the head is fitted directly on cached features, in one epoch."""
        return self.recipe.train.linear_probe == "on"

    @property
    def trains_head_only(self) -> bool:
        """Whether the backbone is frozen in every epoch."""
        head = set(self.model.groups[-1].parameters)
        return {name for name, _ in self.model.module.named_parameters()} - self.plan.frozen <= head

    @property
    def epochs(self) -> int:
        return 1 if self.fits_linear_probe else self.recipe.train.epochs


@dataclass(frozen=True)
class ValidationResult:
    """Accumulated outputs and targets of the validation images, and their loss and metrics by name."""

    accumulator: MetricAccumulator
    values: dict[str, float]
