"""A recipe → everything that it names, built and tried, before anything is written."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import torch
from torch import nn

from zoo import metrics
from zoo.augment import make_augment
from zoo.augment.mixing import Mixing
from zoo.data import Columns, Data, Loader, make_loader, open_data, order
from zoo.data.check import quick_check
from zoo.errors import ZooError, combine
from zoo.losses import make_loss
from zoo.losses.class_weights import class_weights
from zoo.models import Model, build
from zoo.optim.groups import make_optimizer, parameter_groups
from zoo.optim.schedules import Schedule, make_schedule
from zoo.preprocess import Preprocess
from zoo.progress import TrainingProgress
from zoo.recipe import Recipe
from zoo.strategy.freeze import FreezePlan, resolve_plan
from zoo.tasks import TASKS
from zoo.training.device import make_engine, pick_device
from zoo.training.inference import Normalize, forward_all
from zoo.training.precision import choose_precision
from zoo.training.targets import TargetScale
from zoo.training.trainer import Trainer
from zoo.training.trial import try_step
from zoo.workflows import checks, journal, pixels, transfer
from zoo.workflows.keeping import decide
from zoo.workflows.prepared import Prepared

__all__ = ["open_source", "prepare"]


def prepare(
    recipe: Recipe,
    *,
    output_dir: Path | None = None,
    progress: bool = False,
    model: Model | None = None,
    found: Sequence[ZooError] = (),
) -> Prepared:
    """Build everything that `recipe` names and try one step, without writing a file.

    model: the one to train, where it exists already. Raises one ZooError that lists every problem: those `found`
    before, and those of recipe, data, model, plan and output directory.
    """
    say = TrainingProgress(0, quiet=not progress).say
    problems = [*found, *checks.output_directory(output_dir)]

    # Data: path → samples → split → task.
    data: Data | None = None
    with checks.collecting(problems):
        data = open_source(recipe)
        checks.classes(recipe.model.classes, data)
        weights = class_weights(recipe.loss.class_weights, data.train.targets, data.classes, task=data.task)
    task = TASKS.get(data.task if data else recipe.task)
    quick = quick_check(data) if data is not None and progress else None
    problems[:0] = checks.components(recipe, task)

    # Model: name → module with a head for these classes → what of it learns.
    plan: FreezePlan | None = None
    scale: TargetScale | None = None
    with checks.collecting(problems):
        device = pick_device(recipe.train.device)
        model = model or _build(recipe, data, with_weights=not problems)
        checks.groups(recipe, model)
        plan = resolve_plan(recipe.freeze, model.groups, model.module)
        if data is not None and data.task == "regression":
            scale = TargetScale.measure(data.train.targets)
            scale.layers(model.module, model.head)
    if problems or data is None or model is None or plan is None or task is None:
        raise combine(problems)
    head_first = transfer.head_first(recipe, model, plan)
    model, plan = transfer.adapt(recipe, model, plan)
    plan.apply(model.module)
    module = model.module.to(device)
    seen = pixels.settle(recipe, model, data)
    data, preprocess = seen.data, seen.preprocess
    workers = checks.workers(recipe.data.workers, data)
    train, val, plain = _loaders(recipe, data, preprocess, workers, pin=device.type == "cuda")

    # How it learns, tried on a few images.
    loss_name, loss_params, loss_note = checks.loss_of(recipe, task)
    loss = make_loss(loss_name, loss_params, class_weights=weights)
    if isinstance(loss, nn.Module):
        loss.to(device)
    normalize = Normalize(preprocess).to(device)
    set_train_mode = transfer.modes(recipe, model, plan)
    set_train_mode(0)
    images, targets = checks.a_few(data, preprocess, device)
    mixing = _mixing(recipe, data)
    few = targets if scale is None else scale.to(device).standardise(targets)
    if mixing is not None:
        _, few = mixing(images, few, torch.Generator().manual_seed(0))
    asked = recipe.train.amp_dtype if recipe.train.amp else "fp32"
    precision = try_step(
        module,
        normalize,
        loss,
        images,
        few,
        auxiliary=model.auxiliary or 0.0,
        then=lambda step: choose_precision(asked, device, step, module, images),
    )
    plan.apply(module)  # all that will learn at some time goes to the optimizer
    monitor = task.monitor if recipe.train.monitor == "auto" else recipe.train.monitor
    own = [name for name in (monitor, recipe.schedule.monitor) if name is not None and ":" in name]
    if own:  # a user's metric is tried, too
        metrics.compute(own, *forward_all(module, [(images, targets)], normalize, device=device), task=task.name)
    optimizer = _optimizer(recipe, model)
    trainer = Trainer(
        engine=make_engine(device, precision.dtype),
        module=module,
        optimizer=optimizer,
        schedule=_schedule(recipe, optimizer, len(train), monitor),
        loss=loss,
        normalize=normalize,
        set_train_mode=set_train_mode,
        seed=recipe.train.seed,
        amp_dtype=precision.dtype,
        grad_accum_steps=recipe.train.grad_accum_steps,
        clip_grad=recipe.train.clip_grad,
        auxiliary=model.auxiliary or 0.0,
        scale=scale,
        mixing=mixing,
        scaled_layers=scale.layers(module, model.head) if scale is not None else (),
    )
    set_train_mode(0)
    keeping, keeping_note = decide(
        recipe, model, plan, images, normalize, precision.dtype,
        random=train.is_random, mixed=mixing is not None, sources=(data.train, data.val),
    )  # fmt: skip
    changes = {
        "loss.name": loss_name,
        "loss.params": loss_params,
        "train.amp_dtype": precision.name,
        "train.monitor": monitor,
        "data.workers": workers,
        "data.norm": seen.norm,
        "transfer.start": "lp-ft" if head_first else "plain",
    }
    sentences = (
        data.rule,
        checks.learned_before(recipe, data),
        order.says(data.train.targets, data.classes, recipe.data.balance),
        *seen.notes,
        loss_note,
        checks.crops(recipe, task),
        f"precision {precision.name}: {precision.reason}",
        keeping_note,
    )
    prepared = Prepared(
        recipe=checks.resolved(recipe, data=data, preprocess=preprocess, changes=changes),
        task=task,
        data=data,
        model=model,
        preprocess=preprocess,
        plan=plan,
        precision=precision,
        trainer=trainer,
        train=train,
        val=val,
        plain=plain,
        head_first=head_first,
        keeping=keeping,
        notes=tuple(n for n in sentences if n),
    )
    journal.announce(prepared, say)
    if quick is not None:
        journal.looked_at(quick, say)
    return prepared


def open_source(recipe: Recipe) -> Data:
    return open_data(
        recipe.data.source,
        val=recipe.data.val,
        val_fraction=recipe.data.val_fraction,
        seed=recipe.train.seed,
        folds=recipe.data.folds,
        fold=recipe.data.fold,
        saved_split=recipe.data.split,
        channels=recipe.model.in_chans,
        unreadable=recipe.data.unreadable,
        task=recipe.task,
        columns=Columns(
            image=recipe.data.image_column,
            labels=recipe.data.label_column,
            separator=recipe.data.label_separator,
            split=recipe.data.split_column,
            group=recipe.data.group_column,
        ),
    )


def _build(recipe: Recipe, data: Data | None, *, with_weights: bool) -> Model:
    """After a problem the structure is still checked, without its weights."""
    torch.manual_seed(recipe.train.seed)  # the new head, and everything if the weights are none
    return build(
        recipe.model.name,
        classes=len(data.classes) if data else recipe.model.classes or 2,
        in_chans=recipe.model.in_chans,
        img_size=recipe.model.img_size,
        weights=recipe.model.weights if with_weights else "none",
        drop=recipe.model.drop,
        drop_path=recipe.model.drop_path,
        pool=recipe.model.pool,
        stem=recipe.model.stem,
        head_init=recipe.model.head_init,
    )


def _loaders(
    recipe: Recipe, data: Data, preprocess: Preprocess, workers: int, *, pin: bool
) -> tuple[Loader, Loader, partial[Loader]]:
    """Training, validation, and what opens the training images without augmentation; uint8 until on the device."""
    augment = make_augment(
        recipe.augment.name, preprocess=preprocess, flips=data.flips_ok, params=recipe.augment.params
    )
    size = min(recipe.data.batch_size, len(data.train))
    seed = recipe.train.seed
    make = partial(make_loader, preprocess=preprocess, workers=workers, pin=pin)
    # What is learned or measured before the first epoch meets the classes as often as the epochs do.
    of_train = partial(make, data.train, batch_size=size, train=True, seed=seed, balance=recipe.data.balance)
    val = make(data.val, batch_size=recipe.data.batch_size, train=False, augment=None, seed=0)
    return of_train(augment=augment), val, partial(of_train, augment=None)


def _mixing(recipe: Recipe, data: Data) -> Mixing | None:
    asked = recipe.augment
    mixing = Mixing(asked.mixup, asked.cutmix, asked.mix_prob, asked.erase, classes=len(data.classes), task=data.task)
    return mixing if mixing.is_on else None


def _optimizer(recipe: Recipe, model: Model) -> torch.optim.Optimizer:
    asked = recipe.optimizer
    groups = parameter_groups(
        model.module,
        [(g.name, g.parameters) for g in model.groups],
        lr=asked.lr,
        head_lr=asked.head_lr,
        layer_decay=asked.layer_decay,
        weight_decay=asked.weight_decay,
        overrides=checks.overrides(recipe),
        per_tensor=recipe.transfer.auto_rgn,
    )
    return make_optimizer(asked.name, groups, asked.params)


def _schedule(recipe: Recipe, optimizer: torch.optim.Optimizer, batches: int, monitor: str) -> Schedule:
    return make_schedule(
        recipe.schedule.name,
        optimizer,
        recipe.schedule.params,
        updates_per_epoch=math.ceil(batches / recipe.train.grad_accum_steps),
        epochs=recipe.train.epochs,
        warmup_epochs=recipe.schedule.warmup_epochs,
        higher_is_better=metrics.higher_is_better(recipe.schedule.monitor or monitor),
    )
