"""How the pixels of a data set become a model's input: what of it is measured or decided before training."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

from zoo.data import Data
from zoo.data.statistics import SAMPLE, channel_statistics, measure_levels
from zoo.errors import UsageError
from zoo.models import Model
from zoo.preprocess import Levels, Preprocess
from zoo.recipe import Recipe
from zoo.workflows.finetune import validate

__all__ = ["Seen", "settle", "with_levels"]


@dataclass(frozen=True)
class Seen:
    """data: read by `preprocess.levels`. norm: whose mean and deviation `preprocess` has."""

    data: Data
    preprocess: Preprocess
    norm: Literal["model", "data"]
    notes: tuple[str, ...]  # what was decided for the user, a sentence each


def settle(recipe: Recipe, model: Model, data: Data) -> Seen:
    """The size, fit, levels, mean and deviation that a training of `recipe` uses, evaluation and prediction after it.

    Raises UnreadableImage where the images that are measured cannot be read.
    """
    own, size_note = validate.input_size(recipe, model, data)
    data, levels, levels_note = with_levels(recipe, data)
    preprocess = replace(own.with_fit(recipe.data.fit), levels=levels)
    norm, why = _norm(recipe, model)
    if norm == "model":
        return Seen(data, preprocess, norm, (size_note, levels_note))
    mean, std = channel_statistics(data.train, preprocess, seed=recipe.train.seed)
    values = ", ".join(f"{m:.3f}±{s:.3f}" for m, s in zip(mean[:8], std[:8], strict=True))
    measured = (
        f"channels normalised by the mean and deviation of {min(SAMPLE, len(data.train)):,} training images, {values}"
        f"{', …' if len(mean) > 8 else ''}{why}"
    )
    return Seen(data, replace(preprocess, mean=mean, std=std), norm, (size_note, levels_note, measured))


def with_levels(recipe: Recipe, data: Data) -> tuple[Data, Levels, str]:
    """`data`, read by the levels that `recipe` asks for, those levels, and a sentence about what was measured."""
    asked = recipe.data.levels
    if asked == "auto":
        levels, said = measure_levels(data.train, data.val)
    else:
        whites = (asked,) if isinstance(asked, int) else asked
        if len(whites) not in (1, recipe.model.in_chans):
            text = f"data.levels names white of {len(whites)} channels, and the images have {recipe.model.in_chans}"
            raise UsageError(text, "give one number, or one for each channel")
        levels, said = Levels(whites, tuple(map(float, whites)), clips=True), ""
    return data.with_levels(levels), levels, said


def _norm(recipe: Recipe, model: Model) -> tuple[Literal["model", "data"], str]:
    """Whose statistics, and why if the user has not said it.

    Those of published weights are of red, green and blue; a model of one channel has their mean for its grey, as its
    filters are their sum. They say nothing of other channels, nor to weights that start at random.
    """
    if recipe.data.norm != "auto":
        return recipe.data.norm, ""
    if recipe.model.weights == "none":
        return "data", ": the weights bring none"
    if model.preprocess.channels not in (1, 3):
        return "data", f": those of the weights are not for {model.preprocess.channels} channels"
    return "model", ""
