"""The training images on which models are evaluated."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from zoo.arrays import Indices
from zoo.data import Data, ImageDataset
from zoo.data.check.counts import class_counts
from zoo.data.check.examine_images import examine_images
from zoo.data.check.image_record import GREY, READABLE
from zoo.data.split.holdout import holdout_split
from zoo.errors import DataError
from zoo.strategy.scores import Targets
from zoo.tasks import get_task
from zoo.workflows.finetune.feature_cache import image_keys

# With more images the scores change by less than the width of their intervals (ours).
_MAX_IMAGES = 5000
# Number of images that are decoded to find the size and the colours.
_SIZE_SAMPLE = 16


@dataclass(frozen=True)
class Sample:
    """A sample of the training images, without duplicates.

    Args:
        indices: (N,) indices into the training set.
        duplicates: Number of images that were removed because another one has the same content.
        conflicting: Number of these whose target differs from that of the other image.
        counts: Training images per class or label; all training images for regression.
        width: Median width of some images, in pixels.
        height: Median height of some images, in pixels.
        colours: Number of channels, or whether these images are grey.
    """

    indices: Indices
    duplicates: int
    conflicting: int
    counts: tuple[int, ...]
    width: int
    height: int
    colours: str


def draw_sample(data: Data, seed: int) -> Sample:
    """At most 5,000 training images, stratified by class, the first of each set of duplicates."""
    indices = np.arange(len(data.train))
    if len(indices) > _MAX_IMAGES:
        _, indices, _ = holdout_split(
            data.train.targets, data.classes, data.task, fraction=_MAX_IMAGES / len(indices), seed=seed
        )
    first: dict[bytes, int] = {}
    unique, conflicting = [], 0
    targets = data.train.targets
    for index, key in zip(indices.tolist(), image_keys(data.train, indices), strict=True):
        if key not in first:
            first[key] = index
            unique.append(index)
        elif not np.array_equal(targets[index], targets[first[key]]):
            conflicting += 1
    if len(unique) < 4:
        raise DataError(f"{len(unique)} different training images are not enough to measure anything", "add images")
    chosen = np.array(unique, np.int64)
    width, height, colours = _size_and_colours(data.train, chosen)
    counts = tuple(_counts(data).tolist())
    return Sample(chosen, len(indices) - len(unique), conflicting, counts, width, height, colours)


def _size_and_colours(source: ImageDataset, indices: Indices) -> tuple[int, int, str]:
    """Median width and height in pixels, and the colours, of some images."""
    spread = indices[np.linspace(0, len(indices) - 1, min(len(indices), _SIZE_SAMPLE)).astype(np.int64)]
    rows = examine_images(source, spread.tolist()).rows
    rows = rows[(rows["flags"] & READABLE) > 0]
    if not len(rows):
        raise DataError(f"none of {len(spread)} training images can be read", "`zoo check` lists the errors")
    grey = int(np.count_nonzero(rows["flags"] & GREY))
    if source.channels != 3:
        colours = f"{source.channels} channels"
    else:
        colours = "grey" if grey == len(rows) else f"colour, {grey} of {len(rows)} grey" if grey else "colour"
    return int(np.median(rows["width"])), int(np.median(rows["height"])), colours


def sample_targets(data: Data, sample: Sample) -> Targets:
    """The targets of the sample; classes are balanced."""
    balanced = get_task(data.task).has_one_class_per_image
    return Targets.of(data.train.targets[sample.indices], data.task, outputs=len(data.classes), balanced=balanced)


def _counts(data: Data) -> NDArray[np.int64]:
    """(K,) training images per class or label; (1,) all of them for regression."""
    images = len(data.train)
    if not get_task(data.task).has_classes:
        return np.array([images])
    one_split = np.zeros(images, np.int64)
    return class_counts(data.train.targets, one_split, len(data.classes), 1, data.task)[:, 0]
