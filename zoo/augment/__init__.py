"""Augmentation: one decoded image and a random generator in, one image at the model's input size out.

    augment = make_augment("light", preprocess=model.preprocess, flips=data.flips_ok)
    pixels = augment(image, numpy.random.default_rng(0))     # (H, W, C) uint8 in and out

imgaug is imported only by the augmentations that need it (`medium`, `strong`, `imgaug` and user pipelines), through
`zoo.augment.imgaug_compat`; torchvision only by `zoo.augment.policies`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from zoo.imports import lazy_exports

if TYPE_CHECKING:
    from zoo.augment.build import make_augment, problems
    from zoo.augment.registry import AUGMENTATIONS

__all__ = ["AUGMENTATIONS", "make_augment", "problems"]

__getattr__ = lazy_exports(
    __name__, {"zoo.augment.build": ("make_augment", "problems"), "zoo.augment.registry": ("AUGMENTATIONS",)}
)
