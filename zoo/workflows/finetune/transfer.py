"""How pretrained weights are adapted to the new task: the steps before, between and after the epochs."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from torch.nn.modules.batchnorm import _BatchNorm

from zoo import metrics
from zoo.errors import RecipeError
from zoo.models import Group, Model
from zoo.recipe import Recipe
from zoo.run import Run
from zoo.strategy.freeze import FreezePlan, make_plan, set_train_mode
from zoo.strategy.unfreeze import groups_unfrozen, unfreeze_plan
from zoo.training.distributed import broadcast_object, broadcast_tensors, sync_module_states
from zoo.training.ema import ExponentialMovingAverage
from zoo.training.lora import add_lora, base_name, choose_layers
from zoo.training.transfer.auto_rgn import relative_gradient_norms
from zoo.training.transfer.bn_adapt import update_bn_stats
from zoo.training.transfer.l2_sp import L2SP
from zoo.training.transfer.wise_ft import best_interpolation
from zoo.workflows.finetune.evaluation import evaluate_weights
from zoo.workflows.finetune.linear_probing.phase import run_linear_probing, zero_new_head
from zoo.workflows.finetune.session import TrainingSession, ValidationResult

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
    for key, given in (("wise_ft", recipe.transfer.wise_ft), ("compare_probe", recipe.transfer.compare_probe == "on")):
        if given and not chosen:
            problems.append(f"transfer.{key}: it needs the probing phase of lp-ft, and this run has none")
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
        if recipe.transfer.fixed_bn_stats:
            for module in model.module.modules():
                if isinstance(module, _BatchNorm):
                    module.eval()

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
        steps["head"], outcome = run_linear_probing(session, log)
    elif session.trains_head_only and session.model.weights.source != "none":
        zero_new_head(session)
    sync_module_states(trainer.module)
    transfer = recipe.transfer
    if transfer.l2_sp is not None or transfer.wise_ft or transfer.compare_probe == "on":
        run.save_start(trainer.weights())
    if steps:
        run.update(start=steps)
    attach_start_weights(run, session)
    return outcome


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
