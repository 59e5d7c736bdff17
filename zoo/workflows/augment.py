"""`zoo augment`: a picture of training images before and after a recipe's augmentation."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from zoo.augment import problems
from zoo.augment.mixing import Mixing, mixing_problems
from zoo.data import Data, Loader, make_loader
from zoo.data.dataset import Subset
from zoo.errors import DataError, RecipeError, UsageError, ZooError, combine
from zoo.preprocess import IMAGENET_MEAN, IMAGENET_STD, Preprocess
from zoo.recipe import Recipe, build, load_values
from zoo.reports.augment_grid import GridRow
from zoo.reports.augment_grid import augment_grid as draw
from zoo.reports.canvas import drawable
from zoo.tasks import DEFAULT_TASK, TASKS
from zoo.workflows.finetune import preprocessing, validate
from zoo.workflows.finetune.inputs import build_augment, open_dataset

_SIZE = 224  # pixels per side without a model: the input size of most


@dataclass(frozen=True)
class AugmentGrid:
    """path: the picture. size: height and width in pixels. images: (name of a row, path of its image) pairs. notes:
    sentences about what is not shown or was assumed."""

    path: Path
    augment: str
    size: tuple[int, int]
    images: tuple[tuple[str, str], ...]
    notes: tuple[str, ...]

    def to_dict(self) -> dict[str, Any]:
        return {
            "picture": str(self.path),
            "augment": self.augment,
            "size": list(self.size),
            "images": [{"row": row, "image": image} for row, image in self.images],
            "notes": list(self.notes),
        }


def augment_grid(
    data: str | Path,
    *,
    model: str | None = None,
    recipe: str | Path | None = None,
    settings: Mapping[str, Any] | None = None,
    out: str | Path = "augment.png",
    classes_shown: int = 10,
    per_class: int = 6,
    seed: int | None = None,
) -> AugmentGrid:
    """Draw one training image per class, as in evaluation and as augmented in each of `per_class` epochs.

    The images come from the training loader, before normalization; MixUp, CutMix and erasing act on the batch of them.

    Args:
        data: a data source, as for `finetune`.
        model: model name, for the input size; without one here or in the recipe, img_size, the data, or 224 decide.
        recipe: as for `finetune`; default: full.
        settings: dotted recipe keys and their values.
        out: the PNG file to write.
        classes_shown: number of rows.
        per_class: number of augmented images per row.
        seed: of the choice of images and of the augmentation; default: the recipe's.

    Raises:
        ZooError: any problem that the caller can fix.
    """
    path = Path(out)
    for name, value in (("--classes-shown", classes_shown), ("--per-class", per_class)):
        if value < 1:
            raise UsageError(f"{name} {value} is less than 1", "give 1 or more")
    if path.suffix.lower() != ".png":
        raise UsageError(f"--out {path} does not end in .png", "the picture is a PNG; name it so")
    chosen = _recipe(data, model, recipe, settings, seed)
    opened, preprocess, mixing = _open_inputs(chosen)
    rows, row_notes = _rows(opened, classes_shown, chosen.train.seed)
    notes = [*opened.notes, *_channel_note(opened.train.channels), *row_notes]
    subset = Subset(opened.train, np.array([row.index for row in rows], dtype=np.int64))
    augment = build_augment(chosen, opened, preprocess)
    unaugmented_loader = _loader(subset, preprocess, None, 0)
    augmented = _loader(subset, preprocess, augment, chosen.train.seed)
    columns = [_batch(unaugmented_loader, 0)[0].numpy()]
    captions = [[""] * len(rows)]
    for epoch in range(per_class):
        images, targets = _batch(augmented, epoch)
        if mixing.is_on:
            images, targets = mixing(images, targets, torch.Generator().manual_seed(chosen.train.seed + epoch))
        columns.append(images.numpy())
        captions.append([_mixed_target_text(t, opened) for t in targets] if mixing.mixes else [""] * len(rows))
    if mixing.mixes and len(rows) > 1:
        notes.append("mixed images are pairs of rows: each with the one above it, the first with the last")
    name, height, width = _title(chosen, mixing), preprocess.height, preprocess.width
    draw(
        [
            GridRow(
                drawable(row.name, row.number),
                [column[r].transpose(1, 2, 0) for column in columns],
                [column[r] for column in captions] if mixing.mixes else (),
            )
            for r, row in enumerate(rows)
        ],
        ["evaluation", *(f"epoch {epoch + 1}" for epoch in range(per_class))],
        f"{name} · {width}×{height} · seed {chosen.train.seed}",
        path,
    )
    shown_images = tuple((row.name, subset.where(r)) for r, row in enumerate(rows))
    return AugmentGrid(path, name, (height, width), shown_images, tuple(notes))


def _recipe(
    data: str | Path, model: str | None, recipe: str | Path | None, settings: Mapping[str, Any] | None, seed: int | None
) -> Recipe:
    given = {"data.source": str(data), "model.name": model, "train.seed": seed}
    named = recipe or "full"
    overrides = {**(settings or {}), **{key: value for key, value in given.items() if value is not None}}
    return build(load_values(named), overrides, where=f"recipe {named}")


def _open_inputs(recipe: Recipe) -> tuple[Data, Preprocess, Mixing]:
    """The data, their preprocessing and the mixing; raises all problems at once."""
    found: list[ZooError] = []
    config = recipe.augment
    augment_problems = problems(config.name, config.params)
    data = preprocess = None
    with validate.collect_errors(found):
        data, preprocess = _read_and_fit(recipe, open_dataset(recipe))
    task = data.task if data is not None else DEFAULT_TASK.name
    augment_problems += mixing_problems(config.mixup, config.cutmix, config.mix_prob, config.erase, task)
    if augment_problems:
        found.insert(0, RecipeError(augment_problems, "docs/augmentation.md explains every field"))
    if found or data is None or preprocess is None:
        raise combine(found)
    mixing = Mixing(config.mixup, config.cutmix, config.mix_prob, config.erase, len(data.classes), task)
    return data, preprocess, mixing


def _read_and_fit(recipe: Recipe, data: Data) -> tuple[Data, Preprocess]:
    """The data and the preprocessing of a training of `recipe`."""
    if recipe.model.name:
        from zoo.models import build_on_meta

        built = build_on_meta(
            recipe.model.name, classes=len(data.classes), in_chans=recipe.model.in_chans, img_size=recipe.model.img_size
        )
        pixel_settings = preprocessing.resolve_preprocessing(recipe, built, data)
        return pixel_settings.data, pixel_settings.preprocess
    side = recipe.model.img_size or data.useful_size or _SIZE
    channels = data.train.channels
    mean, std = (IMAGENET_MEAN, IMAGENET_STD) if channels == 3 else ((0.5,) * channels, (0.5,) * channels)
    data, intensity_range, _ = preprocessing.with_intensity_range(recipe, data)
    return data, replace(
        Preprocess((channels, side, side), mean, std).with_fit(recipe.data.fit), intensity_range=intensity_range
    )


def _channel_note(channels: int) -> list[str]:
    if channels in (1, 3):
        return []
    drawn = "the first three are drawn as red, green and blue" if channels > 3 else "the first is drawn"
    return [f"the images have {channels} channels: {drawn}"]


@dataclass(frozen=True)
class _Row:
    name: str
    number: int  # of its class
    index: int


def _rows(data: Data, max_rows: int, seed: int) -> tuple[list[_Row], list[str]]:
    """The rows, and notes about classes that are left out."""
    rng = np.random.default_rng(seed)
    targets = data.train.targets
    if not TASKS[data.task].has_classes:
        # Images from the smallest to the largest of the first target, evenly.
        positions = np.unique(np.linspace(0, len(targets) - 1, min(max_rows, len(targets))).round().astype(int))
        order = np.argsort(targets[:, 0], kind="stable")[positions]
        return [_Row(f"{data.classes[0]} {targets[i, 0]:g}", 0, int(i)) for i in order], []
    rows = []
    for number, name in enumerate(data.classes[:max_rows]):
        class_indices = np.flatnonzero(targets == number if targets.ndim == 1 else targets[:, number])
        if len(class_indices):
            rows.append(_Row(name, number, int(rng.choice(class_indices))))
    if len(data.classes) <= max_rows:
        return rows, []
    what = TASKS[data.task].outputs
    return rows, [f"the first {max_rows} of {len(data.classes):,} {what} are shown; --classes-shown changes that"]


def _loader(subset: Subset, preprocess: Preprocess, augment: Any, seed: int) -> Loader:
    return make_loader(
        subset, preprocess=preprocess, batch_size=len(subset), train=False, augment=augment, seed=seed, workers=0
    )


def _batch(loader: Loader, epoch: int) -> tuple[torch.Tensor, torch.Tensor]:
    """The only batch of an epoch. Raises DataError if an image is unreadable."""
    loader.set_epoch(epoch)
    for batch in loader:
        if loader.problems:
            break
        return batch
    raise DataError(str(loader.problems[0]), "replace the file or remove it")


def _mixed_target_text(target: torch.Tensor, data: Data) -> str:
    """A mixed target as text: "cat 0.70, dog 0.30"."""
    if not TASKS[data.task].has_classes:
        return ", ".join(f"{float(v):g}" for v in target)
    largest = torch.argsort(target, descending=True)[:3].tolist()
    return ", ".join(f"{drawable(data.classes[i], i)} {float(target[i]):.2f}" for i in largest if target[i] > 0.005)


def _title(recipe: Recipe, mixing: Mixing) -> str:
    values = (("mixup", mixing.mixup), ("cutmix", mixing.cutmix), ("erase", mixing.erase))
    return " + ".join([recipe.augment.name, *(f"{name} {value:g}" for name, value in values if value)])
