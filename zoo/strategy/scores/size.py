"""Size class of a data set: few, small, medium or large, by stated cuts and, near a cut, by the learning curve."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from zoo.strategy.scores.learning_curve import LearningCurve

__all__ = ["FEW_PER_CLASS", "LARGE_FROM", "MEDIUM_FROM", "DataSize", "SizeName", "size_class"]

SizeName = Literal["few", "small", "medium", "large"]

# BiT-HyperRule changes its schedule at 20,000 and 500,000 images (1912.11370); fewer than 10 a class is ours: at 2.5 a
# class a linear head beats full fine-tuning on Sun397, 51.0 to 38.8 (both by facts/transfer.md).
FEW_PER_CLASS = 10
MEDIUM_FROM = 20_000
LARGE_FROM = 500_000

# How near to a cut the learning curve decides (ours): at half of it to twice of it, a count says little.
_NEAR = 2


@dataclass(frozen=True)
class DataSize:
    """images_per_class: the median number of images of the classes there are. reason: the rule that decided, in
    words."""

    name: SizeName
    images: int
    images_per_class: float
    reason: str


def size_class(images: int, counts: NDArray[np.generic], curve: LearningCurve | None = None) -> DataSize:
    """images: N. counts (K,): images of each class, or that show each label; for regression N.

    Within a factor of two of a cut a steep curve (more images would help much) makes it the smaller class and a flat
    one (they would not) the larger; otherwise, and without a curve, the cut itself decides.
    """
    there = np.asarray(counts)[np.asarray(counts) > 0]
    images_per_class = float(np.median(there)) if len(there) else 0.0
    names: tuple[SizeName, ...] = ("few", "small", "medium", "large")
    cuts = (
        (images_per_class, FEW_PER_CLASS, "images a class"),
        (images, MEDIUM_FROM, "images"),
        (images, LARGE_FROM, "images"),
    )
    but = ""
    for name, (amount, cut, unit) in zip(names, cuts, strict=False):
        near = cut / _NEAR <= amount < cut * _NEAR
        shape = curve.shape if near and curve is not None else "between"
        if shape == "steep":
            return DataSize(
                name, images, images_per_class, f"{amount:,.0f} {unit}, near {cut:,}, and the error still falls"
            )
        if amount < cut and shape != "flat":
            return DataSize(name, images, images_per_class, f"{amount:,.0f} {unit}, fewer than {cut:,}{but}")
        if amount < cut:
            but = f"; {amount:,.0f} {unit} are fewer than {cut:,}, but near, and the error falls no more"
    return DataSize("large", images, images_per_class, but.lstrip("; ") or f"{images:,} images, {LARGE_FROM:,} or more")
