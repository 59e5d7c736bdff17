"""Checks before the first step of a fine-tuning, and small choices made for the user."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor

from zoo import augment, dist_env, losses, metrics, optim
from zoo.augment.mixing import mixing_problems
from zoo.data import Data, auto_workers, make_loader
from zoo.data.sources.shard_paths import is_webdataset
from zoo.data.split.file import read_split
from zoo.errors import DataError, RecipeError, ZooError
from zoo.models import Model
from zoo.optim.param_groups import GroupOverride, group_problems
from zoo.preprocess import Preprocess
from zoo.recipe import Recipe, build, data_source
from zoo.run import Run
from zoo.tasks import DEFAULT_TASK, TASKS, Task


@contextmanager
def collect_errors(problems: list[ZooError]) -> Iterator[None]:
    """Append a ZooError that is raised inside to `problems` instead of raising it."""
    try:
        yield
    except ZooError as e:
        problems.append(e)


def check_components(recipe: Recipe, task: Task | None) -> list[ZooError]:
    """Check everything in the recipe that needs no model; a list of one error, or empty.

    task: None if it is unknown because the data could not be opened.
    """
    name = task.name if task is not None else None
    problems: list[str] = []
    loss, params = recipe.loss.name, recipe.loss.params
    if loss == "auto":
        loss = (task or DEFAULT_TASK).loss
        params = {
            k: v for k, v in params.items() if not _accepted_by_some_task(k, v)
        }  # the others are checked by `resolve_loss`
    if task is not None or params or recipe.loss.name != "auto":
        problems += losses.problems(loss, params, name, class_weights=recipe.loss.class_weights, mixed=_mixes(recipe))
    problems += optim.problems(
        recipe.optimizer.name, recipe.optimizer.params, recipe.schedule.name, recipe.schedule.params
    )
    problems += augment.problems(recipe.augment.name, recipe.augment.params)
    if task is not None:
        mixed = recipe.augment
        problems += mixing_problems(mixed.mixup, mixed.cutmix, mixed.mix_prob, mixed.erase, task.name)
        if not task.has_classes and recipe.data.balance != "none":
            problems.append(
                f"data.balance: {recipe.data.balance} needs classes, and {task.name} has none; leave it out"
            )
    for key, monitor in (("train.monitor", recipe.train.monitor), ("schedule.monitor", recipe.schedule.monitor)):
        if monitor is not None and monitor != "auto":
            problems += [f"{key}: {problem}" for problem in _monitor_problems(monitor, task)]
    problems += _contradictions(recipe)
    return [RecipeError(problems, "`zoo recipes full` shows every key")] if problems else []


def check_param_groups(recipe: Recipe, model: Model) -> None:
    """Raises RecipeError if a glob of optimizer.groups matches no parameter of `model`."""
    names = [name for name, _ in model.module.named_parameters()]
    problems = group_problems(names, group_overrides(recipe))
    if problems:
        raise RecipeError(problems, "`zoo inspect MODEL --params MODULE` shows the names")


def group_overrides(recipe: Recipe) -> list[GroupOverride]:
    return [GroupOverride(g.match, g.lr, g.lr_scale, g.weight_decay) for g in recipe.optimizer.groups]


def _mixes(recipe: Recipe) -> bool:
    return bool(recipe.augment.mix_prob and (recipe.augment.mixup or recipe.augment.cutmix))


def _monitor_problems(monitor: str, task: Task | None) -> list[str]:
    """If the task is unknown, the problems that every task would have."""
    if task is not None:
        return metrics.problems(monitor, task.name)
    each = [metrics.problems(monitor, known.name) for known in TASKS.values()]
    return each[0] if all(each) else []


def _contradictions(recipe: Recipe) -> list[str]:
    """Pairs of fields that exclude each other."""
    transfer = recipe.transfer
    problems = []
    if recipe.data.balance != "none" and recipe.loss.class_weights in ("balanced", "effective"):
        problems.append(
            f"loss.class_weights: {recipe.loss.class_weights} and data.balance="
            f"{recipe.data.balance} both correct the class balance; leave one out"
        )
    if transfer.lora is not None and transfer.l2_sp is not None:
        problems.append("transfer.l2_sp: with transfer.lora the pretrained weights do not change at all; leave one out")
    if transfer.auto_rgn and transfer.unfreeze_every is not None:
        problems.append("transfer.auto_rgn: it and transfer.unfreeze_every both set learning rates; leave one out")
    if transfer.wise_ft and transfer.start == "plain":
        problems.append("transfer.wise_ft: it needs the probing phase of transfer.start=lp-ft, not plain")
    if recipe.execution.sync_batch_norm and not torch.cuda.is_available():
        problems.append(
            "execution.sync_batch_norm: PyTorch supports it on CUDA devices only, and there is none; leave it out"
        )
    if recipe.execution.parallel == "fsdp":
        others = {"train.model_ema": recipe.train.model_ema, "transfer.l2_sp": transfer.l2_sp is not None}
        others |= {"transfer.lora": transfer.lora is not None, "transfer.auto_rgn": transfer.auto_rgn}
        others |= {"transfer.unfreeze_every": transfer.unfreeze_every is not None}
        problems += [
            f"execution.parallel: fsdp shards the tensors that {key} needs whole; leave one out"
            for key, given in others.items()
            if given
        ]
    return problems


def check_output_dir(path: Path | None) -> list[ZooError]:
    """Whether a run can be created at `path`, without creating it."""
    problems: list[ZooError] = []
    if path is not None and dist_env.is_main_process():  # the first process may have created its run there already
        with collect_errors(problems):
            Run.check_free(path)
    return problems


def check_classes(requested: int | None, data: Data) -> None:
    """Raises DataError if the data do not have the requested number of classes."""
    if requested is not None and requested != len(data.classes):
        names_text = ", ".join(data.classes[:20]) + (", …" if len(data.classes) > 20 else "")
        raise DataError(
            f"--classes {requested}, but {data.name} has {len(data.classes)} {TASKS[data.task].outputs}: {names_text}",
            "leave out --classes to use the number of the data, or correct the data",
        )


def _accepted_by_some_task(parameter: str, value: Any) -> bool:
    """Whether the default loss of some task takes the parameter."""
    return any(not losses.problems(task.loss, {parameter: value}, task.name) for task in TASKS.values())


def resolve_loss(recipe: Recipe, task: Task) -> tuple[str, dict[str, Any], str]:
    """Name and parameters of the loss, and a sentence if parameters are ignored.

    A recipe with loss `auto` serves every task: parameters that the task's default loss does not take are ignored.
    """
    if recipe.loss.name != "auto":
        return recipe.loss.name, recipe.loss.params, ""
    accepted = {k: v for k, v in recipe.loss.params.items() if not losses.problems(task.loss, {k: v}, task.name)}
    dropped = ", ".join(k for k in recipe.loss.params if k not in accepted)
    return task.loss, accepted, f"loss.params: {task.loss} takes no {dropped}, which is ignored" if dropped else ""


# Below it, measured on up to 1,500 images, a smaller input costs accuracy: 11 to 27 points from 224 to 64 pixels.
_FEW_IMAGES = 2_000


def choose_input_size(recipe: Recipe, model: Model, data: Data) -> tuple[Preprocess, str]:
    """The preprocessing of the run, and a sentence if its size is not the model's default.

    Small images are enlarged to the size of the pretraining. Only data with a known useful size are used at that size,
    to save time, if the architecture takes any size and the user has not chosen one.
    """
    own, useful = model.preprocess, data.useful_size
    fixed = bool(model.pretrained_cfg.get("fixed_input_size", False))
    if recipe.model.img_size is not None and useful is None:
        return own, _small_size_note(recipe.model.img_size, model, len(data.train))
    if recipe.model.img_size is not None or useful is None or fixed or min(own.height, own.width) <= useful:
        return own, ""
    return own.with_size(useful, useful), (
        f"input size {useful}x{useful}, enough for {data.name}, instead of the model's {own.height}x{own.width}; "
        "--img-size changes it"
    )


def _small_size_note(size: int, model: Model, images: int) -> str:
    """A warning if the input is much smaller than that of the pretraining and there are few images to adapt to it."""
    trained = model.pretrained_cfg.get("input_size")
    if model.weights.source == "none" or trained is None or size > 0.75 * trained[-1] or images >= _FEW_IMAGES:
        return ""
    return (
        f"input size {size}x{size}: the model was trained at {trained[-2]}x{trained[-1]}, and with few images that "
        "size is usually more accurate, also for smaller images; leave out --img-size"
    )


def random_crop_note(recipe: Recipe, task: Task) -> str:
    """A warning if random crops may change the regression targets."""
    if task.keeps_targets_under_geometry or recipe.augment.name not in ("light", "medium", "strong"):
        return ""
    return (
        f"augment {recipe.augment.name} takes random crops, which change sizes and positions: if the targets depend on "
        "these, use --set augment.name=none"
    )


def data_leakage_note(recipe: Recipe, data: Data) -> str:
    """A warning if the weights come from a run that may have trained on images that are now used for validation."""
    run = Run(Path(recipe.model.weights))
    source = recipe.data.source
    same = {source, str(Path(source).resolve())}
    if not data.was_split or not run.split_file.is_file() or data_source(run.path) not in same:
        return ""
    held_out = read_split(run.path).names
    seen = sum(name not in held_out for name in data.val.names)
    return (
        f"data leakage: {run.path} may have been trained on {seen:,} of the {len(data.val):,} validation images, which "
        f"makes metrics too good; --split {run.path} holds out the same images"
        if seen
        else ""
    )


def resolve_workers(requested: int | Literal["auto"], data: Data) -> int:
    return auto_workers(data.train) if requested == "auto" else requested


def sample_batch(data: Data, preprocess: Preprocess, device: torch.device) -> tuple[Tensor, Tensor]:
    """Up to 8 training images (n, C, H, W) uint8 and their targets, without augmentation, on `device`."""
    loader = make_loader(data.train, preprocess=preprocess, batch_size=8, train=False, augment=None, seed=0, workers=0)
    images, targets = next(iter(loader))
    return images.to(device), targets.to(device)


_RESERVED_NAMES = ("digits", "default", "none", "balanced", "effective")  # never names of folders


def resolved_recipe(recipe: Recipe, *, data: Data, preprocess: Preprocess) -> Recipe:
    """The recipe with classes, task, input size and absolute paths, so that it gives the same run from any folder."""
    changes: dict[str, Any] = {"model.classes": len(data.classes), "task": data.task}
    if recipe.model.img_size is not None or data.useful_size is not None:
        changes["model.img_size"] = preprocess.height
    for key, value in (
        ("data.source", recipe.data.source),
        ("data.val", recipe.data.val),
        ("data.split", recipe.data.split),
        ("model.weights", recipe.model.weights),
        ("loss.class_weights", recipe.loss.class_weights),
    ):
        if value is None or value in _RESERVED_NAMES:
            continue
        scheme = next((s for s in ("local-dir:", "hf:") if value.startswith(s)), "")
        path = value.removeprefix(scheme)
        if os.path.exists(path) or is_webdataset(path):  # a pattern of shards is not a path
            changes[key] = f"{scheme}{Path(path).resolve()}"
    return build(recipe.model_dump(), changes)
