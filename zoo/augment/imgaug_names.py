"""Names for declared pipelines: augmenters, distributions and literals."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from functools import lru_cache
from typing import Any

import numpy as np

from zoo.augment.imgaug_compat import load_imgaug

__all__ = ["CHILD_PARAMETERS", "CONTAINERS", "UNSUPPORTED", "augmenters", "distributions", "literals"]

# Parameters that contain steps.
CHILD_PARAMETERS = ("children", "then_list", "else_list", "foreground", "background")

# Augmenters that only select among steps.
CONTAINERS = ("Sequential", "Sometimes", "SomeOf", "OneOf")

_FUNCTIONS = "takes Python functions, which a recipe cannot hold; write it in a module and name that: my_aug:pipeline"
UNSUPPORTED = {
    "Lambda": _FUNCTIONS,
    "AssertLambda": _FUNCTIONS,
    "BlendAlphaSegMapClassIds": "needs a segmentation map of each image, which these data do not have",
    "BlendAlphaBoundingBoxes": "needs bounding boxes for each image, which these data do not have",
    "SaveDebugImageEveryNBatches": "writes files while training; `zoo augment` shows what a pipeline does",
}


@lru_cache(maxsize=1)
def augmenters() -> dict[str, type]:
    """Name → class of every augmenter of imgaug 0.4.0 (188): "Affine", "pillike.Equalize", "imgcorruptlike.Snow"."""
    iaa = load_imgaug().augmenters
    found = _classes(iaa, iaa.Augmenter)
    for submodule in ("pillike", "imgcorruptlike"):
        module = getattr(iaa, submodule)
        own = {n: c for n, c in _classes(module, iaa.Augmenter).items() if c.__module__ == module.__name__}
        found.update((f"{submodule}.{n}", c) for n, c in own.items())
    return found


@lru_cache(maxsize=1)
def distributions() -> dict[str, type]:
    """Lower-case name → class of distributions ("normal", "choice"), and of mask generators and samplers of points."""
    imgaug = load_imgaug()
    iaa = imgaug.augmenters
    found = _classes(imgaug.parameters, imgaug.parameters.StochasticParameter)
    found |= _classes(iaa, iaa.blend.IBatchwiseMaskGenerator)
    found |= _classes(iaa, iaa.segmentation.IPointsSampler)
    return {name.lower(): c for name, c in found.items()}


def literals() -> dict[str, Callable[[list[Any]], Any]]:
    """Lists that are neither a range nor a choice."""
    return {"tuple": tuple, "list": list, "array": lambda rows: np.array(rows, dtype=np.float32)}


def _classes(module: Any, base: type) -> dict[str, type]:
    return {
        n: c
        for n, c in vars(module).items()
        if inspect.isclass(c) and issubclass(c, base) and c is not base and not n.startswith("_")
    }
