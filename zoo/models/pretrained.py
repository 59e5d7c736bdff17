"""Files of published weights, from the cache or the network. Imports no model library."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path, PurePosixPath
from urllib.parse import urlsplit

from zoo.catalog import ModelEntry
from zoo.errors import WeightsError
from zoo.hub import FetchResult, copy_file, fetch_hub_file, fetch_url, save_hub_file, save_url, sha256_of, torch_cache

# timm's preference: safetensors before pickles.
HUB_FILES = ("model.safetensors", "pytorch_model.bin")


def fetch_pretrained(entry: ModelEntry, tag: str | None, target: Callable[[str], Path] | None = None) -> FetchResult:
    """The weights `tag` (None: the default ones), in a cache or, if `target` is given, as the file `target(file name)`.

    Raises WeightsError if there are none or the download fails.
    """
    if entry.source == "builtin":
        return _builtin(entry, target)
    pretrained = entry.weights(tag)
    if pretrained is None:
        raise WeightsError(f"{entry.name} has no pretrained weights", "use --weights none for random weights")
    if pretrained.hub_id:
        repo, _, revision = pretrained.hub_id.partition("@")
        if target is None:
            return fetch_hub_file(repo, HUB_FILES, revision or None)
        return save_hub_file(repo, HUB_FILES, target, revision or None)
    if not pretrained.url:
        raise WeightsError(
            f"the weights {pretrained.tag} of {entry.name} have no known address", "give a file: --weights FILE"
        )
    if target is None:
        return fetch_url(pretrained.url, torch_cache())
    return save_url(pretrained.url, target(PurePosixPath(urlsplit(pretrained.url).path).name), torch_cache())


def refetch_pretrained(entry: ModelEntry, tag: str | None, damaged: FetchResult) -> FetchResult | None:
    """Download an unreadable file again; None if that cannot help, because its hash is the published one."""
    pretrained = entry.weights(tag)
    if damaged.verified or damaged.downloaded or pretrained is None or pretrained.hub_id or not pretrained.url:
        return None
    return fetch_url(pretrained.url, torch_cache(), force=True)


def _builtin(entry: ModelEntry, target: Callable[[str], Path] | None) -> FetchResult:
    from zoo.models.builtin import BUILTIN, weights_path

    path = weights_path(entry.name)
    digest = sha256_of(path) if path.is_file() else ""
    if digest != BUILTIN[entry.name].sha256:
        raise WeightsError(f"{path} is missing or damaged", "reinstall zoo")
    fetched = FetchResult(path, f"builtin:{entry.name}", None, digest)
    if target is None:
        return fetched
    return replace(fetched, path=target(path.name), downloaded=copy_file(path, target(path.name)))
