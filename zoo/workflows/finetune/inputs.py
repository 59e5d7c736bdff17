"""Data, model and plan of a recipe, opened and built; or every problem that they have, at once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from zoo.data import Data, open_data
from zoo.data.check import PreflightReport, preflight_check
from zoo.errors import ZooError, combine
from zoo.losses.class_weights import class_weights
from zoo.models import Model, build
from zoo.recipe import Recipe
from zoo.strategy.freeze import FreezePlan, resolve_plan
from zoo.tasks import TASKS, Task
from zoo.training.device import pick_device
from zoo.training.target_scaler import TargetScaler
from zoo.workflows.finetune import validate

__all__ = ["OpenedInputs", "build_model", "open_dataset", "open_inputs"]


@dataclass(frozen=True)
class OpenedInputs:
    """class_weights: (K,) for the loss, if it wants them. scale: of regression targets. preflight: the quick look at
    the data, if it was asked for. The model is on the CPU, and nothing is applied to it yet."""

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
    """run_preflight: whether to look for what is wrong with the data. The rest is
    `zoo.workflows.finetune.build.prepare`'s."""
    problems = [*earlier_problems, *validate.check_output_dir(output_dir)]

    # Data: path → samples → split → task.
    data: Data | None = None
    weights: Tensor | None = None
    with validate.collect_errors(problems):
        data = open_dataset(recipe)
        validate.classes(recipe.model.classes, data)
        weights = class_weights(recipe.loss.class_weights, data.train.targets, data.classes, task=data.task)
    task = TASKS.get(data.task if data else recipe.task)
    preflight = preflight_check(data) if data is not None and run_preflight else None
    problems[:0] = validate.check_components(recipe, task)

    # Model: name → module with a head for these classes → what of it learns.
    device: torch.device | None = None
    plan: FreezePlan | None = None
    scale: TargetScaler | None = None
    with validate.collect_errors(problems):
        device = pick_device(recipe.train.device)
        model = model or build_model(recipe, data, with_weights=not problems)
        validate.groups(recipe, model)
        plan = resolve_plan(recipe.freeze, model.groups, model.module)
        if data is not None and not TASKS[data.task].has_classes:
            scale = TargetScaler.fit(data.train.targets)
            scale.layers(model.module, model.head)
    if problems or data is None or device is None or model is None or plan is None or task is None:
        raise combine(problems)
    return OpenedInputs(data, task, device, model, plan, weights, scale, preflight)


def open_dataset(recipe: Recipe) -> Data:
    return open_data(recipe.data, task=recipe.task, seed=recipe.train.seed, channels=recipe.model.in_chans)


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
