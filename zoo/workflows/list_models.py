"""Which models there are: the Python side of `zoo list`. Imports no model library."""

from __future__ import annotations

from typing import TYPE_CHECKING

from zoo.catalog import Filters, ModelEntry, PretrainedModel, search, search_weights, widen

if TYPE_CHECKING:
    from typing_extensions import Unpack

__all__ = ["list_models", "search_models", "search_tags"]


def list_models(pattern: str | None = None, *, tags: bool = False, **filters: Unpack[Filters]) -> list[str]:
    """Names of the models that match all of what is given; empty if none does.

        zoo.list_models("*densenet*")
        zoo.list_models("vit_*", source="timm", pretrained=True, max_params="25M", sort="-params", limit=10)
        zoo.list_models("resnet50", license="apache*", input="-224", tags=True)     # resnet50.a1_in1k, …

    pattern: a glob over whole names (`*`, `?`, `[abc]`; case does not matter); without wildcards it is a model's name,
    or, if no model has that name, any part of one. With a dot it is compared with `name.tag` of the pretrained weights.
    tags: names of published weights instead; `license` and `input` then look at each of them.

    filters: source ("timm", "torchvision", "builtin"); family (the library's module, glob or part of it); license (glob
    or part, of any published weights); pretrained; min_params, max_params (a number or text like "25M", "1.5B",
    "300k"); max_gmacs; input (224, "3x224x224", or a range of height and width: "160-256", "-256", "384-"); sort
    ("name", "params", "gmacs", "input" or "tags", the number of pretrained weights; smallest first, `-` before it
    reverses); limit (keep the first so many).

    Raises UsageError if a value is not one that it may be.
    """
    if tags:
        return [published.name for published in search_tags(pattern, **filters)]
    return [entry.name for entry in search_models(pattern, **filters)]


def search_models(pattern: str | None = None, **filters: Unpack[Filters]) -> list[ModelEntry]:
    """As `list_models`, but everything that the catalog knows of each model."""
    return search(None if pattern is None else widen(pattern), **filters)


def search_tags(pattern: str | None = None, **filters: Unpack[Filters]) -> list[PretrainedModel]:
    """As `list_models(tags=True)`, but everything that the catalog knows of each set of weights."""
    return search_weights(None if pattern is None else widen(pattern), **filters)
