"""Size class of a data set, by the number of images and, near a threshold, by the learning curve."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from zoo.strategy.scores.learning_curve import LearningCurve

SizeName = Literal["few-shot", "small", "medium", "large"]

# BiT-HyperRule changes its schedule at 20,000 and 500,000 images (arXiv 1912.11370). Fewer than 10 per class is ours:
# at 2.5 per class a linear probe beats full fine-tuning on Sun397, 51.0 against 38.8 (SSF, arXiv 2210.08823, table 1).
FEW_SHOT_BELOW = 10
MEDIUM_FROM = 20_000
LARGE_FROM = 500_000

# The learning curve decides within this factor of a threshold (ours).
_NEAR = 2


@dataclass(frozen=True)
class DataSize:
    """The size class of a data set.

    Args:
        name: Size class.
        images: Number of training images.
        images_per_class: Median over the classes that have images.
        reason: The threshold that decided, in words.
    """

    name: SizeName
    images: int
    images_per_class: float
    reason: str


def size_class(images: int, counts: NDArray[np.generic], curve: LearningCurve | None = None) -> DataSize:
    """The size class of a data set.

    Within a factor of two of a threshold, a steep learning curve (more images would help much) gives the smaller class
    and a flat one the larger; otherwise the count decides.

    Args:
        images: Number of images, N.
        counts: (K,) images per class or label; (1,) with N for regression.
        curve: Learning curve, if known.
    """
    there = np.asarray(counts)[np.asarray(counts) > 0]
    images_per_class = float(np.median(there)) if len(there) else 0.0
    names: tuple[SizeName, ...] = ("few-shot", "small", "medium", "large")
    cuts = (
        (images_per_class, FEW_SHOT_BELOW, "images per class"),
        (images, MEDIUM_FROM, "images"),
        (images, LARGE_FROM, "images"),
    )
    but = ""
    for name, (amount, cut, unit) in zip(names, cuts, strict=False):
        near = cut / _NEAR <= amount < cut * _NEAR
        shape = curve.shape if near and curve is not None else "unclear"
        if shape == "steep":
            return DataSize(
                name, images, images_per_class, f"{amount:,.0f} {unit}, near {cut:,}, and the error still falls"
            )
        if amount < cut and shape != "flat":
            return DataSize(name, images, images_per_class, f"{amount:,.0f} {unit}, fewer than {cut:,}{but}")
        if amount < cut:
            but = f"; {amount:,.0f} {unit} are near {cut:,}, and the error no longer falls"
    return DataSize("large", images, images_per_class, but.lstrip("; ") or f"{images:,} images, {LARGE_FROM:,} or more")
