"""Images and labels: a path or a name → checked sources → batches."""

from __future__ import annotations

from zoo.augment.fit import fit
from zoo.data.dataset import BadFile, Data, ImageDataset, Subset
from zoo.data.decode.read import UnreadableImage, read_image
from zoo.data.loader import Loader, auto_workers, make_loader
from zoo.data.schema.columns import Columns
from zoo.data.sources.registry import open_data, open_eval
from zoo.data.unlabeled import ImageBatch, iter_paths, open_images

__all__ = [
    "BadFile",
    "Columns",
    "Data",
    "ImageBatch",
    "ImageDataset",
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
