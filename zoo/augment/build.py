"""Build an augmentation by name. The object rebuilds its pipeline after unpickling in a worker process."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Protocol

import numpy as np

from zoo.arrays import Pixels
from zoo.augment.reduced import CropRange
from zoo.augment.registry import AUGMENTATIONS
from zoo.augment.view import View
from zoo.errors import UsageError, ZooError
from zoo.preprocess import IMAGENET_MEAN, IMAGENET_STD, Preprocess
from zoo.registry import check_params, resolve

_GIVEN = ("preprocess", "flips")
_ANY_MODEL = Preprocess((3, 32, 32), IMAGENET_MEAN, IMAGENET_STD)


class Pipeline(Protocol):
    """A built augmentation: first the crop, which the decoder uses, then the changes to the decoded pixels."""

    @property
    def is_random(self) -> bool:
        """False if the generator is not used, so that the result may be cached."""

    @property
    def crops(self) -> CropRange | None:
        """Range of the random crops; None if every view is the evaluation view."""

    def sample_view(self, height: int, width: int, rng: np.random.Generator) -> View:
        """The crop for an image of (height, width)."""

    def transform_view(self, image: Pixels, rng: np.random.Generator) -> Pixels:
        """Transform the cropped pixels; does not write to them."""


class Augment:
    """(H, W, C) uint8 and a generator → (model height, model width, C) uint8. Made by `make_augment`."""

    def __init__(self, name: str, preprocess: Preprocess, flips: bool, params: dict[str, Any]) -> None:
        self.name = name
        self.preprocess = preprocess
        self.flips = flips
        self.params = params
        self._pipeline: Pipeline | None = self._build()

    @property
    def is_random(self) -> bool:
        return self.pipeline.is_random

    @property
    def pipeline(self) -> Pipeline:
        if self._pipeline is None:
            self._pipeline = self._build()
        return self._pipeline

    def __call__(self, image: Pixels, rng: np.random.Generator) -> Pixels:
        return self.read_augmented(lambda choose: choose(*image.shape[:2]).apply(image), rng)

    def read_augmented(self, read: Callable[[Callable[[int, int], View]], Pixels], rng: np.random.Generator) -> Pixels:
        """The augmented image of a file. `read` decodes the crop that its argument chooses for (height, width)."""
        pipeline = self.pipeline
        return pipeline.transform_view(read(lambda height, width: pipeline.sample_view(height, width, rng)), rng)

    def __getstate__(self) -> dict[str, Any]:
        # An unpickled imgaug pipeline has generators that `ia.seed` does not reset: every worker builds its own.
        return {**self.__dict__, "_pipeline": None}

    def __repr__(self) -> str:
        return f"Augment({self.name!r}, flips={self.flips}, params={self.params})"

    def _build(self) -> Pipeline:
        if ":" in self.name:
            from zoo.augment.custom import load_custom

            return load_custom(self.name, self.preprocess, self.params)
        factory = resolve(self.name, AUGMENTATIONS, "augmentation")
        found = check_params(factory, self.params, given=_GIVEN, label="augment.params")
        if found:
            raise UsageError("; ".join(found))
        given = {**AUGMENTATIONS[self.name].defaults, **self.params}
        built: Pipeline = factory(preprocess=self.preprocess, flips=self.flips, **given)
        return built


def make_augment(name: str, *, preprocess: Preprocess, flips: bool, params: Mapping[str, Any] | None = None) -> Augment:
    """Build an augmentation. It is deterministic for a given generator, in any process.

    Args:
        name: a name of `AUGMENTATIONS`, or an import path `module:attribute` of an imgaug augmenter, an Albumentations
            transform or pipeline, a callable (image) or (image, generator), or a factory: a class or function without
            required positional arguments that returns one of these. User augmentations get the image after the
            evaluation resize and crop; output of another size is resized to the model's input size.
        preprocess: size, channels and fit mode of the model's input.
        flips: whether horizontal flips are allowed (`Data.flips_ok`).
        params: keyword arguments of the named augmentation or of the user's factory.

    Raises:
        UsageError: unknown name or parameter, unusable object, or imgaug is needed and OpenCV cannot be loaded.
        RecipeError: mistakes in a pipeline that the recipe declares, all of them.
    """
    return Augment(name, preprocess, flips, dict(params or {}))


def problems(name: str, params: Mapping[str, Any]) -> list[str]:
    """Problems of `make_augment(name, params=params)` that occur with any model, one line each."""
    try:
        if ":" in name:
            from zoo.augment.custom import find

            return find(name, params)[1]
        factory = resolve(name, AUGMENTATIONS, "augmentation")
    except ZooError as e:
        return [f"augment.name: {e}"]
    if name == "imgaug":
        from zoo.augment.declared import find as find_pipeline_problems

        return find_pipeline_problems(params)
    found = check_params(factory, params, given=_GIVEN, label="augment.params")
    if found:
        return found
    try:
        Augment(name, _ANY_MODEL, False, dict(params))
    except ZooError as e:
        return [f"augment: {e}"]
    return []
