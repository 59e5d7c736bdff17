"""The presets that imgaug carries: `medium` and `strong` are this class with two sets of numbers."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from zoo.arrays import Pixels
from zoo.augment.crop import RATIO
from zoo.augment.imgaug_compat import load_imgaug, reproducible
from zoo.augment.presets import Light, check_number
from zoo.preprocess import Preprocess

__all__ = ["ImgaugPreset"]


class ImgaugPreset:
    """`Light` with its own numbers, then by imgaug: turn and shear (half of the images), hue, blur and noise (three
    in ten each), cut-out (half).

    degrees, shear: either way. hue: share of the colour circle, either way. blur: largest sigma, in pixels at a height
    of 224. noise: largest standard deviation, in grey levels. cutout: side of the grey square, share of the
    image's. 0 leaves a step out. Brightness, contrast and saturation are not imgaug's, whose take 1.5 ms an image.
    """

    is_random = True

    def __init__(
        self,
        *,
        preprocess: Preprocess,
        flips: bool,
        scale: Sequence[float] = (0.25, 1.0),
        ratio: Sequence[float] = RATIO,
        brightness: float = 0.3,
        contrast: float = 0.3,
        saturation: float = 0.3,
        degrees: float = 15.0,
        shear: float = 8.0,
        hue: float = 0.03,
        blur: float = 0.0,
        noise: float = 0.0,
        cutout: float = 0.0,
    ) -> None:
        self.first = Light(
            preprocess=preprocess,
            flips=flips,
            scale=scale,
            ratio=ratio,
            brightness=brightness,
            contrast=contrast,
            saturation=saturation,
        )
        self.sample_view, self.crops = self.first.sample_view, self.first.crops
        degrees, shear = check_number(degrees, "degrees", 180), check_number(shear, "shear", 80)
        hue, blur, noise = (
            check_number(hue, "hue", 0.5),
            check_number(blur, "blur", 100),
            check_number(noise, "noise", 255),
        )
        cutout = check_number(cutout, "cutout", 1)
        iaa = load_imgaug().augmenters
        steps = []
        if degrees or shear:
            turn = iaa.Affine(rotate=(-degrees, degrees), shear=(-shear, shear), mode="reflect")
            steps.append(iaa.Sometimes(0.5, turn))
        if hue and preprocess.channels == 3:
            hue_shift = round(hue * 255)  # imgaug's unit: 255 is the whole circle
            steps.append(iaa.Sometimes(0.3, iaa.AddToHue((-hue_shift, hue_shift))))
        if blur:
            steps.append(iaa.Sometimes(0.3, iaa.GaussianBlur((0, blur * preprocess.height / 224))))
        if noise:
            steps.append(iaa.Sometimes(0.3, iaa.AdditiveGaussianNoise(scale=(0, noise))))
        if cutout:
            steps.append(iaa.Sometimes(0.5, iaa.Cutout(nb_iterations=1, size=cutout, squared=False)))
        self.imgaug_step = reproducible(iaa.Sequential(steps))

    def transform_view(self, image: Pixels, rng: np.random.Generator) -> Pixels:
        result: Pixels = self.imgaug_step(np.ascontiguousarray(self.first.transform_view(image, rng)), rng)
        return result
