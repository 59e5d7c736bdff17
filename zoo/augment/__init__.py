"""Augmentation: one decoded image and a random generator in, one image at the model's size out.

    augment = make_augment("light", preprocess=model.preprocess, flips=data.flips_ok)
    pixels = augment(image, numpy.random.default_rng(0))     # (H, W, C) uint8 in and out

The table is read without importing anything; imgaug is imported only by what is built on it (`medium`, `strong`,
`imgaug`, the user's own pipelines), in `zoo.augment.imgaug_compat`; torchvision only by `zoo.augment.policies`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from zoo.registry import RegistryEntry

if TYPE_CHECKING:
    from zoo.augment.build import Augment
    from zoo.preprocess import Preprocess

__all__ = ["AUGMENTATIONS", "make_augment", "problems"]

AUGMENTATIONS: dict[str, RegistryEntry] = {
    "none": RegistryEntry("zoo.augment.presets:NoAugmentation", "the evaluation view, nothing random"),
    "affine": RegistryEntry(
        "zoo.augment.presets:Affine", "small shift, turn, zoom, shear; no flip: for digits and text"
    ),
    "light": RegistryEntry("zoo.augment.presets:Light", "random crop of 50-100 % of the area, flip, slight colour"),
    "medium": RegistryEntry(
        "zoo.augment.rich:ImgaugPreset", "random crop of 25-100 %, flip, turn, shear, colour (imgaug)"
    ),
    "strong": RegistryEntry(
        "zoo.augment.rich:ImgaugPreset",
        "random crop of 8-100 %, flip, turn, shear, strong colour, blur, noise, cut-out (imgaug)",
        {
            "scale": (0.08, 1.0),  # Szegedy et al. 2015, and torchvision's default
            "brightness": 0.4,
            "contrast": 0.4,
            "saturation": 0.4,
            "degrees": 30.0,
            "shear": 12.0,
            "hue": 0.05,
            "blur": 2.0,
            "noise": 12.0,
            "cutout": 0.3,
        },
    ),
    "trivialaugment": RegistryEntry(
        "zoo.augment.policies:TrivialAugment", "light's crop and flip, then one change of any strength (torchvision)"
    ),
    "randaugment": RegistryEntry(
        "zoo.augment.policies:RandAugment", "light's crop and flip, then two changes of one strength (torchvision)"
    ),
    "autoaugment": RegistryEntry(
        "zoo.augment.policies:AutoAugment", "light's crop and flip, then a pair learned on ImageNet (torchvision)"
    ),
    "augmix": RegistryEntry(
        "zoo.augment.policies:AugMix", "light's crop and flip, then three chains of changes, mixed (torchvision)"
    ),
    "imgaug": RegistryEntry(
        "zoo.augment.declared:ImgaugPipeline", "a pipeline of imgaug's augmenters, written in the recipe"
    ),
}


def problems(name: str, params: Mapping[str, Any]) -> list[str]:
    """What would keep `make_augment(name, params=params)` from working with any model, one line each."""
    from zoo.augment.build import find_problems

    return find_problems(name, params)


def make_augment(name: str, *, preprocess: Preprocess, flips: bool, params: Mapping[str, Any] | None = None) -> Augment:
    """The augmentation called `name`, or the user's own by import path, for a model that reads `preprocess`.

    `flips` allows mirroring left and right (`Data.flips_ok`). `params` are the preset's own parameters by name.
    An import path `module:attribute` names an imgaug augmenter, a transform or pipeline of Albumentations, a callable
    (image) or (image, generator), or a factory: a class or function that needs no positional argument and returns one
    of these, to which `params` go. It gets the image after the evaluation fit; another size is resized to the model's.

    Deterministic from the generator alone, in any process; pickles by name and builds itself again where it lands.
    Raises UsageError on an unknown name, parameter or unusable object, and if imgaug is needed and OpenCV cannot load;
    RecipeError with every mistake of a declared pipeline.
    """
    from zoo.augment.build import Augment

    return Augment(name, preprocess, flips, dict(params or {}))
