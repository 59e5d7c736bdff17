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
from zoo.strategy.freeze import FreezePlan, plan_of, set_train_mode
from zoo.strategy.unfreeze import groups_opened, unfreeze_plan
from zoo.training.distributed import agree, tensors_of_first
from zoo.training.ema import ExponentialMovingAverage
from zoo.training.lora import add_lora, choose_layers, plain_name
from zoo.training.transfer.auto_rgn import relative_gradient_norms
from zoo.training.transfer.bn_adapt import reestimate
from zoo.training.transfer.l2_sp import L2SP
from zoo.training.transfer.lp_ft import learn_head
from zoo.training.transfer.wise_ft import best_mix
from zoo.workflows.finetune.feature_cache import HeadRows, kept_head
from zoo.workflows.finetune.session import Prepared

__all__ = [
    "Outcome",
    "adapt",
    "before_epoch",
    "begin",
    "finish",
    "head_first",
    "judge",
    "measure",
    "modes",
    "restore_start",
]

# What a head learns on frozen features hardly needs more decay than keeps it finite; as in the recipe `head-only`.
_HEAD_DECAY = 1e-4


@dataclass(frozen=True)
class Outcome:
    """What weights say of the validation images: outputs (N, K), targets, and the numbers that a row holds of them."""

    outputs: Tensor
    targets: Tensor
    values: dict[str, float]


# --- what is built ---------------------------------------------------------------------------------------------------


def head_first(recipe: Recipe, model: Model, plan: FreezePlan) -> bool:
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


def adapt(recipe: Recipe, model: Model, plan: FreezePlan) -> tuple[Model, FreezePlan]:
    """With adapters (LoRA) in place of what `plan` lets learn in the backbone; as given if the recipe wants none.

    The backbone's own tensors are then frozen; its adapters and what the plan leaves open of the head learn.
    """
    lora = recipe.transfer.lora
    if lora is None:
        return model, plan
    module, head = model.module, set(model.groups[-1].parameters)
    learning = {name for name, _ in module.named_parameters()} - plan.frozen
    layers = choose_layers(module, learning - head, lora.layers, rank=lora.rank)
    added = add_lora(module, layers, rank=lora.rank, alpha=lora.alpha, learning=learning & head)
    names: dict[str, list[str]] = {}
    for name, _ in module.named_parameters():
        names.setdefault(plain_name(name), []).append(name)
    groups = tuple(_renamed(group, names) for group in model.groups)
    text = f"{plan.text}, LoRA of rank {lora.rank} on {len(layers)} matrices"
    return replace(model, groups=groups), plan_of(text, added.frozen, groups, module)


def _renamed(group: Group, names: dict[str, list[str]]) -> Group:
    """The group with the names that its parameters have beside adapters, and with the adapters."""
    return replace(group, parameters=tuple(n for p in group.parameters for n in names.get(p, ())))


def modes(recipe: Recipe, model: Model, plan: FreezePlan) -> Callable[[int], None]:
    """The function that puts the module into the training mode of an epoch (counted from 0)."""
    every = recipe.transfer.unfreeze_every

    def set_mode(epoch: int) -> None:
        current = plan
        if every is not None:
            current = unfreeze_plan(plan, model.groups, model.module, groups_opened(epoch, every))
            current.apply(model.module)
        set_train_mode(model.module, current)

    return set_mode


# --- before the first epoch ------------------------------------------------------------------------------------------


def begin(run: Run, prepared: Prepared, say: Callable[[str], None]) -> Outcome | None:
    """What comes before the first epoch: statistics, head; then the start is kept, if something will refer to it.

    What the model with the new head says, if the head has learned first: the first candidate for the best weights.
    """
    recipe, trainer = prepared.recipe, prepared.trainer
    steps: dict[str, Any] = {}
    if recipe.transfer.bn_reestimate:
        layers = reestimate(
            trainer.module,
            prepared.plain(),
            trainer.normalize,
            device=trainer.engine.device,
            amp_dtype=trainer.amp_dtype,
        )
        steps["batch_norm_layers"] = layers
        say(f"batch-norm statistics of {layers} layers taken from the training images" if layers else _NO_BATCH_NORM)
    outcome = None
    if prepared.head_first:
        steps["head"], outcome = _learn_head(prepared, say)
    trainer.make_same()
    if recipe.transfer.l2_sp is not None or recipe.transfer.wise_ft:
        run.save_start(trainer.weights())
    if steps:
        run.update(start=steps)
    restore_start(run, prepared)
    return outcome


_NO_BATCH_NORM = "transfer.bn_reestimate: this model has no batch norm"


def _learn_head(prepared: Prepared, say: Callable[[str], None]) -> tuple[dict[str, Any], Outcome]:
    recipe, trainer = prepared.recipe, prepared.trainer
    rows = kept_head(prepared, say)
    found = learn_head(
        trainer.module,
        prepared.model.head,
        prepared.plain(),
        trainer.loss,
        trainer.normalize,
        epochs=recipe.transfer.head_epochs,
        lr=recipe.transfer.head_lr,
        weight_decay=_HEAD_DECAY,
        device=trainer.engine.device,
        amp_dtype=trainer.amp_dtype,
        seed=recipe.train.seed,
        prepare_target=trainer.for_loss,
        kept=None if rows is None else rows.train,
    )
    outcome = judge(prepared, trainer.weights(), rows)
    value = outcome.values[recipe.train.monitor]
    say(
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


def restore_start(run: Run, prepared: Prepared) -> None:
    """Set up what refers to the weights of the start: at the beginning, and again on resume, before the state is."""
    recipe, trainer = prepared.recipe, prepared.trainer
    transfer = recipe.transfer
    if recipe.train.model_ema:
        trainer.ema = ExponentialMovingAverage(trainer.module, recipe.train.model_ema_decay)
    if transfer.l2_sp is not None:
        trainer.penalty = L2SP(
            trainer.module,
            tensors_of_first(run.start, trainer.weights()),
            head=set(prepared.model.groups[-1].parameters),
            alpha=transfer.l2_sp,
            beta=transfer.l2_sp_head,
        )


def before_epoch(prepared: Prepared) -> None:
    """Rates of the epoch to come, where they follow the gradients (Auto-RGN)."""
    if not prepared.recipe.transfer.auto_rgn:
        return
    trainer = prepared.trainer
    factors = relative_gradient_norms(
        trainer.module,
        trainer.optimizer,
        prepared.plain(),
        trainer.loss,
        trainer.normalize,
        device=trainer.engine.device,
        amp_dtype=trainer.amp_dtype,
        prepare_target=trainer.for_loss,
    )
    trainer.schedule.set_scales(agree(factors))


# --- behind the last -------------------------------------------------------------------------------------------------


def judge(prepared: Prepared, weights: dict[str, Tensor], rows: HeadRows | None = None) -> Outcome:
    """What `weights`, as a run keeps them, say of the validation images; of what is kept of them, if given."""
    trainer = prepared.trainer
    module = rebuild(record(prepared.model)).module
    load_strict(module, weights)
    module.to(trainer.engine.device)
    if rows is None or prepared.recipe.transfer.lora is not None:  # with adapters, the modules have other names
        outputs, targets = trainer.forward_all(module, prepared.val)
    else:
        outputs, targets = trainer.forward_all(module, rows.val, rows.prefix)
    return measure(prepared, outputs, targets, trainer.loss_of(outputs, targets))


def measure(prepared: Prepared, outputs: Tensor, targets: Tensor, loss: float) -> Outcome:
    """The numbers of a row, without the prefix val_; `loss` is the run's own."""
    recipe = prepared.recipe
    wanted = [*prepared.task.metrics, recipe.train.monitor, recipe.schedule.monitor or recipe.train.monitor]
    names = [name for name in dict.fromkeys(wanted) if name != "loss"]
    found = metrics.compute(names, outputs, targets, task=prepared.task.name)
    return Outcome(outputs, targets, {"loss": loss, **found})


def finish(
    run: Run, prepared: Prepared, best: dict[str, Any], outcome: Outcome | None, say: Callable[[str], None]
) -> tuple[dict[str, Any], Outcome]:
    """The best epoch and what it says; with `wise_ft` the mixture of start and best, if it validates better.

    outcome: of the best epoch, if this process has seen it.
    """
    if outcome is not None and not prepared.recipe.transfer.wise_ft:
        return best, outcome
    trainer = prepared.trainer
    last = trainer.weights()
    kept_weights = tensors_of_first(run.weights, last)
    kept = judge(prepared, kept_weights)
    if not prepared.recipe.transfer.wise_ft:
        return best, kept
    monitor = best["monitor"]
    # If nothing was better than the start, what may still be is a mixture of it with the last epoch.
    tuned = kept_weights if best["epoch"] else last
    mix = best_mix(
        tensors_of_first(run.start, last),
        tuned,
        lambda state: judge(prepared, state).values,
        lambda new, old: metrics.better(monitor, new[monitor], old[monitor]),
        end_value=kept.values,
    )
    if mix is None:
        say(f"wise-ft: no mixture with the start is better in {monitor}; the best epoch stays")
        return best, kept
    outcome = judge(prepared, mix.state)
    value = outcome.values[monitor]
    say(f"wise-ft: {mix.alpha:g} of the tuned weights and the rest of the start give {monitor} {value:.4g}")
    run.save_weights(mix.state)
    best = {**best, "value": value, "val_loss": outcome.values["loss"], "wise_ft": mix.alpha}
    run.update(best=best)
    return best, outcome
