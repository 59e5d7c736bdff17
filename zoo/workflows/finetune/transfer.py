"""How pretrained weights are adapted to the new task: the steps before, between and after the epochs."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from itertools import chain, islice
from typing import Any

import torch
from torch import Tensor, nn

from zoo import metrics
from zoo.data import Loader
from zoo.errors import RecipeError
from zoo.metrics import MetricAccumulator
from zoo.models import Group, Model, load_strict, rebuild, record
from zoo.recipe import Recipe
from zoo.run import Run
from zoo.strategy.freeze import FreezePlan, make_plan, resolve_plan, set_train_mode
from zoo.strategy.unfreeze import groups_unfrozen, unfreeze_plan
from zoo.training.distributed import broadcast_object, broadcast_tensors, sync_module_states
from zoo.training.ema import ExponentialMovingAverage
from zoo.training.feature_extractor import FeatureExtractor
from zoo.training.features.dataset import FeatureBatches
from zoo.training.features.linear_probe import MAX_BYTES
from zoo.training.lora import add_lora, base_name, choose_layers
from zoo.training.transfer.auto_rgn import relative_gradient_norms
from zoo.training.transfer.bn_adapt import update_bn_stats
from zoo.training.transfer.l2_sp import L2SP
from zoo.training.transfer.lp_ft import (
    MAX_FEATURE_BYTES,
    MAX_IMAGES,
    Fit,
    ProbingOptions,
    run_probing_phase,
    train_only,
)
from zoo.training.transfer.wise_ft import best_interpolation
from zoo.workflows.finetune import validate
from zoo.workflows.finetune.feature_cache import (
    FeatureCacheSession,
    free_cache_bytes,
    profile_extractor,
    speedup_justifies_cache,
)
from zoo.workflows.finetune.linear_probe import fit_bytes, fit_head, takes_long, why_no_convex_fit
from zoo.workflows.finetune.session import TrainingSession, ValidationResult

# Of the probing phase: just enough to keep the head finite; as in the recipe `head-only`.
_PROBE_WEIGHT_DECAY = 1e-4


# --- building ---------------------------------------------------------------------------------------------------


def uses_lp_ft(recipe: Recipe, model: Model, plan: FreezePlan) -> bool:
    """Whether the run starts with a linear-probing phase (LP-FT, Kumar et al. 2022).

    With `auto`: if a pretrained backbone is trained with a new head. Raises RecipeError if LP-FT or a method that
    builds on it is requested, and the backbone is not pretrained or not trained.
    """
    head = set(model.groups[-1].parameters)
    names = {name for name, _ in model.module.named_parameters()}
    trains_backbone = bool(names - plan.frozen - head)
    trains_head = bool(head - plan.frozen)
    possible = model.weights.source != "none" and trains_head and trains_backbone
    start = recipe.transfer.start
    problems = []
    if start == "lp-ft" and not possible:
        problems.append("transfer.start: lp-ft needs a pretrained backbone, and that backbone and head are trained")
    chosen = start == "lp-ft" or (start == "auto" and possible and model.weights.head_is_new)
    if recipe.transfer.wise_ft and not chosen:
        problems.append("transfer.wise_ft: it needs the probing phase of lp-ft, and this run has none")
    if problems:
        raise RecipeError(problems, "leave it out, or start from pretrained weights")
    return chosen


def add_adapters(recipe: Recipe, model: Model, plan: FreezePlan) -> tuple[Model, FreezePlan]:
    """With LoRA adapters on the backbone layers that `plan` would train; unchanged if the recipe asks for none.

    The backbone's own tensors are then frozen; the adapters and the trainable part of the head are trained.
    """
    lora = recipe.transfer.lora
    if lora is None:
        return model, plan
    module, head = model.module, set(model.groups[-1].parameters)
    trainable = {name for name, _ in module.named_parameters()} - plan.frozen
    layers = choose_layers(module, trainable - head, lora.layers, rank=lora.rank)
    added = add_lora(module, layers, rank=lora.rank, alpha=lora.alpha, trainable=trainable & head)
    names: dict[str, list[str]] = {}
    for name, _ in module.named_parameters():
        names.setdefault(base_name(name), []).append(name)
    groups = tuple(_renamed(group, names) for group in model.groups)
    text = f"{plan.text}, LoRA of rank {lora.rank} on {len(layers)} layers"
    return replace(model, groups=groups), make_plan(text, added.frozen, groups, module)


def _renamed(group: Group, names: dict[str, list[str]]) -> Group:
    """The group with its parameters' names after LoRA, adapters included."""
    return replace(group, parameters=tuple(n for p in group.parameters for n in names.get(p, ())))


def train_mode_setter(recipe: Recipe, model: Model, plan: FreezePlan) -> Callable[[int], None]:
    """The function that puts the module into the training mode of an epoch (counted from 0)."""
    every = recipe.transfer.unfreeze_every

    def set_mode(epoch: int) -> None:
        current = plan
        if every is not None:
            current = unfreeze_plan(plan, model.groups, model.module, groups_unfrozen(epoch, every))
            current.apply(model.module)
        set_train_mode(model.module, current)

    return set_mode


# --- before the first epoch ------------------------------------------------------------------------------------------


def begin(run: Run, session: TrainingSession, log: Callable[[str], None]) -> ValidationResult | None:
    """The steps before the first epoch: batch-norm statistics, linear-probing phase (LP-FT), saving the initial weights
    if a method needs them later.

    The validation result after the probing phase, the first candidate for the best weights; None without that phase.
    """
    recipe, trainer = session.recipe, session.trainer
    steps: dict[str, Any] = {}
    if recipe.transfer.bn_reestimate:
        layers = update_bn_stats(trainer.forward_pass, session.unaugmented_loader())
        steps["batch_norm_layers"] = layers
        done = f"batch-norm statistics of {layers} layers re-estimated on the training images"
        log(done if layers else "transfer.bn_reestimate: this model has no batch norm")
    outcome = None
    if session.uses_lp_ft:
        steps["head"], outcome = _run_linear_probing(session, log)
    elif session.trains_head_only and session.model.weights.source != "none":
        zero_new_head(session)
    sync_module_states(trainer.module)
    if recipe.transfer.l2_sp is not None or recipe.transfer.wise_ft:
        run.save_start(trainer.weights())
    if steps:
        run.update(start=steps)
    attach_start_weights(run, session)
    return outcome


@dataclass(frozen=True)
class CachedHeadInputs:
    """Cached inputs of the head. train: inputs (n, …) and targets of the images that the probing phase uses, in their
    order. val: batches of the validation images."""

    feature_extractor: FeatureExtractor
    train: tuple[Tensor, Tensor]
    val: FeatureBatches


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
        shuffled = session.unaugmented_loader()
        shuffled.set_epoch(0)
        limit = min(MAX_IMAGES, max(MAX_FEATURE_BYTES // row_bytes, 1))
        # In the order in which a run with a frozen backbone caches them, so that the same head is fitted.
        indices = sorted(islice(chain.from_iterable(shuffled.indices()), limit))
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


def _run_linear_probing(
    session: TrainingSession, log: Callable[[str], None]
) -> tuple[dict[str, Any], ValidationResult]:
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
        fitted = fit_head(recipe, trainer.loss, layer, features, trainer.scale_for_loss(targets))
        details.update(fitted.details)
        return fitted.loss

    return fit


def zero_new_head(session: TrainingSession) -> None:
    """Set new linear heads to zero, before gradient steps on frozen features.

    The libraries' own initialisation can be too large for these steps to undo: timm gives EfficientNets a classifier
    with a standard deviation of 1/√(3·classes).
    """
    if not session.model.weights.head_is_new:
        return
    for path in session.model.head:
        layer = session.trainer.module.get_submodule(path)
        if isinstance(layer, nn.Linear):
            nn.init.zeros_(layer.weight)
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)


def attach_start_weights(run: Run, session: TrainingSession) -> None:
    """Set up EMA and L2-SP, which need the initial weights; on resume before the state of the run is loaded."""
    recipe, trainer = session.recipe, session.trainer
    transfer = recipe.transfer
    if recipe.train.model_ema:
        trainer.ema = ExponentialMovingAverage(trainer.module, recipe.train.model_ema_decay)
    if transfer.l2_sp is not None:
        trainer.penalty = L2SP(
            trainer.module,
            broadcast_tensors(run.start, trainer.weights()),
            head=set(session.model.groups[-1].parameters),
            alpha=transfer.l2_sp,
            beta=transfer.l2_sp_head,
        )


def before_epoch(session: TrainingSession) -> None:
    """Set the learning rates of the next epoch from its gradients (Auto-RGN)."""
    if not session.recipe.transfer.auto_rgn:
        return
    trainer = session.trainer
    loader = session.unaugmented_loader()
    factors = relative_gradient_norms(trainer.forward_pass, trainer.optimizer, loader, trainer.scaled_loss)
    trainer.schedule.set_lr_scales(broadcast_object(factors))


# --- after the last epoch ---------------------------------------------------------------------------------------------


def evaluate_weights(
    session: TrainingSession, weights: dict[str, Tensor], head_inputs: CachedHeadInputs | None = None
) -> ValidationResult:
    """The validation result of `weights`, as a run saves them; computed from `head_inputs` if given."""
    trainer = session.trainer
    module = rebuild(record(session.model)).module
    load_strict(module, weights)
    module.to(trainer.accelerator.device)
    accumulator = validation_accumulator(session)
    if head_inputs is None or session.recipe.transfer.lora is not None:  # with LoRA, the modules have other names
        loss = trainer.evaluate_module(module, session.val, accumulator)
    else:
        loss = trainer.evaluate_module(module, head_inputs.val, accumulator, head_inputs.feature_extractor)
    return compute_metrics(accumulator, loss)


def validation_accumulator(session: TrainingSession) -> MetricAccumulator:
    """The metrics of a validation: those of the task, and the monitored ones."""
    recipe = session.recipe
    wanted = [*session.task.metrics, recipe.train.monitor, recipe.schedule.monitor or recipe.train.monitor]
    return MetricAccumulator.of([name for name in dict.fromkeys(wanted) if name != "loss"], session.task.name)


def compute_metrics(accumulator: MetricAccumulator, loss: float) -> ValidationResult:
    """The values of a row, without the prefix val_; `loss` is that of the run's loss function."""
    return ValidationResult(accumulator, {"loss": loss, **accumulator.compute()})


def finish(
    run: Run,
    session: TrainingSession,
    best: dict[str, Any],
    outcome: ValidationResult | None,
    log: Callable[[str], None],
) -> tuple[dict[str, Any], ValidationResult]:
    """The best epoch and its validation result; with WiSE-FT the average of initial and best weights, if that validates
    better.

    outcome: of the best epoch, if this process has computed it.
    """
    if outcome is not None and not session.recipe.transfer.wise_ft:
        return best, outcome
    trainer = session.trainer
    last = trainer.weights()
    best_weights = broadcast_tensors(run.weights, last)
    best_outcome = evaluate_weights(session, best_weights)
    if not session.recipe.transfer.wise_ft:
        return best, best_outcome
    monitor = best["monitor"]
    # If no epoch was better than the initial weights, their average with the last epoch may still be.
    tuned_weights = best_weights if best["epoch"] else last
    mix = best_interpolation(
        broadcast_tensors(run.start, last),
        tuned_weights,
        lambda state: evaluate_weights(session, state).values,
        lambda new, old: metrics.better(monitor, new[monitor], old[monitor]),
        end_metrics=best_outcome.values,
    )
    if mix is None:
        log(f"WiSE-FT: no average with the initial weights has a better {monitor}; the best epoch is used")
        return best, best_outcome
    outcome = evaluate_weights(session, mix.state)
    value = outcome.values[monitor]
    log(f"WiSE-FT: {mix.alpha:g} x fine-tuned + {1 - mix.alpha:g} x initial weights: {monitor} {value:.4g}")
    run.save_weights(mix.state)
    best = {**best, "value": value, "val_loss": outcome.values["loss"], "wise_ft": mix.alpha}
    run.update(best=best)
    return best, outcome
