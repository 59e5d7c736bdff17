"""Open a candidate model for a data set."""

from __future__ import annotations

import torch
from torch import nn

from zoo.data import Data, ImageDataset
from zoo.errors import ModelError, WeightsError
from zoo.losses import make_loss
from zoo.models import Model
from zoo.preprocess import Preprocess
from zoo.recipe import Recipe, build
from zoo.strategy.decision_table import Architecture
from zoo.strategy.freeze import resolve_plan, set_train_mode
from zoo.tasks import get_task
from zoo.training.device import pick_device
from zoo.training.inference import Normalize
from zoo.training.sanity_check import check_step
from zoo.workflows.finetune import preprocessing, validate
from zoo.workflows.finetune.autotune import AutotuneContext, choose
from zoo.workflows.finetune.inputs import create_model, per_process_batch_size
from zoo.workflows.recommend.features import ExtractionSettings

# The model, the training images with its preprocessing, and the settings to extract features.
OpenCandidate = tuple[Model, ImageDataset, ExtractionSettings]


def load_candidate(recipe: Recipe, data: Data) -> OpenCandidate:
    """The pretrained model, the training images with its preprocessing, and the settings to extract features.

    The model has a multi-depth head, whose inputs include those of the usual head, if its stages have outputs to pool.
    """
    try:
        model = create_model(build(recipe.model_dump(), {"model.head": "multi-depth"}), data, with_weights=True)
    except ModelError:
        model = create_model(recipe, data, with_weights=True)
    if model.weights.source == "none":
        raise WeightsError(f"{recipe.model.name} has no pretrained weights", "leave it out")
    resolved = preprocessing.resolve_preprocessing(recipe, model, data)
    device = pick_device(recipe.train.device)
    settings = ExtractionSettings(
        preprocess=resolved.preprocess,
        device=device,
        amp_dtype=_precision(recipe, model, resolved.data, resolved.preprocess, device),
        workers=validate.resolve_workers(recipe.data.workers, data),
        data=data.name,
    )
    return model, resolved.data.train, settings


def _precision(
    recipe: Recipe, model: Model, data: Data, preprocess: Preprocess, device: torch.device
) -> torch.dtype | None:
    """The precision of a run that trains the head only, so that it can reuse the cached features."""
    module = model.module.to(device)
    plan = resolve_plan("backbone", model.groups, module)
    plan.apply(module)
    set_train_mode(module, plan)
    normalize = Normalize(preprocess).to(device)
    name, params, _ = validate.resolve_loss(recipe, get_task(data.task))
    loss = make_loss(name, params)
    images, targets = validate.sample_batch(data, preprocess, device)
    if isinstance(loss, nn.Module):
        loss.to(device)
    recipe = build(recipe.model_dump(), {"loss.name": name})  # as a run resolves it: the key of the timing cache
    context = AutotuneContext(recipe, model, plan, preprocess, device, batch=per_process_batch_size(recipe, data))
    step = check_step(
        module, normalize, loss, images, targets, auxiliary=model.auxiliary or 0.0,
        callback=lambda step: choose(context, step, normalize, images),
    )  # fmt: skip
    return step.dtype


def architecture(module: nn.Module) -> Architecture:
    """ "transformer" if more than one block has attention, else "cnn"."""
    num_attention = sum(
        isinstance(part, nn.MultiheadAttention) or (hasattr(part, "qkv") and isinstance(part.qkv, nn.Module))
        for part in module.modules()
    )
    return "transformer" if num_attention > 1 else "cnn"
