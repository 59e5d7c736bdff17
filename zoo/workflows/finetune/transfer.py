"""How pretrained weights are led over to the new task: what happens before, between and behind the epochs."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from torch import Tensor

from zoo import metrics
from zoo.errors import RecipeError
from zoo.models import Group, Model, load_strict, rebuild, record
from zoo.recipe import Recipe
from zoo.run import Run
from zoo.strategy.freeze import FreezePlan, make_plan, set_train_mode
from zoo.strategy.unfreeze import groups_unfrozen, unfreeze_plan
from zoo.training.distributed import broadcast_object, broadcast_tensors
from zoo.training.ema import ExponentialMovingAverage
from zoo.training.lora import add_lora, base_name, choose_layers
from zoo.training.transfer.auto_rgn import relative_gradient_norms
from zoo.training.transfer.bn_adapt import update_bn_stats
from zoo.training.transfer.l2_sp import L2SP
from zoo.training.transfer.lp_ft import run_probing_phase
from zoo.training.transfer.wise_ft import best_interpolation
from zoo.workflows.finetune.feature_cache import CachedHeadInputs, cache_head_inputs
from zoo.workflows.finetune.session import TrainingSession

__all__ = [
    "ValidationResult",
    "add_adapters",
    "attach_start_weights",
    "before_epoch",
    "begin",
    "compute_metrics",
    "evaluate_weights",
    "finish",
    "train_mode_setter",
    "uses_lp_ft",
]

# What a head learns on frozen features hardly needs more decay than keeps it finite; as in the recipe `head-only`.
_PROBE_WEIGHT_DECAY = 1e-4


@dataclass(frozen=True)
class ValidationResult:
    """What weights say of the validation images: outputs (N, K), targets, and the numbers that a row holds of them."""

    outputs: Tensor
    targets: Tensor
    values: dict[str, float]


# --- what is built ---------------------------------------------------------------------------------------------------


def uses_lp_ft(recipe: Recipe, model: Model, plan: FreezePlan) -> bool:
    """Whether the run starts with the head alone (LP-FT, Kumar et al. 2022).

    As asked; if `auto`, where it can help: a backbone with loaded weights learns behind a head without. Raises
    RecipeError if it is asked for, or for what builds on it, where there is no such backbone.
    """
    head = set(model.groups[-1].parameters)
    names = {name for name, _ in model.module.named_parameters()}
    backbone_learns = bool(names - plan.frozen - head)
    head_learns = bool(head - plan.frozen)
    pretrained = model.weights.source != "none"
    possible = pretrained and head_learns and backbone_learns
    start = recipe.transfer.start
    problems = []
    if start == "lp-ft" and not possible:
        problems.append("transfer.start: lp-ft needs a pretrained backbone that learns, and a head that does")
    chosen = start == "lp-ft" or (start == "auto" and possible and model.weights.head_is_new)
    if recipe.transfer.wise_ft and not chosen:
        problems.append("transfer.wise_ft: it mixes with the model that lp-ft begins from, and this run has none")
    if problems:
        raise RecipeError(problems, "leave it out, or start from pretrained weights")
    return chosen


def add_adapters(recipe: Recipe, model: Model, plan: FreezePlan) -> tuple[Model, FreezePlan]:
    """With adapters (LoRA) in place of what `plan` lets learn in the backbone; as given if the recipe wants none.

    The backbone's own tensors are then frozen; its adapters and what the plan leaves open of the head learn.
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
    text = f"{plan.text}, LoRA of rank {lora.rank} on {len(layers)} matrices"
    return replace(model, groups=groups), make_plan(text, added.frozen, groups, module)


def _renamed(group: Group, names: dict[str, list[str]]) -> Group:
    """The group with the names that its parameters have beside adapters, and with the adapters."""
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
    """What comes before the first epoch: statistics, head; then the start is kept, if something will refer to it.

    What the model with the new head says, if the head has learned first: the first candidate for the best weights.
    """
    recipe, trainer = session.recipe, session.trainer
    steps: dict[str, Any] = {}
    if recipe.transfer.bn_reestimate:
        layers = update_bn_stats(
            trainer.module,
            session.unaugmented_loader(),
            trainer.normalize,
            device=trainer.accelerator.device,
            amp_dtype=trainer.amp_dtype,
        )
        steps["batch_norm_layers"] = layers
        log(f"batch-norm statistics of {layers} layers taken from the training images" if layers else _NO_BATCH_NORM)
    outcome = None
    if session.uses_lp_ft:
        steps["head"], outcome = _run_linear_probing(session, log)
    trainer.sync_module_states()
    if recipe.transfer.l2_sp is not None or recipe.transfer.wise_ft:
        run.save_start(trainer.weights())
    if steps:
        run.update(start=steps)
    attach_start_weights(run, session)
    return outcome


_NO_BATCH_NORM = "transfer.bn_reestimate: this model has no batch norm"


def _run_linear_probing(
    session: TrainingSession, log: Callable[[str], None]
) -> tuple[dict[str, Any], ValidationResult]:
    recipe, trainer = session.recipe, session.trainer
    head_inputs = cache_head_inputs(session, log)
    found = run_probing_phase(
        trainer.module,
        session.model.head,
        session.unaugmented_loader(),
        trainer.loss,
        trainer.normalize,
        epochs=recipe.transfer.probe_epochs,
        lr=recipe.transfer.probe_lr,
        weight_decay=_PROBE_WEIGHT_DECAY,
        device=trainer.accelerator.device,
        amp_dtype=trainer.amp_dtype,
        seed=recipe.train.seed,
        prepare_target=trainer.scale_for_loss,
        kept=None if head_inputs is None else head_inputs.train,
    )
    outcome = evaluate_weights(session, trainer.weights(), head_inputs)
    value = outcome.values[recipe.train.monitor]
    log(
        f"head first: {found.epochs} passes over the frozen features of {found.images:,} images, "
        f"loss {found.first_loss:.3g} -> {found.last_loss:.3g}, val {recipe.train.monitor} {value:.4g}"
    )
    steps = {
        "images": found.images,
        "epochs": found.epochs,
        "seconds": round(found.seconds, 3),
        "first_loss": found.first_loss,
        "last_loss": found.last_loss,
        **{f"val_{name}": number for name, number in outcome.values.items()},
    }
    return steps, outcome


def attach_start_weights(run: Run, session: TrainingSession) -> None:
    """Set up what refers to the weights of the start: at the beginning, and again on resume, before the state is."""
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
    """Rates of the epoch to come, where they follow the gradients (Auto-RGN)."""
    if not session.recipe.transfer.auto_rgn:
        return
    trainer = session.trainer
    factors = relative_gradient_norms(
        trainer.module,
        trainer.optimizer,
        session.unaugmented_loader(),
        trainer.loss,
        trainer.normalize,
        device=trainer.accelerator.device,
        amp_dtype=trainer.amp_dtype,
        prepare_target=trainer.scale_for_loss,
    )
    trainer.schedule.set_lr_scales(broadcast_object(factors))


# --- behind the last -------------------------------------------------------------------------------------------------


def evaluate_weights(
    session: TrainingSession, weights: dict[str, Tensor], head_inputs: CachedHeadInputs | None = None
) -> ValidationResult:
    """What `weights`, as a run keeps them, say of the validation images; of what is kept of them, if given."""
    trainer = session.trainer
    module = rebuild(record(session.model)).module
    load_strict(module, weights)
    module.to(trainer.accelerator.device)
    if head_inputs is None or session.recipe.transfer.lora is not None:  # with adapters, the modules have other names
        outputs, targets = trainer.forward_all(module, session.val)
    else:
        outputs, targets = trainer.forward_all(module, head_inputs.val, head_inputs.feature_extractor)
    return compute_metrics(session, outputs, targets, trainer.loss_of(outputs, targets))


def compute_metrics(session: TrainingSession, outputs: Tensor, targets: Tensor, loss: float) -> ValidationResult:
    """The numbers of a row, without the prefix val_; `loss` is the run's own."""
    recipe = session.recipe
    wanted = [*session.task.metrics, recipe.train.monitor, recipe.schedule.monitor or recipe.train.monitor]
    names = [name for name in dict.fromkeys(wanted) if name != "loss"]
    found = metrics.compute(names, outputs, targets, task=session.task.name)
    return ValidationResult(outputs, targets, {"loss": loss, **found})


def finish(
    run: Run,
    session: TrainingSession,
    best: dict[str, Any],
    outcome: ValidationResult | None,
    log: Callable[[str], None],
) -> tuple[dict[str, Any], ValidationResult]:
    """The best epoch and what it says; with `wise_ft` the mixture of start and best, if it validates better.

    outcome: of the best epoch, if this process has seen it.
    """
    if outcome is not None and not session.recipe.transfer.wise_ft:
        return best, outcome
    trainer = session.trainer
    last = trainer.weights()
    best_weights = broadcast_tensors(run.weights, last)
    kept = evaluate_weights(session, best_weights)
    if not session.recipe.transfer.wise_ft:
        return best, kept
    monitor = best["monitor"]
    # If nothing was better than the start, what may still be is a mixture of it with the last epoch.
    tuned_weights = best_weights if best["epoch"] else last
    mix = best_interpolation(
        broadcast_tensors(run.start, last),
        tuned_weights,
        lambda state: evaluate_weights(session, state).values,
        lambda new, old: metrics.better(monitor, new[monitor], old[monitor]),
        end_metrics=kept.values,
    )
    if mix is None:
        log(f"wise-ft: no mixture with the start is better in {monitor}; the best epoch stays")
        return best, kept
    outcome = evaluate_weights(session, mix.state)
    value = outcome.values[monitor]
    log(f"wise-ft: {mix.alpha:g} of the tuned weights and the rest of the start give {monitor} {value:.4g}")
    run.save_weights(mix.state)
    best = {**best, "value": value, "val_loss": outcome.values["loss"], "wise_ft": mix.alpha}
    run.update(best=best)
    return best, outcome
