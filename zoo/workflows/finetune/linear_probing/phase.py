"""The linear-probing phase of LP-FT: the head is fitted, or trained by steps, on frozen features."""

from __future__ import annotations

from collections.abc import Callable
from itertools import chain, islice
from typing import Any

import torch
from torch import Tensor, nn

from zoo.data import Loader
from zoo.models.heads import zero_init_head
from zoo.strategy.freeze import resolve_plan
from zoo.training.features.dataset import FeatureBatches
from zoo.training.features.linear_probe import MAX_BYTES
from zoo.training.transfer.lp_ft import (
    MAX_FEATURE_BYTES,
    MAX_IMAGES,
    Fit,
    ProbingOptions,
    run_probing_phase,
    train_only,
)
from zoo.workflows.finetune import validate
from zoo.workflows.finetune.evaluation import CachedHeadInputs, evaluate_weights
from zoo.workflows.finetune.feature_cache import (
    FeatureCacheSession,
    free_cache_bytes,
    profile_extractor,
    speedup_justifies_cache,
)
from zoo.workflows.finetune.linear_probing.fit import fit_bytes, fit_head, takes_long, why_no_convex_fit
from zoo.workflows.finetune.session import TrainingSession, ValidationResult

# Of the probing phase: just enough to keep the head finite; as in the recipe `head-only`.
_PROBE_WEIGHT_DECAY = 1e-4


def cache_head_inputs(session: TrainingSession, log: Callable[[str], None]) -> CachedHeadInputs | None:
    """The features that a run with a frozen backbone caches, read or computed.

    None if the cache is off, if a file may prove unreadable, if the head is not a single layer after the features, if
    computing them again costs less, or if the disk has no space. Raises what reading the images raises, and OSError if
    the disk refuses.
    """
    trainer, model, data, val = session.trainer, session.model, session.data, session.val
    skips = any(source.skip_unreadable for source in (data.train, data.val))
    if session.recipe.train.feature_cache == "off" or len(model.head) != 1 or skips or not isinstance(val, Loader):
        return None
    head, module = model.head[0], trainer.module
    plan = resolve_plan("backbone", model.groups, module)
    with train_only(module, [p for p in module.get_submodule(head).parameters() if p.requires_grad]):
        images = trainer.normalize(validate.sample_batch(data, session.preprocess, trainer.accelerator.device)[0])
        profile = profile_extractor(model, plan, images, trainer.amp_dtype)
        if profile is None or not profile.feature_extractor.before or profile.feature_extractor.end != head:
            return None
        extractor, row_bytes = profile.feature_extractor, profile.row_bytes
        limit = min(MAX_IMAGES, max(MAX_FEATURE_BYTES // row_bytes, 1))
        indices = _first_images(session, limit)
        if not speedup_justifies_cache(profile.seconds, row_bytes):
            return None
        if row_bytes * (len(indices) + len(data.val)) > free_cache_bytes():
            return None
        features = FeatureCacheSession(session, plan, extractor, profile.dtype)
        keys, val_keys = features.keys(data.train, indices), features.keys(data.val, range(len(data.val)))
    log(features.message())
    targets, val_targets = torch.from_numpy(data.train.targets), torch.from_numpy(data.val.targets)
    return CachedHeadInputs(
        extractor,
        (features.cached(keys)[range(len(keys))], targets[torch.tensor(indices)]),
        FeatureBatches(val, [features.cached(val_keys)], val_targets, channels_last=False),
    )


def _first_images(session: TrainingSession, number: int) -> list[int]:
    """The indices of the first images of the unaugmented loader."""
    shuffled = session.unaugmented_loader()
    shuffled.set_epoch(0)
    return list(islice(chain.from_iterable(shuffled.indices()), number))


def run_linear_probing(session: TrainingSession, log: Callable[[str], None]) -> tuple[dict[str, Any], ValidationResult]:
    recipe, trainer = session.recipe, session.trainer
    head_inputs = cache_head_inputs(session, log)
    transfer = recipe.transfer
    options = ProbingOptions(transfer.probe_epochs, transfer.probe_lr, _PROBE_WEIGHT_DECAY, recipe.train.seed)
    details: dict[str, Any] = {}
    zero_new_head(session)
    found = run_probing_phase(
        trainer.forward_pass,
        session.model.head,
        session.unaugmented_loader(),
        trainer.scaled_loss,
        options,
        cached=None if head_inputs is None else head_inputs.train,
        fit=_head_fit(session, details),
    )
    outcome = evaluate_weights(session, trainer.weights(), head_inputs)
    value = outcome.values[recipe.train.monitor]
    method = f"{found.epochs} epochs on" if found.epochs else "head fitted on"
    log(
        f"linear probing: {method} the frozen features of {found.images:,} images, "
        f"loss {found.first_loss:.3g} -> {found.last_loss:.3g}, val {recipe.train.monitor} {value:.4g}"
    )
    steps = {
        "images": found.images,
        "epochs": found.epochs,
        "seconds": round(found.seconds, 3),
        "first_loss": found.first_loss,
        "last_loss": found.last_loss,
        **details,
        **{f"val_{name}": number for name, number in outcome.values.items()},
    }
    return steps, outcome


def _head_fit(session: TrainingSession, details: dict[str, Any]) -> Fit | None:
    """How the probing phase fits a linear head, and where it puts the details; None if it takes gradient steps."""
    recipe, trainer, model = session.recipe, session.trainer, session.model
    layer, rows = trainer.module.get_submodule(model.head[0]), min(len(session.data.train), MAX_IMAGES)
    if not isinstance(layer, nn.Linear) or any(why_no_convex_fit(recipe, trainer.accelerator.device)):
        return None
    if takes_long(rows, layer.in_features, layer.out_features):
        return None
    if fit_bytes(recipe, rows, layer.in_features) > MAX_BYTES:
        return None

    def fit(layer: nn.Linear, features: Tensor, targets: Tensor) -> float:
        # In the order of the data set, as a run with a frozen backbone fits the head: then the folds are the same.
        order = torch.tensor(_first_images(session, len(features))).argsort()
        fitted = fit_head(session, layer, features[order], targets[order])
        details.update(fitted.details)
        return fitted.loss

    return fit


def zero_new_head(session: TrainingSession) -> None:
    """Set new linear heads to zero, before gradient steps on frozen features.

    The libraries' own initialisation can be too large for these steps to undo: timm gives EfficientNets a classifier
    with a standard deviation of 1/√(3·classes).
    """
    model, module = session.model, session.trainer.module
    linear = [path for path in model.head if isinstance(module.get_submodule(path), nn.Linear)]
    if linear and model.weights.head_is_new:
        zero_init_head(module, linear, len(session.data.classes), loaded=())
