"""The parts of a training, each made from its section of the recipe."""

from __future__ import annotations

import math
from functools import partial

import torch
from torch import nn

from zoo import dist_env, metrics
from zoo.augment import make_augment
from zoo.augment.build import Augment
from zoo.augment.mixing import Mixing
from zoo.data import Data, Loader, make_loader
from zoo.models import Model
from zoo.optim.param_groups import make_optimizer, parameter_groups
from zoo.optim.schedules import Schedule, make_schedule
from zoo.preprocess import Preprocess
from zoo.recipe import Recipe
from zoo.recipe.sections import DataSection
from zoo.workflows.finetune import validate

__all__ = [
    "augment_of",
    "batch_of",
    "blocks_of",
    "make_loaders",
    "make_mixing",
    "make_recipe_optimizer",
    "make_recipe_schedule",
    "with_batch_norm_together",
]


def make_loaders(
    recipe: Recipe, data: Data, preprocess: Preprocess, workers: int, *, pin: bool, size: int | None = None
) -> tuple[Loader, Loader, partial[Loader]]:
    """Training, validation, and what opens the training images without augmentation; uint8 until on the device.

    size: of training batches, if not the recipe's. Of several processes each has its part of the first two, and all of
    the last.
    """
    augment = augment_of(recipe, data, preprocess)
    share = dist_env.rank(), dist_env.count()
    size = size or batch_of(recipe, data)
    seed = recipe.train.seed
    make = partial(make_loader, preprocess=preprocess, workers=workers, pin=pin)
    # What is learned or measured before the first epoch meets the classes as often as the epochs do.
    of_train = partial(make, data.train, batch_size=size, train=True, seed=seed, balance=recipe.data.balance)
    val = make(data.val, batch_size=int(recipe.data.batch_size), train=False, augment=None, seed=0, share=share)
    return of_train(augment=augment, share=share), val, partial(of_train, augment=None)


def augment_of(recipe: Recipe, data: Data, preprocess: Preprocess) -> Augment:
    """What training images go through. Raises UsageError as `make_augment` does."""
    asked = recipe.augment
    flips = data.flips_ok if asked.flips == "auto" else asked.flips == "on"
    return make_augment(asked.name, preprocess=preprocess, flips=flips, params=asked.params)


def batch_of(recipe: Recipe, data: Data) -> int:
    """Images of a step in each process; where they are to be found yet, the usual number."""
    size = DataSection().batch_size if recipe.data.batch_size == "auto" else recipe.data.batch_size
    return min(int(size), math.ceil(len(data.train) / dist_env.count()))


def blocks_of(recipe: Recipe, model: Model) -> list[str] | None:
    """The stages, if tensors are cut; stem and head go with the whole."""
    if recipe.execution.parallel != "fsdp":
        return None
    return [path for group in model.groups[1:-1] for path in group.modules]


def with_batch_norm_together(recipe: Recipe, module: nn.Module) -> nn.Module:
    """`module` itself, its batch norms replaced by such as use the batches of all processes, if the recipe asks."""
    if recipe.execution.sync_batch_norm and dist_env.count() > 1:
        from timm.layers import norm_act

        converted: nn.Module = norm_act.convert_sync_batchnorm(module)  # type: ignore[no-untyped-call]
        return converted
    return module


def make_mixing(recipe: Recipe, data: Data) -> Mixing | None:
    asked = recipe.augment
    mixing = Mixing(asked.mixup, asked.cutmix, asked.mix_prob, asked.erase, classes=len(data.classes), task=data.task)
    return mixing if mixing.is_on else None


def make_recipe_optimizer(recipe: Recipe, model: Model) -> torch.optim.Optimizer:
    asked = recipe.optimizer
    groups = parameter_groups(
        model.module,
        [(g.name, g.parameters) for g in model.groups],
        lr=asked.lr,
        head_lr=asked.head_lr,
        layer_decay=asked.layer_decay,
        weight_decay=asked.weight_decay,
        overrides=validate.overrides(recipe),
        per_tensor=recipe.transfer.auto_rgn,
    )
    return make_optimizer(asked.name, groups, asked.params)


def make_recipe_schedule(recipe: Recipe, optimizer: torch.optim.Optimizer, batches: int, monitor: str) -> Schedule:
    return make_schedule(
        recipe.schedule.name,
        optimizer,
        recipe.schedule.params,
        updates_per_epoch=math.ceil(batches / recipe.train.grad_accum_steps),
        epochs=recipe.train.epochs,
        warmup_epochs=recipe.schedule.warmup_epochs,
        higher_is_better=metrics.higher_is_better(recipe.schedule.monitor or monitor),
    )
