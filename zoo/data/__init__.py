"""Images and labels: a path or a name → checked sources → batches."""

from __future__ import annotations

from typing import TYPE_CHECKING

from zoo.imports import lazy_exports

if TYPE_CHECKING:
    from zoo.augment.fit import fit
    from zoo.data.dataset import BadFile, Data, ImageDataset, Subset
    from zoo.data.decode.errors import UnreadableImage
    from zoo.data.decode.read import read_image
    from zoo.data.loader import Loader, auto_workers, make_loader
    from zoo.data.open import data_config, open_data, open_eval
    from zoo.data.schema.columns import Columns
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
    "data_config",
    "fit",
    "iter_paths",
    "make_loader",
    "open_data",
    "open_eval",
    "open_images",
    "read_image",
]

__getattr__ = lazy_exports(
    __name__,
    {
        "zoo.augment.fit": ("fit",),
        "zoo.data.dataset": ("BadFile", "Data", "ImageDataset", "Subset"),
        "zoo.data.decode.read": ("UnreadableImage", "read_image"),
        "zoo.data.loader": ("Loader", "auto_workers", "make_loader"),
        "zoo.data.open": ("data_config", "open_data", "open_eval"),
        "zoo.data.schema.columns": ("Columns",),
        "zoo.data.unlabeled": ("ImageBatch", "iter_paths", "open_images"),
    },
)
