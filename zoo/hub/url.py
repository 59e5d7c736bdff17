"""Download a URL into torch's cache as torch.hub does, and check the file at every use.

    fetch_url("https://download.pytorch.org/models/resnet34-b627a593.pth", torch_cache())

torch.hub takes a connection that closes early for the end of the file, and never checks a cached file again. Most file
names contain the first digits of the sha256. For the others the first download writes the hash to NAME.sha256, in the
format of the program sha256sum.
"""

from __future__ import annotations

import os
import re
from dataclasses import replace
from pathlib import Path
from urllib.parse import urlsplit

from zoo.console import note
from zoo.errors import WeightsError
from zoo.hub.cache_layout import FetchResult
from zoo.hub.download import TARGET_HINT, CorruptDownload, alternatives_hint, download, file_lock, write_error
from zoo.hub.hashes import ExpectedHash, expected_hash_from_name, sha256_of
from zoo.hub.http import METADATA_TIMEOUT, Unreachable, request_headers, with_timeout
from zoo.hub.huggingface import copy_file

_HINT = "free some disk space, or set TORCH_HOME=DIR to use another cache"
_SUM = re.compile(r"([0-9a-f]{64}) [ *]\S.*\n?")


def torch_cache() -> Path:
    """The cache folder of torch.hub; the variable TORCH_HOME changes it."""
    from torch.hub import get_dir

    return Path(get_dir()) / "checkpoints"


def fetch_url(url: str, folder: Path, *, force: bool = False) -> FetchResult:
    """Download `url` into `folder`, if it is not there or `force` is set.

    Raises WeightsError, within `METADATA_TIMEOUT` if the server cannot be reached.
    """
    path = folder / os.path.basename(urlsplit(url).path)
    try:
        if path.is_file() and not force:
            if (cached_file := _verified_cached(url, path)) is not None:
                return cached_file
            note(f"{path} is damaged: downloading it again")
        before = _file_version(path)
        with file_lock(folder / ".locks" / f"{path.name}.lock", url):
            # Another process may have downloaded it while this one waited.
            if _file_version(path) != before and (cached_file := _verified_cached(url, path)) is not None:
                return cached_file
            fetched = _download(url, path)
            if not fetched.verified:
                _hash_file(path).write_text(f"{fetched.sha256}  {path.name}\n", encoding="utf-8")
            return fetched
    except OSError as e:
        raise write_error(path, e, _HINT) from e


def _file_version(path: Path) -> tuple[int, int] | None:
    """Changes when the file is replaced."""
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_ino, found.st_mtime_ns


def _hash_file(path: Path) -> Path:
    return path.with_name(f"{path.name}.sha256")


def _expected_hash(path: Path) -> ExpectedHash | None:
    if (by_name := expected_hash_from_name(path.name)) is not None:
        return by_name
    try:
        found = _SUM.fullmatch(_hash_file(path).read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError):
        return None
    return ExpectedHash(found[1]) if found else None


def _verified_cached(url: str, path: Path) -> FetchResult | None:
    """The existing file; None if it is damaged. Without a hash its size is compared with the server's."""
    digest = sha256_of(path)
    if (known := _expected_hash(path)) is not None:
        published = expected_hash_from_name(path.name) is not None
        return FetchResult(path, url, None, digest, verified=published) if digest.startswith(known.hex_prefix) else None
    try:
        headers = with_timeout(METADATA_TIMEOUT, lambda: request_headers(url))
    except Unreachable as e:
        note(f"{path.name} is used from the cache without a check, its hash is unknown: {e}")
        return FetchResult(path, url, None, digest, verified=False)
    if headers is not None and headers.get("Content-Length") not in (None, str(path.stat().st_size)):
        return None
    return FetchResult(path, url, None, digest, verified=False)


def _download(url: str, path: Path) -> FetchResult:
    expected = expected_hash_from_name(os.path.basename(urlsplit(url).path))
    try:
        headers = with_timeout(METADATA_TIMEOUT, lambda: request_headers(url))
        content_length = headers.get("Content-Length") if headers is not None else None
        size = int(content_length) if content_length is not None and content_length.isdigit() else None
        download(url, path, what=url, size=size or None, expected=expected)
    except Unreachable as e:
        raise WeightsError(f"cannot download {url}: {e}; target: {path}", alternatives_hint()) from e
    except CorruptDownload as e:
        wanted = f"its sha256 does not start with {expected.hex_prefix}" if expected else "its size is wrong"
        raise WeightsError(
            f"the download of {url} is damaged: {wanted}",
            f"try later or from another network; or {alternatives_hint()}",
        ) from e
    return FetchResult(path, url, None, sha256_of(path), downloaded=True, verified=expected is not None)


def save_url(url: str, target: Path, cache: Path) -> FetchResult:
    """Download `url` to `target`, or copy it from the folder `cache` if it is there. Raises WeightsError."""
    name = os.path.basename(urlsplit(url).path)
    cached, expected = cache / name, expected_hash_from_name(name)
    if cached.is_file() and (cached_file := _verified_cached(url, cached)) is not None and cached_file.verified:
        return replace(cached_file, path=target, downloaded=copy_file(cached, target))
    try:
        if expected is not None and target.is_file() and expected.matches(target):
            return FetchResult(target, url, None, sha256_of(target))
        return _download(url, target)
    except OSError as e:
        raise write_error(target, e, TARGET_HINT) from e
