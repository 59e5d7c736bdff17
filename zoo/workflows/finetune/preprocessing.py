"""How pixels become the input of the model: intensity range, size and normalization, chosen before training."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

from zoo.data import Data
from zoo.data.statistics import STATISTICS_SAMPLE, channel_statistics, measure_intensity_range
from zoo.errors import UsageError
from zoo.models import Model
from zoo.preprocess import IntensityRange, Preprocess
from zoo.recipe import Recipe
from zoo.workflows.finetune import validate


@dataclass(frozen=True)
class ResolvedPreprocessing:
    """data: read with the intensity range. norm: the source of mean and standard deviation."""

    data: Data
    preprocess: Preprocess
    norm: Literal["model", "data"]
    notes: tuple[str, ...]  # what was decided for the user, a sentence each


def resolve_preprocessing(recipe: Recipe, model: Model, data: Data) -> ResolvedPreprocessing:
    """Size, fit, intensity range, mean and standard deviation for training, and later for evaluation and prediction.

    Raises UnreadableImage if an image that is measured cannot be read.
    """
    own, size_note = validate.choose_input_size(recipe, model, data)
    data, intensity_range, range_note = with_intensity_range(recipe, data)
    preprocess = replace(own.with_fit(recipe.data.fit), intensity_range=intensity_range)
    norm, why = _choose_norm(recipe, model)
    if norm == "model":
        return ResolvedPreprocessing(data, preprocess, norm, (size_note, range_note))
    mean, std = channel_statistics(data.train, preprocess, seed=recipe.train.seed)
    values = ", ".join(f"{m:.3f}±{s:.3f}" for m, s in zip(mean[:8], std[:8], strict=True))
    norm_note = (
        f"normalization: mean and standard deviation of {min(STATISTICS_SAMPLE, len(data.train)):,} training images, "
        f"{values}"
        f"{', …' if len(mean) > 8 else ''}{why}"
    )
    return ResolvedPreprocessing(
        data, replace(preprocess, mean=mean, std=std), norm, (size_note, range_note, norm_note)
    )


def with_intensity_range(recipe: Recipe, data: Data) -> tuple[Data, IntensityRange, str]:
    """`data`, read with the intensity range of `recipe`; that range, and a sentence if it was measured."""
    setting = recipe.data.intensity_range
    if setting == "auto":
        intensity_range, message = measure_intensity_range(data.train, data.val)
    else:
        max_values = (setting,) if isinstance(setting, int) else setting
        if len(max_values) not in (1, recipe.model.in_chans):
            text = (
                f"data.intensity_range has {len(max_values)} values, but the images have {recipe.model.in_chans} "
                "channels"
            )
            raise UsageError(text, "give one number, or one per channel")
        intensity_range, message = IntensityRange(max_values, tuple(map(float, max_values)), clips=True), ""
    return data.with_intensity_range(intensity_range), intensity_range, message


def _choose_norm(recipe: Recipe, model: Model) -> tuple[Literal["model", "data"], str]:
    """The source of the statistics, and why if the recipe says auto.

    The statistics of pretrained weights are for RGB; with one channel, whose filters are the sum over RGB, their
    mean is used. They do not apply to other channels, nor to random weights.
    """
    if recipe.data.norm != "auto":
        return recipe.data.norm, ""
    if recipe.model.weights == "none":
        return "data", ": the model has no pretrained weights"
    if model.preprocess.channels not in (1, 3):
        return "data", f": those of the pretrained weights are not for {model.preprocess.channels} channels"
    return "model", ""
