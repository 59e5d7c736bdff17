"""Images and labels: a path or a name → checked sources → batches."""

from __future__ import annotations

from zoo.augment.fit import fit
from zoo.data.columns import Columns
from zoo.data.decode import UnreadableImage, read_image
from zoo.data.loader import Loader, auto_workers, make_loader
from zoo.data.open import open_data, open_eval
from zoo.data.paths import ImageBatch, iter_paths, open_images
from zoo.data.source import BadFile, Data, ImageSource, Subset

__all__ = [
    "BadFile",
    "Columns",
    "Data",
    "ImageBatch",
    "ImageSource",
    "Loader",
    "Subset",
    "UnreadableImage",
    "auto_workers",
    "fit",
    "iter_paths",
    "make_loader",
    "open_data",
    "open_eval",
    "open_images",
    "read_image",
]
