"""The imgaug presets: `medium` and `strong` are this class with different defaults."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from zoo.arrays import Pixels
from zoo.augment.imgaug_compat import load_imgaug, reproducible
from zoo.augment.presets import Light, check_number


@dataclass(kw_only=True, eq=False)
class ImgaugPreset(Light):
    """`Light`, then by imgaug: rotation and shear (half of the images), hue, blur and noise (30 % each), cutout (half).

    degrees, shear: maximum, in degrees, in either direction. hue: maximum shift, as a share of the colour circle.
    blur: maximum sigma, in pixels at an image height of 224. noise: maximum standard deviation, in grey levels.
    cutout: side of the grey square, as a share of the image's side. 0 disables a step. Brightness, contrast and
    saturation are those of `Light`: imgaug's take 1.5 ms per image.
    """

    scale: Sequence[float] = (0.25, 1.0)
    brightness: float = 0.3
    contrast: float = 0.3
    saturation: float = 0.3
    degrees: float = 15.0
    shear: float = 8.0
    hue: float = 0.03
    blur: float = 0.0
    noise: float = 0.0
    cutout: float = 0.0

    def __post_init__(self) -> None:
        super().__post_init__()
        degrees, shear = check_number(self.degrees, "degrees", 180), check_number(self.shear, "shear", 80)
        hue, blur = check_number(self.hue, "hue", 0.5), check_number(self.blur, "blur", 100)
        noise, cutout = check_number(self.noise, "noise", 255), check_number(self.cutout, "cutout", 1)
        iaa = load_imgaug().augmenters
        steps = []
        if degrees or shear:
            turn = iaa.Affine(rotate=(-degrees, degrees), shear=(-shear, shear), mode="reflect")
            steps.append(iaa.Sometimes(0.5, turn))
        if hue and self.preprocess.channels == 3:
            hue_shift = round(hue * 255)  # imgaug's unit: 255 is the whole circle
            steps.append(iaa.Sometimes(0.3, iaa.AddToHue((-hue_shift, hue_shift))))
        if blur:
            steps.append(iaa.Sometimes(0.3, iaa.GaussianBlur((0, blur * self.preprocess.height / 224))))
        if noise:
            steps.append(iaa.Sometimes(0.3, iaa.AdditiveGaussianNoise(scale=(0, noise))))
        if cutout:
            steps.append(iaa.Sometimes(0.5, iaa.Cutout(nb_iterations=1, size=cutout, squared=False)))
        self.imgaug_step = reproducible(iaa.Sequential(steps))

    def transform_view(self, image: Pixels, rng: np.random.Generator) -> Pixels:
        result: Pixels = self.imgaug_step(np.ascontiguousarray(super().transform_view(image, rng)), rng)
        return result
