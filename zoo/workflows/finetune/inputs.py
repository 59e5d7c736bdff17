"""Data, model and plan of a recipe, opened and built; or every problem that they have, at once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from zoo.data import Columns, Data, open_data
from zoo.data.check import Quick, quick_check
from zoo.errors import ZooError, combine
from zoo.losses.class_weights import class_weights
from zoo.models import Model, build
from zoo.recipe import Recipe
from zoo.strategy.freeze import FreezePlan, resolve_plan
from zoo.tasks import TASKS, Task
from zoo.training.device import pick_device
from zoo.training.target_scaler import TargetScale
from zoo.workflows.finetune import validate

__all__ = ["Gathered", "build_model", "gather", "open_source"]


@dataclass(frozen=True)
class Gathered:
    """class_weights: (K,) for the loss, if it wants them. scale: of regression targets. quick: the quick look at the
    data, if it was asked for. The model is on the CPU, and nothing is applied to it yet."""

    data: Data
    task: Task
    device: torch.device
    model: Model
    plan: FreezePlan
    class_weights: Tensor | None
    scale: TargetScale | None
    quick: Quick | None


def gather(
    recipe: Recipe, *, output_dir: Path | None, model: Model | None, found: Sequence[ZooError], look: bool
) -> Gathered:
    """look: whether to look for what is wrong with the data. The rest is `zoo.workflows.finetune.build.prepare`'s."""
    problems = [*found, *validate.output_directory(output_dir)]

    # Data: path → samples → split → task.
    data: Data | None = None
    weights: Tensor | None = None
    with validate.collecting(problems):
        data = open_source(recipe)
        validate.classes(recipe.model.classes, data)
        weights = class_weights(recipe.loss.class_weights, data.train.targets, data.classes, task=data.task)
    task = TASKS.get(data.task if data else recipe.task)
    quick = quick_check(data) if data is not None and look else None
    problems[:0] = validate.components(recipe, task)

    # Model: name → module with a head for these classes → what of it learns.
    device: torch.device | None = None
    plan: FreezePlan | None = None
    scale: TargetScale | None = None
    with validate.collecting(problems):
        device = pick_device(recipe.train.device)
        model = model or build_model(recipe, data, with_weights=not problems)
        validate.groups(recipe, model)
        plan = resolve_plan(recipe.freeze, model.groups, model.module)
        if data is not None and data.task == "regression":
            scale = TargetScale.measure(data.train.targets)
            scale.layers(model.module, model.head)
    if problems or data is None or device is None or model is None or plan is None or task is None:
        raise combine(problems)
    return Gathered(data, task, device, model, plan, weights, scale, quick)


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


def build_model(recipe: Recipe, data: Data | None, *, with_weights: bool) -> Model:
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
