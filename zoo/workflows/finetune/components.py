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
from zoo.data.config import DataConfig
from zoo.models import Model
from zoo.optim.param_groups import make_optimizer, parameter_groups
from zoo.optim.schedules import Schedule, make_schedule
from zoo.preprocess import Preprocess
from zoo.recipe import Recipe
from zoo.workflows.finetune import validate

__all__ = [
    "build_augment",
    "convert_sync_batch_norm",
    "fsdp_blocks",
    "make_loaders",
    "make_mixing",
    "make_recipe_optimizer",
    "make_recipe_schedule",
    "per_process_batch_size",
]


def make_loaders(
    recipe: Recipe, data: Data, preprocess: Preprocess, workers: int, *, pin_memory: bool, size: int | None = None
) -> tuple[Loader, Loader, partial[Loader]]:
    """Training, validation, and what opens the training images without augmentation; uint8 until on the device.

    size: of training batches, if not the recipe's. Of several processes each has its part of the first two, and all of
    the last.
    """
    augment = build_augment(recipe, data, preprocess)
    share = dist_env.rank(), dist_env.world_size()
    size = size or per_process_batch_size(recipe, data)
    seed = recipe.train.seed
    make = partial(make_loader, preprocess=preprocess, workers=workers, pin_memory=pin_memory)
    # What is learned or measured before the first epoch meets the classes as often as the epochs do.
    make_train_loader = partial(make, data.train, batch_size=size, train=True, seed=seed, balance=recipe.data.balance)
    val = make(data.val, batch_size=int(recipe.data.batch_size), train=False, augment=None, seed=0, share=share)
    return make_train_loader(augment=augment, share=share), val, partial(make_train_loader, augment=None)


def build_augment(recipe: Recipe, data: Data, preprocess: Preprocess) -> Augment:
    """What training images go through. Raises UsageError as `make_augment` does."""
    config = recipe.augment
    flips = data.flips_ok if config.flips == "auto" else config.flips == "on"
    return make_augment(config.name, preprocess=preprocess, flips=flips, params=config.params)


def per_process_batch_size(recipe: Recipe, data: Data) -> int:
    """Images of a step in each process; where they are to be found yet, the usual number."""
    size = DataConfig().batch_size if recipe.data.batch_size == "auto" else recipe.data.batch_size
    return min(int(size), math.ceil(len(data.train) / dist_env.world_size()))


def fsdp_blocks(recipe: Recipe, model: Model) -> list[str] | None:
    """The stages, if tensors are cut; stem and head go with the whole."""
    if recipe.execution.parallel != "fsdp":
        return None
    return [path for group in model.groups[1:-1] for path in group.modules]


def convert_sync_batch_norm(recipe: Recipe, module: nn.Module) -> nn.Module:
    """`module` itself, its batch norms replaced by such as use the batches of all processes, if the recipe asks."""
    if recipe.execution.sync_batch_norm and dist_env.world_size() > 1:
        from timm.layers import norm_act

        converted: nn.Module = norm_act.convert_sync_batchnorm(module)  # type: ignore[no-untyped-call]
        return converted
    return module


def make_mixing(recipe: Recipe, data: Data) -> Mixing | None:
    config = recipe.augment
    mixing = Mixing(
        config.mixup, config.cutmix, config.mix_prob, config.erase, classes=len(data.classes), task=data.task
    )
    return mixing if mixing.is_on else None


def make_recipe_optimizer(recipe: Recipe, model: Model) -> torch.optim.Optimizer:
    config = recipe.optimizer
    groups = parameter_groups(
        model.module,
        [(g.name, g.parameters) for g in model.groups],
        lr=config.lr,
        head_lr=config.head_lr,
        layer_decay=config.layer_decay,
        weight_decay=config.weight_decay,
        overrides=validate.overrides(recipe),
        per_tensor=recipe.transfer.auto_rgn,
    )
    return make_optimizer(config.name, groups, config.params)


def make_recipe_schedule(recipe: Recipe, optimizer: torch.optim.Optimizer, batches: int, monitor: str) -> Schedule:
    return make_schedule(
        recipe.schedule.name,
        optimizer,
        recipe.schedule.params,
        steps_per_epoch=math.ceil(batches / recipe.train.grad_accum_steps),
        epochs=recipe.train.epochs,
        warmup_epochs=recipe.schedule.warmup_epochs,
        higher_is_better=metrics.higher_is_better(recipe.schedule.monitor or monitor),
    )
