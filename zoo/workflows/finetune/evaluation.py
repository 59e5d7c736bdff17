"""The validation result of weights."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from zoo.metrics import MetricAccumulator
from zoo.models import load_strict, rebuild, record
from zoo.training.feature_extractor import FeatureExtractor
from zoo.training.features.dataset import FeatureBatches
from zoo.workflows.finetune.session import TrainingSession, ValidationResult


@dataclass(frozen=True)
class CachedHeadInputs:
    """Cached inputs of the head. train: inputs (n, …) and targets of the images that the probing phase uses, in their
    order. val: batches of the validation images."""

    feature_extractor: FeatureExtractor
    train: tuple[Tensor, Tensor]
    val: FeatureBatches


def evaluate_weights(
    session: TrainingSession,
    weights: dict[str, Tensor],
    head_inputs: CachedHeadInputs | None = None,
    *,
    collect: bool = False,
) -> ValidationResult:
    """The validation result of `weights`, as a run saves them; computed from `head_inputs` if given. collect: with all
    outputs."""
    trainer = session.trainer
    module = rebuild(record(session.model)).module
    load_strict(module, weights)
    module.to(trainer.accelerator.device)
    accumulator = validation_accumulator(session, collect=collect)
    if head_inputs is None or session.recipe.transfer.lora is not None:  # with LoRA, the modules have other names
        loss = trainer.evaluate_module(module, session.val, accumulator)
    else:
        loss = trainer.evaluate_module(module, head_inputs.val, accumulator, head_inputs.feature_extractor)
    return compute_metrics(accumulator, loss)


def validation_accumulator(session: TrainingSession, *, collect: bool = False) -> MetricAccumulator:
    """The metrics of a validation: those of the task, and the monitored ones. collect: with all outputs."""
    recipe = session.recipe
    wanted = [*session.task.metrics, recipe.train.monitor, recipe.schedule.monitor or recipe.train.monitor]
    return MetricAccumulator.of(
        [name for name in dict.fromkeys(wanted) if name != "loss"], session.task.name, collect=collect
    )


def compute_metrics(accumulator: MetricAccumulator, loss: float) -> ValidationResult:
    """The values of a row, without the prefix val_; `loss` is that of the run's loss function."""
    return ValidationResult(accumulator, {"loss": loss, **accumulator.compute()})
