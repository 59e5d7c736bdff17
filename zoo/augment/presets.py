"""Presets without imgaug and OpenCV.

Numbers without a source were chosen for this project: mild enough to help a fine-tuning of a few epochs.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image

from zoo.arrays import Pixels
from zoo.augment.crop import RATIO, random_view
from zoo.augment.fit import EvalView
from zoo.augment.reduced import CropRange
from zoo.augment.resize import horizontal_flip
from zoo.augment.view import View, to_array, to_pil
from zoo.errors import UsageError
from zoo.preprocess import Preprocess


def check_range(value: Sequence[float], name: str, low: float, high: float) -> tuple[float, float]:
    """`value` as a pair low <= a <= b <= high. Raises UsageError otherwise."""
    numbers = isinstance(value, list | tuple) and all(isinstance(v, int | float) for v in value)
    if not numbers or len(value) != 2 or not low <= value[0] <= value[1] <= high:
        raise UsageError(f"{name} must be two rising numbers between {low:g} and {high:g}, not {value!r}")
    return float(value[0]), float(value[1])


def check_number(value: float, name: str, high: float) -> float:
    """`value` as a number 0..high. Raises UsageError otherwise."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= high:
        raise UsageError(f"{name} must be a number between 0 and {high:g}, not {value!r}")
    return float(value)


def check_integer(value: int, name: str, low: int, high: int) -> int:
    """`value` as a whole number low..high. Raises UsageError otherwise."""
    if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
        raise UsageError(f"{name} must be a whole number between {low} and {high}, not {value!r}")
    return value


class NoAugmentation:
    """The evaluation view, without randomness."""

    is_random = False
    crops = None

    def __init__(self, *, preprocess: Preprocess, flips: bool) -> None:
        self.preprocess = preprocess

    def sample_view(self, height: int, width: int, rng: np.random.Generator) -> View:
        return EvalView(self.preprocess)

    def transform_view(self, image: Pixels, rng: np.random.Generator) -> Pixels:
        return image


@dataclass(kw_only=True, eq=False)
class RandomCrop:
    """Random resized crop (`random_view`), the first step of most presets.

    scale: range of the crop's share of the image area. ratio: range of its width/height.
    """

    preprocess: Preprocess
    flips: bool
    scale: Sequence[float] = (0.5, 1.0)
    ratio: Sequence[float] = RATIO

    is_random = True

    def __post_init__(self) -> None:
        self._scale = check_range(self.scale, "scale", 0.001, 1)
        self._ratio = check_range(self.ratio, "ratio", 0.01, 100)
        self.crops = CropRange(self._scale[0], self._ratio)

    def sample_view(self, height: int, width: int, rng: np.random.Generator) -> View:
        return random_view(height, width, rng, preprocess=self.preprocess, scale=self._scale, ratio=self._ratio)


@dataclass(kw_only=True, eq=False)
class Light(RandomCrop):
    """Random resized crop, horizontal flip, changes of brightness, contrast and saturation.

    scale, ratio: see `RandomCrop`. brightness, contrast, saturation: factors are drawn from 1 ± the number.
    """

    brightness: float = 0.2
    contrast: float = 0.2
    saturation: float = 0.2

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("brightness", "contrast", "saturation"):
            check_number(getattr(self, name), name, 1)

    def transform_view(self, image: Pixels, rng: np.random.Generator) -> Pixels:
        flip = self.flips and rng.random() < 0.5
        factors = 1 + rng.uniform(-1, 1, 3) * (self.brightness, self.contrast, self.saturation)
        return jitter(image, *factors, flip=bool(flip))


def jitter(image: Pixels, brightness: float, contrast: float, saturation: float, *, flip: bool = False) -> Pixels:
    """Scale the saturation, then the contrast, then the brightness by these factors, after an optional horizontal flip.

    Saturation applies to 3 channels only.
    """
    levels = np.arange(256, dtype=np.float32)
    if image.shape[2] != 3:
        table = brightness * (contrast * levels + (1 - contrast) * image.mean())
        mapped: Pixels = np.clip(table + 0.5, 0, 255).astype(np.uint8)[image]
        return mapped[:, ::-1] if flip else mapped
    if flip:
        image = horizontal_flip(image)
    if (brightness, contrast, saturation) == (1, 1, 1):
        return image
    picture = to_pil(image)
    grey = picture.convert("L")
    counts = np.asarray(grey.histogram(), dtype=np.float64)
    mean = float(counts @ levels / counts.sum())
    table = np.clip(brightness * (contrast * levels + (1 - contrast) * mean) + 0.5, 0, 255).astype(np.uint8)
    if saturation != 1:
        picture = Image.blend(grey.convert("RGB"), picture, saturation)
    return to_array(picture.point(table.tolist() * 3))


class Affine:
    """The evaluation view, then a random translation, rotation, zoom and shear. Safe for digits and text.

    shift: maximum translation, as a share of each side. degrees: maximum rotation. scale: range of zoom factors.
    shear: maximum angle in degrees. border: fill outside the image, "black" | "edge".
    """

    is_random = True
    crops = None

    def __init__(
        self,
        *,
        preprocess: Preprocess,
        flips: bool,
        shift: float = 0.0625,
        degrees: float = 10.0,
        scale: Sequence[float] = (0.9, 1.1),
        shear: float = 5.0,
        border: str = "black",
    ) -> None:
        if border not in ("black", "edge"):
            raise UsageError(f"border must be black or edge, not {border!r}")
        self.preprocess = preprocess
        self.shift = check_number(shift, "shift", 1)
        self.degrees = check_number(degrees, "degrees", 180)
        self.scale = check_range(scale, "scale", 0.01, 100)
        self.shear = check_number(shear, "shear", 80)
        self.edge = border == "edge"

    def sample_view(self, height: int, width: int, rng: np.random.Generator) -> View:
        return EvalView(self.preprocess)

    def transform_view(self, image: Pixels, rng: np.random.Generator) -> Pixels:
        u = rng.uniform(-1, 1, 4)
        zoom = rng.uniform(*self.scale)
        h, w = image.shape[:2]
        move = (u[0] * self.shift * w, u[1] * self.shift * h)
        turn, shear = math.radians(u[2] * self.degrees), math.radians(u[3] * self.shear)
        return warp(image, move=move, turn=turn, zoom=zoom, shear=shear, edge=self.edge)


def warp(image: Pixels, *, move: tuple[float, float], turn: float, zoom: float, shear: float, edge: bool) -> Pixels:
    """`image` sheared along x, turned clockwise (both in radians), zoomed about its centre, moved by (x, y) pixels."""
    h, w, channels = image.shape
    # Pillow needs the inverse transform, from output to input.
    cos, sin, slant = math.cos(turn) / zoom, math.sin(turn) / zoom, math.tan(shear)
    a, b, d, e = cos + slant * sin, sin - slant * cos, -sin, cos
    dx, dy = move
    cx, cy = w / 2, h / 2
    margin = 0
    if edge:
        margin = max(h, w)
        image = np.pad(image, ((margin, margin), (margin, margin), (0, 0)), mode="edge")
    c = cx + margin - a * (cx + dx) - b * (cy + dy)
    f = cy + margin - d * (cx + dx) - e * (cy + dy)
    planes = [image] if channels in (1, 3) else [image[:, :, i : i + 1] for i in range(channels)]
    warped = [
        to_array(
            to_pil(np.ascontiguousarray(p)).transform(
                (w, h), Image.Transform.AFFINE, (a, b, c, d, e, f), Image.Resampling.BILINEAR
            )
        )
        for p in planes
    ]
    return warped[0] if len(warped) == 1 else np.concatenate(warped, axis=2)
