"""Files of published weights, from the cache or the network. Imports no model library."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path, PurePosixPath
from urllib.parse import urlsplit

from zoo.catalog import ModelEntry, Pretrained
from zoo.errors import WeightsError
from zoo.hub import FetchResult, copy_file, fetch_hub_file, fetch_url, save_hub_file, save_url, sha256_of, torch_cache

__all__ = ["HUB_FILES", "fetch_pretrained", "refetch_pretrained", "save_pretrained"]

# timm's preference: safetensors before pickles.
HUB_FILES = ("model.safetensors", "pytorch_model.bin")


def fetch_pretrained(entry: ModelEntry, tag: str | None) -> FetchResult:
    """The weights `tag`, or the default ones if None. Raises WeightsError if there are none or the download fails."""
    if entry.source == "builtin":
        return _builtin(entry)
    pretrained = _pretrained_of(entry, tag)
    if pretrained.hub_id:
        repo, _, revision = pretrained.hub_id.partition("@")
        return fetch_hub_file(repo, HUB_FILES, revision or None)
    return fetch_url(_url_of(entry, pretrained), torch_cache())


def save_pretrained(entry: ModelEntry, tag: str | None, target: Callable[[str], Path]) -> FetchResult:
    """As `fetch_pretrained`, but saved as `target(file name)` instead of in a cache."""
    if entry.source == "builtin":
        fetched = _builtin(entry)
        path = target(fetched.path.name)
        return replace(fetched, path=path, downloaded=copy_file(fetched.path, path))
    pretrained = _pretrained_of(entry, tag)
    if pretrained.hub_id:
        repo, _, revision = pretrained.hub_id.partition("@")
        return save_hub_file(repo, HUB_FILES, target, revision or None)
    url = _url_of(entry, pretrained)
    return save_url(url, target(PurePosixPath(urlsplit(url).path).name), torch_cache())


def _pretrained_of(entry: ModelEntry, tag: str | None) -> Pretrained:
    pretrained = entry.weights(tag)
    if pretrained is None:
        raise WeightsError(f"{entry.name} has no pretrained weights", "use --weights none for random weights")
    return pretrained


def _url_of(entry: ModelEntry, pretrained: Pretrained) -> str:
    if not pretrained.url:
        raise WeightsError(
            f"the weights {pretrained.tag} of {entry.name} have no known address", "give a file: --weights FILE"
        )
    return pretrained.url


def refetch_pretrained(entry: ModelEntry, tag: str | None, damaged: FetchResult) -> FetchResult | None:
    """Download an unreadable file again; None if that cannot help, because its hash is the published one."""
    pretrained = entry.weights(tag)
    if damaged.verified or damaged.downloaded or pretrained is None or pretrained.hub_id or not pretrained.url:
        return None
    return fetch_url(pretrained.url, torch_cache(), force=True)


def _builtin(entry: ModelEntry) -> FetchResult:
    from zoo.models.builtin import BUILTIN, weights_path

    path = weights_path(entry.name)
    digest = sha256_of(path) if path.is_file() else ""
    if digest != BUILTIN[entry.name].sha256:
        raise WeightsError(f"{path} is missing or damaged", "reinstall zoo")
    return FetchResult(path, f"builtin:{entry.name}", None, digest)
