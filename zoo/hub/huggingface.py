"""One file of a repository on the Hugging Face hub, in the hub client's own cache, never one whose hash is wrong.

    fetch_hub_file("timm/resnet34.a1_in1k", ("model.safetensors", "pytorch_model.bin"))

The client waits up to 13 minutes for a server that does not answer, starts interrupted downloads from 0 and leaves
their remains, goes on for ever with a server that ignores `Range`, and compares sizes only. So the client is asked
what it has (`try_to_load_from_cache`) and what the hub says of a file (`get_hf_file_metadata`), and the bytes in
between come by `zoo.hub.download`. They are put where the client, and so timm, will find them: blobs/ETAG,
snapshots/COMMIT/NAME, refs/REVISION. Nothing here imports the client before a file is asked for.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path

from zoo.console import note
from zoo.errors import WeightsError
from zoo.hub.cache_layout import CACHE_HINT, FetchResult, RemoteFile, RepoCache
from zoo.hub.download import CorruptDownload, download, file_lock, format_size, write_error
from zoo.hub.hashes import sha256_of
from zoo.hub.http import Unreachable
from zoo.hub.messages import alternatives_hint
from zoo.hub.metadata import fetch_file_metadata

__all__ = ["copy_file", "fetch_hub_file", "save_hub_file"]

_TARGET_HINT = "free some disk space, or choose another --to DIR"


def fetch_hub_file(
    repo: str, names: Sequence[str], revision: str | None = None, *, max_bytes: int | None = None
) -> FetchResult:
    """The first of the files `names` that `repo` has, from the cache or the hub. HF_HOME, HF_ENDPOINT, HF_TOKEN and
    HF_HUB_OFFLINE are honoured.

    `repo` is "owner/name"; `revision` a branch, tag or commit, "main" if None. A larger file than `max_bytes` bytes is
    refused. Raises WeightsError, within `METADATA_TIMEOUT` if the hub cannot be reached, if none can be had or the
    content is not what the hub says that it is.
    """
    repo_cache = RepoCache(repo, revision or "main")
    damaged = ""
    if (found := repo_cache.find_cached(names)) is not None:
        name, path = found
        if (expected := repo_cache.expected(name, path)) is not None:
            if expected.matches(path):
                return repo_cache.fetch_result(name, path)
            damaged = name
        elif (cached := _verify_cached(repo_cache, name, path)) is not None:
            return cached
        else:
            damaged = name
        note(f"{damaged} of {repo} is damaged in the cache: fetching it again")
    remote = (
        fetch_file_metadata(repo_cache, (damaged,), state="damaged in the cache")
        if damaged
        else fetch_file_metadata(repo_cache, names)
    )
    if max_bytes is not None and (remote.size or 0) > max_bytes:
        raise WeightsError(
            f"{remote.name} of {repo} has {format_size(remote.size or 0)}: that is refused", "use another repository"
        )
    return _download(repo_cache, remote)


def _verify_cached(repo_cache: RepoCache, name: str, path: Path) -> FetchResult | None:
    """A cached file of which no hash is known: ask the hub for it. None if the file is another than the hub's.

    What cannot be asked is used as it is: that is how caches serve machines without a network.
    """
    commit = repo_cache.commit_of(name, path)
    at_commit = RepoCache(repo_cache.repo, commit)
    try:
        remote = fetch_file_metadata(at_commit, (name,))
    except WeightsError as e:
        note(f"{name} of {repo_cache.repo} is in the cache without its hash, and is used unchecked: {e.message}")
        return repo_cache.fetch_result(name, path, verified=False)
    if not remote.expected.matches(path):
        return None
    if remote.commit == commit:
        with suppress(OSError):  # a cache that may only be read: it is asked again next time
            repo_cache.save_etag(remote)
    return repo_cache.fetch_result(name, path)


def _download(repo_cache: RepoCache, remote: RemoteFile) -> FetchResult:
    what = f"{remote.name} of {repo_cache.repo}"
    blob = repo_cache.blob(remote.etag)
    downloaded = False
    with (
        _translate_errors(repo_cache, remote, repo_cache.folder, CACHE_HINT),
        file_lock(repo_cache.lock(remote.etag), what),
    ):
        # Another process may have fetched it while this one waited; several revisions may name the same content.
        if not repo_cache.has_content(remote):
            for leftover in blob.parent.glob(f"{remote.etag}.*.incomplete"):
                leftover.unlink(missing_ok=True)  # of the hub's client, which never looks at them again
            previous = blob.resolve()
            _transfer(repo_cache, remote, blob)
            downloaded = True
            if previous != blob.resolve():
                previous.unlink(missing_ok=True)  # in the client's store, which would link it again
        path = repo_cache.link_snapshot(remote)
    return replace(repo_cache.fetch_result(remote.name, path), downloaded=downloaded)


def _transfer(repo_cache: RepoCache, remote: RemoteFile, target: Path) -> None:
    what = f"{remote.name} of {repo_cache.repo}"
    download(remote.url, target, what=what, size=remote.size, expected=remote.expected, headers=remote.headers)


@contextmanager
def _translate_errors(repo_cache: RepoCache, remote: RemoteFile, where: Path, hint: str) -> Iterator[None]:
    """Translate what a transfer to `where` raises; `hint` is for a place that cannot be written."""
    what = f"{remote.name} of {repo_cache.repo}"
    try:
        yield
    except Unreachable as e:
        raise WeightsError(
            f"fetching {what} from {repo_cache.endpoint} broke off: {e}; it would be put in {where}",
            f"try again; or {alternatives_hint('HF_ENDPOINT')}",
        ) from e
    except CorruptDownload as e:
        raise WeightsError(
            f"{what} arrives damaged from {repo_cache.endpoint}: its hash is not {remote.expected}",
            f"try later or from another network; or {alternatives_hint('HF_ENDPOINT')}",
        ) from e
    except OSError as e:
        raise write_error(where, e, hint) from e


def save_hub_file(
    repo: str, names: Sequence[str], target: Callable[[str], Path], revision: str | None = None
) -> FetchResult:
    """As `fetch_hub_file`, but at `target(name of the file)` instead of in the cache, from which it is copied if it is
    there."""
    repo_cache = RepoCache(repo, revision or "main")
    if (found := repo_cache.find_cached(names)) is not None:
        name, path = found
        expected = repo_cache.expected(name, path)
        if expected is not None and expected.matches(path):
            cached = repo_cache.fetch_result(name, path)
            return replace(cached, path=target(name), downloaded=copy_file(path, target(name)))
    remote = fetch_file_metadata(repo_cache, names)
    path = target(remote.name)
    downloaded = False
    with _translate_errors(repo_cache, remote, path, _TARGET_HINT):
        if not (path.is_file() and remote.expected.matches(path)):
            _transfer(repo_cache, remote, path)
            downloaded = True
        return FetchResult(path, f"hf-hub:{repo}/{remote.name}", remote.commit, sha256_of(path), downloaded)


def copy_file(source: Path, target: Path) -> bool:
    """Copy a checked file; False if `target` holds the same already. Raises WeightsError if it cannot be written."""
    try:
        if target.is_file() and sha256_of(target) == sha256_of(source):
            return False
        target.parent.mkdir(parents=True, exist_ok=True)
        part = target.with_name(f"{target.name}.incomplete")
        try:
            shutil.copyfile(source, part)
            os.replace(part, target)
        finally:
            part.unlink(missing_ok=True)
    except OSError as e:
        raise write_error(target, e, _TARGET_HINT) from e
    return True
