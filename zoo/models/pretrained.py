"""Files of published weights, from the cache, an installed package or the network."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path, PurePosixPath
from urllib.parse import urlsplit

from zoo.catalog import ModelEntry
from zoo.catalog.packages import INSTALL_HINT, PACKAGES, WeightsPackage
from zoo.errors import WeightsError
from zoo.hub import (
    FetchResult,
    copy_file,
    fetch_hub_file,
    fetch_url,
    is_cached,
    save_hub_file,
    save_url,
    sha256_of,
    torch_cache,
)

# timm's preference: safetensors before pickles.
HUB_FILES = ("model.safetensors", "pytorch_model.bin")


def default_tag(entry: ModelEntry) -> str | None:
    """The tag of the default weights: that of the library, or of an installed package if the library's weights are on
    the hub and not in its cache. None if there are no weights.
    """
    default = entry.weights()
    if default is not None and default.hub_id and (package := _package_of(entry)) is not None:
        repo, _, revision = default.hub_id.partition("@")
        if package.find_file() is not None and not is_cached(repo, HUB_FILES, revision or None):
            return package.tag
    return entry.default_tag


def _package_of(entry: ModelEntry) -> WeightsPackage | None:
    """A package with weights of the model, installed or not."""
    return next((PACKAGES[f"{entry.name}.{p.tag}"] for p in entry.pretrained if p.package), None)


def fetch_pretrained(entry: ModelEntry, tag: str | None, target: Callable[[str], Path] | None = None) -> FetchResult:
    """The weights `tag` (None: the default ones), in a cache or, if `target` is given, as the file `target(file name)`.

    Raises WeightsError if there are none or the download fails.
    """
    if entry.source == "builtin":
        return _builtin(entry, target)
    pretrained = entry.weights(tag)
    if pretrained is None:
        raise WeightsError(f"{entry.name} has no pretrained weights", "use --weights none for random weights")
    if pretrained.package:
        from zoo.models.packages import convert_package

        return _copied(convert_package(PACKAGES[f"{entry.name}.{pretrained.tag}"]), target)
    if pretrained.hub_id:
        repo, _, revision = pretrained.hub_id.partition("@")
        try:
            if target is None:
                return fetch_hub_file(repo, HUB_FILES, revision or None)
            return save_hub_file(repo, HUB_FILES, target, revision or None)
        except WeightsError as e:
            if (package := _package_of(entry)) is None:
                raise
            how = "is installed" if package.find_file() is not None else f"comes with {INSTALL_HINT}"
            raise WeightsError(e.message, f"{package.name} {how}; or {e.hint}") from e
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
    return _copied(FetchResult(path, f"builtin:{entry.name}", None, digest), target)


def _copied(fetched: FetchResult, target: Callable[[str], Path] | None) -> FetchResult:
    """The file itself, or its copy as `target(file name)`."""
    if target is None:
        return fetched
    path = fetched.path
    return replace(fetched, path=target(path.name), downloaded=copy_file(path, target(path.name)))
