"""What is checked, and what is decided for the user, before the first step of a fine-tuning."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor

from zoo import augment, losses, metrics, optim
from zoo.data import Data, auto_workers, make_loader
from zoo.errors import DataError, RecipeError, ZooError, nearest
from zoo.models import Model
from zoo.preprocess import Preprocess
from zoo.recipe import Recipe, build
from zoo.run import Run

__all__ = ["a_few", "classes", "collecting", "components", "input_size", "output_directory", "resolved", "workers"]


@contextmanager
def collecting(problems: list[ZooError]) -> Iterator[None]:
    """Put a ZooError raised inside on the list instead of letting it pass."""
    try:
        yield
    except ZooError as e:
        problems.append(e)


def components(recipe: Recipe) -> list[ZooError]:
    """Everything that the recipe names and that can be checked without data or model, as one error or none."""
    found = losses.problems(recipe.loss.name, recipe.loss.params)
    found += optim.problems(
        recipe.optimizer.name, recipe.optimizer.params, recipe.schedule.name, recipe.schedule.params
    )
    found += augment.problems(recipe.augment.name, recipe.augment.params)
    if recipe.train.monitor not in metrics.METRICS:
        close = nearest(recipe.train.monitor, metrics.METRICS)
        found.append(
            f"train.monitor: no metric named {recipe.train.monitor!r}; "
            + (f"did you mean {close[0]}?" if close else f"known: {', '.join(metrics.METRICS)}")
        )
    return [RecipeError(found, "`zoo recipes full` shows every key")] if found else []


def output_directory(path: Path | None) -> list[ZooError]:
    """Whether a run could be made at `path`, without making it."""
    problems: list[ZooError] = []
    if path is not None:
        with collecting(problems):
            Run.check_free(path)
    return problems


def classes(asked: int | None, data: Data) -> None:
    """Raises DataError if the data do not have the number of classes that was asked for."""
    if asked is not None and asked != len(data.classes):
        shown = ", ".join(data.classes[:20]) + (", …" if len(data.classes) > 20 else "")
        raise DataError(
            f"--classes {asked}, but {data.name} has {len(data.classes)} classes: {shown}",
            "leave --classes out to take the data's, or correct the folders",
        )


def input_size(recipe: Recipe, model: Model, data: Data) -> tuple[Preprocess, str]:
    """The preprocessing of the run, and a sentence if its size is not the model's own.

    Images that are far smaller than the model's input gain nothing from being enlarged to it, and cost its square: data
    that know their useful size get it, if the architecture takes any size and the user has not chosen one.
    """
    own, useful = model.preprocess, data.useful_size
    fixed = bool(model.pretrained_cfg.get("fixed_input_size", False))
    if recipe.model.img_size is not None or useful is None or fixed or min(own.height, own.width) <= useful:
        return own, ""
    return own.with_size(useful, useful), (
        f"input {useful}x{useful}, enough for {data.name}, instead of the model's {own.height}x{own.width}; "
        "--img-size changes it"
    )


def workers(asked: int | Literal["auto"], data: Data) -> int:
    return auto_workers(data.train) if asked == "auto" else asked


def a_few(data: Data, preprocess: Preprocess, device: torch.device) -> tuple[Tensor, Tensor]:
    """Up to 8 training images (n, C, H, W) uint8 and their classes (n,), without augmentation, on `device`."""
    loader = make_loader(data.train, preprocess=preprocess, batch_size=8, train=False, augment=None, seed=0, workers=0)
    images, targets = next(iter(loader))
    return images.to(device), targets.to(device)


def resolved(recipe: Recipe, *, data: Data, preprocess: Preprocess, precision: str, workers: int) -> Recipe:
    """The recipe with every choice made, so that running it again does the same."""
    changes: dict[str, Any] = {
        "model.classes": len(data.classes),
        "train.amp_dtype": precision,
        "data.workers": workers,
    }
    if recipe.model.img_size is not None or data.useful_size is not None:
        changes["model.img_size"] = preprocess.height
    for key, value in (
        ("data.source", recipe.data.source),
        ("data.val", recipe.data.val),
        ("model.weights", recipe.model.weights),
    ):
        if value is None:
            continue
        scheme, path = ("local-dir:", value[10:]) if value.startswith("local-dir:") else ("", value)
        if os.path.exists(path):
            changes[key] = f"{scheme}{Path(path).resolve()}"
    return build(recipe.model_dump(), changes)
