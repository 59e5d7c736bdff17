"""The models of timm, torchvision and zoo, with their costs, without importing any of these libraries.

    find("resnet34").params                        # 21797672, timm's
    find("torchvision/resnet34").tags              # ('IMAGENET1K_V1',)
    [e.name for e in search("*densenet*", max_params="10M", sort="gmacs")]

Names: a plain name is the built-in model's, else timm's, else torchvision's. torchvision's models are listed as
`torchvision/NAME`, so that every listed name is unique; `timm/NAME` works too.

The index is a file in the package, written by `python -m zoo.catalog.build`. If other versions of the libraries are
installed, commands that import timm anyway write an index for them into the cache (`zoo.catalog.refresh`).
"""

from __future__ import annotations

from zoo.catalog.entries import SOURCES, ModelEntry, Pretrained
from zoo.catalog.index import find, find_weights, index_versions
from zoo.catalog.search import SORTS, PretrainedModel, nearest_models, parse_count, search, search_weights, widen

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
