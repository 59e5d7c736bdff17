"""Images and labels: a path or a name → checked sources → batches."""

from __future__ import annotations

from typing import TYPE_CHECKING

from zoo.lazy_exports import lazy_exports

if TYPE_CHECKING:
    from zoo.augment.fit import fit
    from zoo.data.dataset import BadFile, Data, ImageDataset, Subset
    from zoo.data.decode.read import UnreadableImage, read_image
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
        "BadFile": "zoo.data.dataset",
        "Columns": "zoo.data.schema.columns",
        "Data": "zoo.data.dataset",
        "ImageBatch": "zoo.data.unlabeled",
        "ImageDataset": "zoo.data.dataset",
        "Loader": "zoo.data.loader",
        "Subset": "zoo.data.dataset",
        "UnreadableImage": "zoo.data.decode.read",
        "auto_workers": "zoo.data.loader",
        "data_config": "zoo.data.open",
        "fit": "zoo.augment.fit",
        "iter_paths": "zoo.data.unlabeled",
        "make_loader": "zoo.data.loader",
        "open_data": "zoo.data.open",
        "open_eval": "zoo.data.open",
        "open_images": "zoo.data.unlabeled",
        "read_image": "zoo.data.decode.read",
    },
)
