"""The file of a model's published weights, from the cache or the network. Imports no model library."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path, PurePosixPath
from urllib.parse import urlsplit

from zoo.catalog import ModelEntry, Pretrained
from zoo.errors import WeightsError
from zoo.hub import Fetched, copy, fetch_hub_file, fetch_url, save_hub_file, save_url, sha256_of, torch_cache

__all__ = ["HUB_FILES", "fetch_published", "fetch_published_again", "save_published"]

# timm's preference: safetensors before pickles.
HUB_FILES = ("model.safetensors", "pytorch_model.bin")


def fetch_published(entry: ModelEntry, tag: str | None) -> Fetched:
    """The weights called `tag`, the default ones if None. Raises WeightsError if there are none, or none to be had."""
    if entry.source == "builtin":
        return _builtin(entry)
    published = _of(entry, tag)
    if published.hub_id:
        repo, _, revision = published.hub_id.partition("@")
        return fetch_hub_file(repo, HUB_FILES, revision or None)
    return fetch_url(_url_of(entry, published), torch_cache())


def save_published(entry: ModelEntry, tag: str | None, target: Callable[[str], Path]) -> Fetched:
    """The same at `target(name of the published file)` instead of in a cache."""
    if entry.source == "builtin":
        fetched = _builtin(entry)
        path = target(fetched.path.name)
        return replace(fetched, path=path, downloaded=copy(fetched.path, path))
    published = _of(entry, tag)
    if published.hub_id:
        repo, _, revision = published.hub_id.partition("@")
        return save_hub_file(repo, HUB_FILES, target, revision or None)
    url = _url_of(entry, published)
    return save_url(url, target(PurePosixPath(urlsplit(url).path).name), torch_cache())


def _of(entry: ModelEntry, tag: str | None) -> Pretrained:
    published = entry.weights(tag)
    if published is None:
        raise WeightsError(f"{entry.name} has no pretrained weights", "--weights none starts from random ones")
    return published


def _url_of(entry: ModelEntry, published: Pretrained) -> str:
    if not published.url:
        raise WeightsError(
            f"nobody says where the weights {published.tag} of {entry.name} are", "give a file: --weights FILE"
        )
    return published.url


def fetch_published_again(entry: ModelEntry, tag: str | None, unreadable: Fetched) -> Fetched | None:
    """The same from its publisher, in the place of a file that was used unchecked and turned out to be unreadable;
    None if its hash is the published one, so that nothing better is to be had."""
    published = entry.weights(tag)
    if unreadable.checked or unreadable.downloaded or published is None or published.hub_id or not published.url:
        return None
    return fetch_url(published.url, torch_cache(), again=True)


def _builtin(entry: ModelEntry) -> Fetched:
    from zoo.models.builtin import BUILTIN, weights_path

    path = weights_path(entry.name)
    digest = sha256_of(path) if path.is_file() else ""
    if digest != BUILTIN[entry.name].sha256:
        raise WeightsError(f"{path} is missing or damaged", "install zoo again")
    return Fetched(path, f"builtin:{entry.name}", None, digest)
