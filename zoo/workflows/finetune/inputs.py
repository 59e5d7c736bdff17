"""Opens what a recipe names: data, model, freeze plan, loaders; or raises every problem at once."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import torch
from torch import Tensor

from zoo import dist_env
from zoo.augment import make_augment
from zoo.augment.build import Augment
from zoo.data import Data, Loader, make_loader, open_data
from zoo.data.check import PreflightReport, preflight_check
from zoo.data.config import DataConfig
from zoo.data.loader import LoaderOptions
from zoo.errors import ZooError, combine
from zoo.losses.class_weights import class_weights
from zoo.models import Model, build
from zoo.preprocess import Preprocess
from zoo.recipe import Recipe
from zoo.strategy.freeze import FreezePlan, resolve_plan
from zoo.tasks import TASKS, Task
from zoo.training.device import pick_device
from zoo.training.target_scaler import TargetScaler
from zoo.workflows.finetune import validate


@dataclass(frozen=True)
class OpenedInputs:
    """class_weights: (K,) for the loss, or None. scale: of regression targets. preflight: the quick check of the data,
    or None. The model is on the CPU, and the plan is not applied yet."""

    data: Data
    task: Task
    device: torch.device
    model: Model
    plan: FreezePlan
    class_weights: Tensor | None
    scale: TargetScaler | None
    preflight: PreflightReport | None


def open_inputs(
    recipe: Recipe,
    *,
    output_dir: Path | None,
    model: Model | None,
    earlier_problems: Sequence[ZooError],
    run_preflight: bool,
) -> OpenedInputs:
    """Data, model and plan. run_preflight: whether to check the data for common problems; for the other parameters see
    `build_session`."""
    problems = [*earlier_problems, *validate.check_output_dir(output_dir)]

    # Data: path → samples → split → task.
    data: Data | None = None
    weights: Tensor | None = None
    with validate.collect_errors(problems):
        data = open_dataset(recipe)
        validate.check_classes(recipe.model.classes, data)
        weights = class_weights(recipe.loss.class_weights, data.train.targets, data.classes, task=data.task)
    task = TASKS.get(data.task if data else recipe.task)
    preflight = preflight_check(data) if data is not None and run_preflight else None
    problems[:0] = validate.check_components(recipe, task)

    # Model: name → module with a head for these classes → what is trained.
    device: torch.device | None = None
    plan: FreezePlan | None = None
    scale: TargetScaler | None = None
    with validate.collect_errors(problems):
        device = pick_device(recipe.train.device)
        model = model or create_model(recipe, data, with_weights=not problems)
        validate.check_param_groups(recipe, model)
        plan = resolve_plan(recipe.freeze, model.groups, model.module)
        if data is not None and not TASKS[data.task].has_classes:
            scale = TargetScaler.fit(data.train.targets)
            scale.layers(model.module, model.head)
    if problems or data is None or device is None or model is None or plan is None or task is None:
        raise combine(problems)
    return OpenedInputs(data, task, device, model, plan, weights, scale, preflight)


def open_dataset(recipe: Recipe) -> Data:
    return open_data(recipe.data, task=recipe.task, seed=recipe.train.seed, channels=recipe.model.in_chans)


def create_model(recipe: Recipe, data: Data | None, *, with_weights: bool) -> Model:
    """The model on the CPU. with_weights: False after a problem; the structure is then checked without weights."""
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
        head=recipe.model.head,
        head_init=recipe.model.head_init,
    )


@dataclass(frozen=True)
class Loaders:
    """uint8 batches of training and validation images. unaugmented opens the training images without augmentation."""

    train: Loader
    val: Loader
    unaugmented: Callable[[], Loader]


def make_loaders(
    recipe: Recipe, data: Data, preprocess: Preprocess, workers: int, *, pin_memory: bool, size: int | None = None
) -> Loaders:
    """size: of training batches, if not the recipe's. Each of several processes has its share of training and
    validation images, and all images of the unaugmented loader."""
    options = LoaderOptions(part=(dist_env.rank(), dist_env.world_size()), pin_memory=pin_memory)
    make = partial(make_loader, preprocess=preprocess, workers=workers)
    # The steps before the first epoch see the classes as often as the epochs do.
    make_train = partial(
        make,
        data.train,
        batch_size=size or per_process_batch_size(recipe, data),
        train=True,
        seed=recipe.train.seed,
    )
    balanced = replace(options, balance=recipe.data.balance)
    train = make_train(augment=build_augment(recipe, data, preprocess), options=balanced)
    val = make(data.val, batch_size=int(recipe.data.batch_size), train=False, augment=None, seed=0, options=options)
    return Loaders(train, val, partial(make_train, augment=None, options=replace(balanced, part=(0, 1))))


def build_augment(recipe: Recipe, data: Data, preprocess: Preprocess) -> Augment:
    """The augmentation of training images. Raises UsageError as `make_augment` does."""
    config = recipe.augment
    flips = data.flips_ok if config.flips == "auto" else config.flips == "on"
    return make_augment(config.name, preprocess=preprocess, flips=flips, params=config.params)


def per_process_batch_size(recipe: Recipe, data: Data) -> int:
    """Images per step in each process; the default number as long as data.batch_size is auto."""
    size = DataConfig().batch_size if recipe.data.batch_size == "auto" else recipe.data.batch_size
    return min(int(size), math.ceil(len(data.train) / dist_env.world_size()))
