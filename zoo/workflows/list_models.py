"""`zoo list`: search the models of the catalog. Imports no model library."""

from __future__ import annotations

from typing import TYPE_CHECKING

from zoo.catalog import ModelEntry, PretrainedModel, search, search_weights, widen

if TYPE_CHECKING:
    from typing_extensions import Unpack

    from zoo.options import Filters


def list_models(pattern: str | None = None, *, tags: bool = False, **filters: Unpack[Filters]) -> list[str]:
    """Names of the models that match all conditions.

        zoo.list_models("*densenet*")
        zoo.list_models("vit_*", source="timm", pretrained=True, max_params="25M", sort="-params", limit=10)
        zoo.list_models("resnet50", license="apache*", input="-224", tags=True)     # resnet50.a1_in1k, …

    Args:
        pattern: a glob over whole names (`*`, `?`, `[abc]`; case-insensitive); without wildcards a model's name, or any
            part of a name if no model has that name. A pattern with a dot is matched against `name.tag` of the
            pretrained weights.
        tags: return names of pretrained weights; `license` and `input` then apply to each of them.
        filters: the fields of `zoo.options.Filters`, as described in docs/reference/cli.md.

    Raises:
        UsageError: a filter has an invalid value.
    """
    if tags:
        return [published.name for published in search_tags(pattern, **filters)]
    return [entry.name for entry in search_models(pattern, **filters)]


def search_models(pattern: str | None = None, **filters: Unpack[Filters]) -> list[ModelEntry]:
    """As `list_models`, with the catalog entries of the models."""
    return search(None if pattern is None else widen(pattern), **filters)


def search_tags(pattern: str | None = None, **filters: Unpack[Filters]) -> list[PretrainedModel]:
    """As `list_models(tags=True)`, with the catalog entries of the weights."""
    return search_weights(None if pattern is None else widen(pattern), **filters)
