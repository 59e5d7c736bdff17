"""Which models exist in timm, torchvision and this project, and what each costs; read without importing any of them.

    find("resnet34").params                        # 21797672, timm's
    find("torchvision/resnet34").tags              # ('IMAGENET1K_V1',)
    [e.name for e in search("*densenet*", max_params="10M", sort="gmacs")]

Names: a plain name is the built-in model's, else timm's, else torchvision's. torchvision's models are listed as
`torchvision/NAME`, so that every listed name is unique; `timm/NAME` works too.

The index is a file that `python -m zoo.catalog.build` writes from the installed libraries and that the package ships.
Where other versions are installed, commands that import timm anyway write one for them (`zoo.catalog.refresh`).
"""

from __future__ import annotations

from zoo.catalog.entries import SOURCES, ModelEntry, Pretrained
from zoo.catalog.index import find, find_weights, index_versions
from zoo.catalog.search import (
    SORTS,
    PretrainedModel,
    nearest_models,
    parse_count,
    search,
    search_weights,
    widen,
)

__all__ = [
    "SORTS",
    "SOURCES",
    "ModelEntry",
    "Pretrained",
    "PretrainedModel",
    "find",
    "find_weights",
    "index_versions",
    "nearest_models",
    "parse_count",
    "search",
    "search_weights",
    "widen",
]
