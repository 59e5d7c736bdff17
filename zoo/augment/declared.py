"""`augment: {name: imgaug, params: {pipeline: […]}}`: an imgaug pipeline declared in a recipe."""

from __future__ import annotations

import traceback
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from zoo.arrays import Pixels
from zoo.augment.crop import RATIO, random_view
from zoo.augment.fit import EvalView, to_model_input
from zoo.augment.imgaug_compat import Step, load_imgaug, reproducible
from zoo.augment.imgaug_spec import IMGAUG_ERRORS, PipelineParser, one_line
from zoo.augment.presets import check_range
from zoo.augment.reduced import CropRange
from zoo.augment.view import View
from zoo.errors import RecipeError, UsageError
from zoo.preprocess import Preprocess
from zoo.registry import check_params

_PARAMS_KEY = "augment.params"
_TRIALS = 3  # trial images per augmenter before training


class ImgaugPipeline:
    """A view, then the pipeline; its output is resized to the model's input size.

    pipeline: steps, see `zoo.augment.imgaug_spec`. scale, ratio: as in `RandomCrop`; scale None: the evaluation view.
    `flips` has no effect on the pipeline.

    Raises RecipeError with every mistake, including augmenters that do not support the number of channels;
    UsageError if OpenCV or imgaug cannot be loaded.
    """

    is_random = True

    def __init__(
        self,
        *,
        preprocess: Preprocess,
        flips: bool,
        pipeline: Sequence[Any],
        scale: Sequence[float] | None = None,
        ratio: Sequence[float] = RATIO,
    ) -> None:
        self.preprocess = preprocess
        self.scale = None if scale is None else check_range(scale, "scale", 0.001, 1)
        self.ratio = check_range(ratio, "ratio", 0.01, 100)
        self.crops = None if self.scale is None else CropRange(self.scale[0], self.ratio)
        reader, steps = _read(pipeline)
        problems = reader.problems or _trial_problems(reader, preprocess)
        if problems:
            raise RecipeError(problems, "docs/augmentation.md shows the forms", where="imgaug pipeline")
        self.step = reproducible(load_imgaug().augmenters.Sequential(steps))

    def sample_view(self, height: int, width: int, rng: np.random.Generator) -> View:
        if self.scale is None:
            return EvalView(self.preprocess)
        return random_view(height, width, rng, preprocess=self.preprocess, scale=self.scale, ratio=self.ratio)

    def transform_view(self, image: Pixels, rng: np.random.Generator) -> Pixels:
        try:
            result = self.step(np.array(image), rng)  # a copy: some augmenters write in place
        except IMGAUG_ERRORS as e:
            raise UsageError(
                f"{_failing_augmenter(e)} of the imgaug pipeline failed: {one_line(e)}", "change or remove it"
            ) from e
        return to_model_input(result, "the imgaug pipeline", self.preprocess)


def find(params: Mapping[str, Any]) -> list[str]:
    """The problems that can be found without a model, one line each."""
    problems = check_params(ImgaugPipeline, params, given=("preprocess", "flips"), label=_PARAMS_KEY)
    for name, low, high in (("scale", 0.001, 1), ("ratio", 0.01, 100)):
        if params.get(name) is not None:
            try:
                check_range(params[name], f"{_PARAMS_KEY}.{name}", low, high)
            except UsageError as e:
                problems.append(e.message)
    if "pipeline" in params:
        try:
            problems += _read(params["pipeline"])[0].problems
        except UsageError as e:
            problems.append(f"augment: {e}")
    return problems


def _read(pipeline: Any) -> tuple[PipelineParser, list[Any]]:
    load_imgaug()
    reader = PipelineParser()
    return reader, reader.steps(pipeline, f"{_PARAMS_KEY}.pipeline")


def _trial_problems(reader: PipelineParser, preprocess: Preprocess) -> list[str]:
    """One line per augmenter that fails on images with the model's size and channels."""
    problems = []
    for where, unit in reader.leaf_steps:
        step = reproducible(unit)
        error = _trial_error(step, preprocess.height, preprocess.width, preprocess.channels)
        if error is None:
            continue
        text = one_line(error)
        if preprocess.channels != 3 and _trial_error(step, preprocess.height, preprocess.width, 3) is None:
            text = f"works on images of 3 channels, and this model reads {preprocess.channels} ({text})"
        problems.append(f"{where}: {text}")
    return problems


def _trial_error(step: Step, height: int, width: int, channels: int) -> Exception | None:
    rng = np.random.default_rng(0)
    for _ in range(_TRIALS):
        image = rng.integers(0, 256, (height, width, channels), dtype=np.uint8)
        try:
            step(image, rng)
        except IMGAUG_ERRORS as e:
            return e
    return None


def _failing_augmenter(error: BaseException) -> str:
    """The innermost augmenter in the traceback of `error`."""
    base = load_imgaug().augmenters.Augmenter
    callers = [frame.f_locals.get("self") for frame, _ in traceback.walk_tb(error.__traceback__)]
    names = [type(a).__name__ for a in callers if isinstance(a, base)]
    return names[-1] if names else "a step"
