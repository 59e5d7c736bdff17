"""Download files of the Hugging Face hub into the client's own cache, and check their hashes.

    fetch_hub_file("timm/resnet34.a1_in1k", ("model.safetensors", "pytorch_model.bin"))

The client (huggingface_hub 2.4) does not resume the download of a killed process, does not check hashes, and waits
for a silent server for minutes. It is used for its cache (`try_to_load_from_cache`) and the metadata
(`get_hf_file_metadata`); `zoo.hub.download` downloads.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path

from zoo.atomic_io import replace_file
from zoo.console import note
from zoo.errors import WeightsError
from zoo.hub.cache_layout import CACHE_HINT, FetchResult, RemoteFile, RepoCache
from zoo.hub.download import (
    TARGET_HINT,
    CorruptDownload,
    alternatives_hint,
    download,
    file_lock,
    format_size,
    write_error,
)
from zoo.hub.hashes import sha256_of
from zoo.hub.http import Unreachable
from zoo.hub.metadata import fetch_file_metadata


def is_cached(repo: str, names: Sequence[str], revision: str | None = None) -> bool:
    """Whether one of the files `names` of `repo` is in the cache; without the network. Raises WeightsError."""
    return RepoCache(repo, revision or "main").find_cached(names) is not None


def fetch_hub_file(
    repo: str, names: Sequence[str], revision: str | None = None, *, max_bytes: int | None = None
) -> FetchResult:
    """The first of the files `names` that `repo` has, from the cache or the hub.

    The environment variables HF_HOME, HF_ENDPOINT, HF_TOKEN and HF_HUB_OFFLINE are used. `repo` is "owner/name",
    `revision` a branch, tag or commit (None: "main"), `max_bytes` a limit for the size. Raises WeightsError: no file, a
    wrong hash, or (within `METADATA_TIMEOUT`) no connection.
    """
    repo_cache = RepoCache(repo, revision or "main")
    state = "not in the cache"
    if (found := repo_cache.find_cached(names)) is not None:
        if (cached := _verify_cached(repo_cache, *found)) is not None:
            return cached
        names, state = found[:1], "damaged in the cache"
        note(f"{names[0]} of {repo} is damaged in the cache: downloading it again")
    remote = fetch_file_metadata(repo_cache, names, state=state)
    if max_bytes is not None and (remote.size or 0) > max_bytes:
        raise WeightsError(
            f"{remote.name} of {repo} is too large: {format_size(remote.size or 0)}", "use another repository"
        )
    return _download(repo_cache, remote)


def _verify_cached(repo_cache: RepoCache, name: str, path: Path) -> FetchResult | None:
    """Check a cached file; None if it is damaged.

    A file without a stored hash is compared with the hub's; without a network it is used unchecked.
    """
    if (expected := repo_cache.expected(name, path)) is not None:
        return repo_cache.fetch_result(name, path) if expected.matches(path) else None
    commit = repo_cache.commit_of(name, path)
    at_commit = RepoCache(repo_cache.repo, commit)
    try:
        remote = fetch_file_metadata(at_commit, (name,))
    except WeightsError as e:
        note(f"{name} of {repo_cache.repo} is used from the cache without a check, its hash is unknown: {e.message}")
        return repo_cache.fetch_result(name, path, verified=False)
    if not remote.expected.matches(path):
        return None
    if remote.commit == commit:
        with suppress(OSError):  # a read-only cache: the next call asks the hub again
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
        # Another process may have downloaded it while this one waited; several revisions may have the same file.
        if not repo_cache.has_content(remote):
            for leftover in blob.parent.glob(f"{remote.etag}.*.incomplete"):
                leftover.unlink(missing_ok=True)  # of the client, which never reuses them
            previous = blob.resolve()
            _transfer(repo_cache, remote, blob)
            downloaded = True
            if previous != blob.resolve():
                previous.unlink(missing_ok=True)  # in the client's shared store, which would link it again
        path = repo_cache.link_snapshot(remote)
    return replace(repo_cache.fetch_result(remote.name, path), downloaded=downloaded)


def _transfer(repo_cache: RepoCache, remote: RemoteFile, target: Path) -> None:
    what = f"{remote.name} of {repo_cache.repo}"
    download(remote.url, target, what=what, size=remote.size, expected=remote.expected, headers=remote.headers)


@contextmanager
def _translate_errors(repo_cache: RepoCache, remote: RemoteFile, where: Path, hint: str) -> Iterator[None]:
    """Translate the exceptions of a download to `where`. hint: for a target that cannot be written."""
    what = f"{remote.name} of {repo_cache.repo}"
    try:
        yield
    except Unreachable as e:
        raise WeightsError(
            f"the download of {what} from {repo_cache.endpoint} failed: {e}; target: {where}",
            f"try again; or {alternatives_hint('HF_ENDPOINT')}",
        ) from e
    except CorruptDownload as e:
        raise WeightsError(
            f"the download of {what} from {repo_cache.endpoint} is damaged: its hash is not {remote.expected}",
            f"try later or from another network; or {alternatives_hint('HF_ENDPOINT')}",
        ) from e
    except OSError as e:
        raise write_error(where, e, hint) from e


def save_hub_file(
    repo: str, names: Sequence[str], target: Callable[[str], Path], revision: str | None = None
) -> FetchResult:
    """Download to `target(file name)` instead of the cache, or copy the file from the cache if it is there."""
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
    with _translate_errors(repo_cache, remote, path, TARGET_HINT):
        if not (path.is_file() and remote.expected.matches(path)):
            _transfer(repo_cache, remote, path)
            downloaded = True
        return FetchResult(path, f"hf-hub:{repo}/{remote.name}", remote.commit, sha256_of(path), downloaded)


def copy_file(source: Path, target: Path) -> bool:
    """Copy a checked file; returns False if `target` is the same already. Raises WeightsError."""
    try:
        if target.is_file() and sha256_of(target) == sha256_of(source):
            return False
        target.parent.mkdir(parents=True, exist_ok=True)
        replace_file(target, lambda temporary: shutil.copyfile(source, temporary))
    except OSError as e:
        raise write_error(target, e, TARGET_HINT) from e
    return True
