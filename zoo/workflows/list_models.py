"""Which models there are: the Python side of `zoo list`. Imports no model library."""

from __future__ import annotations

from zoo.catalog import ModelEntry, search, widen

__all__ = ["list_models", "search_models"]


def list_models(
    pattern: str | None = None,
    *,
    source: str | None = None,
    pretrained: bool = False,
    sort: str = "name",
    limit: int | None = None,
    max_params: float | str | None = None,
) -> list[str]:
    """Names of the models that match all of what is given; empty if none does.

        zoo.list_models("*densenet*")
        zoo.list_models("vit_*", source="timm", pretrained=True, max_params="25M", sort="-params", limit=10)

    pattern: a glob over whole names (`*`, `?`, `[abc]`; case does not matter); without wildcards it is a model's name,
    or, if no model has that name, any part of one. With a dot it is compared with `name.tag` of the pretrained weights.
    source: "timm", "torchvision" or "builtin". pretrained: only models with published weights. sort: "name", "params",
    "gmacs", "input" (pixels) or "tags" (number of pretrained weights), smallest first; `-` before it reverses. limit:
    keep the first so many. max_params: parameters at most, a number or text like "25M", "1.5B", "300k".

    Raises UsageError if source, sort, limit or max_params is not one of those.
    """
    found = search_models(pattern, source=source, pretrained=pretrained, sort=sort, limit=limit, max_params=max_params)
    return [entry.name for entry in found]


def search_models(
    pattern: str | None = None,
    *,
    source: str | None = None,
    pretrained: bool = False,
    sort: str = "name",
    limit: int | None = None,
    max_params: float | str | None = None,
) -> list[ModelEntry]:
    """As `list_models`, but everything that the catalog knows of each model."""
    return search(
        None if pattern is None else widen(pattern),
        source=source,
        pretrained=pretrained,
        sort=sort,
        limit=limit,
        max_params=max_params,
    )
