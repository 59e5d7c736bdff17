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
from zoo.hub.cache_layout import CACHE_HINT, Fetched, Place, Remote
from zoo.hub.download import Damaged, download, locked, megabytes, unwritable
from zoo.hub.hashes import sha256_of
from zoo.hub.http import Unreachable
from zoo.hub.messages import ways_on
from zoo.hub.metadata import locate

__all__ = ["copy", "fetch_hub_file", "save_hub_file"]

_TARGET_HINT = "free some disk space, or choose another --to DIR"


def fetch_hub_file(
    repo: str, names: Sequence[str], revision: str | None = None, *, largest: int | None = None
) -> Fetched:
    """The first of the files `names` that `repo` has, from the cache or the hub. HF_HOME, HF_ENDPOINT, HF_TOKEN and
    HF_HUB_OFFLINE are honoured.

    `repo` is "owner/name"; `revision` a branch, tag or commit, "main" if None. A larger file than `largest` bytes is
    refused. Raises WeightsError, within `ANSWER_SECONDS` if the hub cannot be reached, if none can be had or the
    content is not what the hub says that it is.
    """
    place = Place(repo, revision or "main")
    damaged = ""
    if (found := place.find(names)) is not None:
        name, path = found
        if (expected := place.expected(name, path)) is not None:
            if expected.fits(path):
                return place.fetched(name, path)
            damaged = name
        elif (kept := _compare(place, name, path)) is not None:
            return kept
        else:
            damaged = name
        note(f"{damaged} of {repo} is damaged in the cache: fetching it again")
    remote = locate(place, (damaged,), state="damaged in the cache") if damaged else locate(place, names)
    if largest is not None and (remote.size or 0) > largest:
        raise WeightsError(
            f"{remote.name} of {repo} has {megabytes(remote.size or 0)}: that is refused", "use another repository"
        )
    return _download(place, remote)


def _compare(place: Place, name: str, path: Path) -> Fetched | None:
    """A cached file of which no hash is known: ask the hub for it. None if the file is another than the hub's.

    What cannot be asked is used as it is: that is how caches serve machines without a network.
    """
    commit = place.commit_of(name, path)
    at_commit = Place(place.repo, commit)
    try:
        remote = locate(at_commit, (name,))
    except WeightsError as e:
        note(f"{name} of {place.repo} is in the cache without its hash, and is used unchecked: {e.message}")
        return place.fetched(name, path, checked=False)
    if not remote.expected.fits(path):
        return None
    if remote.commit == commit:
        with suppress(OSError):  # a cache that may only be read: it is asked again next time
            place.note_etag(remote)
    return place.fetched(name, path)


def _download(place: Place, remote: Remote) -> Fetched:
    what = f"{remote.name} of {place.repo}"
    blob = place.blob(remote.etag)
    downloaded = False
    with _explained(place, remote, place.folder, CACHE_HINT), locked(place.lock(remote.etag), what):
        # Another process may have fetched it while this one waited; several revisions may name the same content.
        if not place.holds(remote):
            for remains in blob.parent.glob(f"{remote.etag}.*.incomplete"):
                remains.unlink(missing_ok=True)  # of the hub's client, which never looks at them again
            former = blob.resolve()
            _transfer(place, remote, blob)
            downloaded = True
            if former != blob.resolve():
                former.unlink(missing_ok=True)  # in the client's store, which would link it again
        path = place.install(remote)
    return replace(place.fetched(remote.name, path), downloaded=downloaded)


def _transfer(place: Place, remote: Remote, target: Path) -> None:
    what = f"{remote.name} of {place.repo}"
    download(remote.url, target, what=what, size=remote.size, expected=remote.expected, headers=remote.headers)


@contextmanager
def _explained(place: Place, remote: Remote, where: Path, hint: str) -> Iterator[None]:
    """Translate what a transfer to `where` raises; `hint` is for a place that cannot be written."""
    what = f"{remote.name} of {place.repo}"
    try:
        yield
    except Unreachable as e:
        raise WeightsError(
            f"fetching {what} from {place.endpoint} broke off: {e}; it would be put in {where}",
            f"try again; or {ways_on('HF_ENDPOINT')}",
        ) from e
    except Damaged as e:
        raise WeightsError(
            f"{what} arrives damaged from {place.endpoint}: its hash is not {remote.expected}",
            f"try later or from another network; or {ways_on('HF_ENDPOINT')}",
        ) from e
    except OSError as e:
        raise unwritable(where, e, hint) from e


def save_hub_file(
    repo: str, names: Sequence[str], target: Callable[[str], Path], revision: str | None = None
) -> Fetched:
    """As `fetch_hub_file`, but at `target(name of the file)` instead of in the cache, from which it is copied if it is
    there."""
    place = Place(repo, revision or "main")
    if (found := place.find(names)) is not None:
        name, path = found
        expected = place.expected(name, path)
        if expected is not None and expected.fits(path):
            cached = place.fetched(name, path)
            return replace(cached, path=target(name), downloaded=copy(path, target(name)))
    remote = locate(place, names)
    path = target(remote.name)
    downloaded = False
    with _explained(place, remote, path, _TARGET_HINT):
        if not (path.is_file() and remote.expected.fits(path)):
            _transfer(place, remote, path)
            downloaded = True
        return Fetched(path, f"hf-hub:{repo}/{remote.name}", remote.commit, sha256_of(path), downloaded)


def copy(source: Path, target: Path) -> bool:
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
        raise unwritable(target, e, _TARGET_HINT) from e
    return True
