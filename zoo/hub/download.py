"""One file of weights, from the cache or the network, never one whose hash is wrong.

    fetch_hub_file("timm/resnet34.a1_in1k", ("model.safetensors", "pytorch_model.bin"))
    fetch_url("https://download.pytorch.org/models/resnet34-b627a593.pth", cache)

The libraries' own clients wait up to 13 minutes for a server that does not answer, and do not check what they cached.
So the cache is looked at first, then one probe that does not retry says whether the server is there, then the client
loads, and the hash is compared on arrival and on every later use. A wrong file is fetched once more before it is an
error. Nothing here imports the hub's client before a hub file is asked for.
"""

from __future__ import annotations

import hashlib
import os
import re
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from zoo.errors import WeightsError, no_space
from zoo.hub.probe import PROBE_SECONDS, Unreachable, require_answer, stream
from zoo.output import is_terminal, note

__all__ = ["Fetched", "fetch_hub_file", "fetch_url", "sha256_of"]

# torch.hub's convention: resnet34-b627a593.pth begins with the first digits of its sha256.
_HASH_IN_NAME = re.compile(r"-([0-9a-f]{8,64})\.")
_ETAG = re.compile(r"[0-9a-f]{40}|[0-9a-f]{64}")


@dataclass(frozen=True)
class Fetched:
    """path: where the file lies. source: its name elsewhere. revision: the hub's commit. sha256: of the file."""

    path: Path
    source: str
    revision: str | None
    sha256: str


def sha256_of(path: Path) -> str:
    """Hex digest of the file's bytes. About 1.3 GB/s (measured on the development machine)."""
    return _digest(path, b"", "sha256")


def _digest(path: Path, start: bytes, kind: str) -> str:
    digest = hashlib.new(kind, start)
    with path.open("rb") as f:
        while chunk := f.read(1 << 20):
            digest.update(chunk)
    return digest.hexdigest()


def _matches(path: Path, etag: str) -> bool:
    """True if the file has the hash that the hub names it by: a sha256 (large files), or git's sha1 of a blob."""
    if len(etag) == 64:
        return sha256_of(path) == etag
    return _digest(path, b"blob %d\0" % path.stat().st_size, "sha1") == etag


def _ways_on(*more: str) -> str:
    return "; ".join((*more, "--weights FILE takes a copy from elsewhere", "--weights none starts from random weights"))


def fetch_hub_file(repo: str, names: Sequence[str], revision: str | None = None) -> Fetched:
    """The first of the files `names` that `repo` has. HF_HOME, HF_ENDPOINT and HF_HUB_OFFLINE are honoured by the
    client.

    `repo` is "owner/name"; `revision` a branch, tag or commit, "main" if None.
    Raises WeightsError, within 10 s if the hub cannot be reached, if none can be had or the content is not what the hub
    says that it is.
    """
    from huggingface_hub import try_to_load_from_cache

    for name in names:
        cached = try_to_load_from_cache(repo, name, revision=revision or "main")
        if isinstance(cached, str):
            path = Path(cached)
            if _cached_is_good(path):
                return _fetched(repo, name, path)
            note(f"{name} of {repo} is damaged in the cache: fetching it again")
            return _download(repo, name, _probe(repo, name, revision), revision, force=True)
    for name in names:
        etag = _probe(repo, name, revision, optional=name != names[-1])
        if etag is not None:
            return _download(repo, name, etag, revision, force=False)
    raise AssertionError("the last name is not optional")


def _cached_is_good(path: Path) -> bool:
    """Compare with the name of the blob that the snapshot links to. Without links there is nothing to compare."""
    if not path.is_symlink():
        return True
    etag = os.path.basename(os.readlink(path))
    return not _ETAG.fullmatch(etag) or _matches(path, etag)


def _fetched(repo: str, name: str, path: Path) -> Fetched:
    # The snapshot's folder is called by the commit: …/snapshots/COMMIT/NAME
    depth = len(Path(name).parts)
    revision = path.parts[-1 - depth]
    etag = os.path.basename(os.readlink(path)) if path.is_symlink() else ""
    return Fetched(path, f"hf-hub:{repo}/{name}", revision, etag if len(etag) == 64 else sha256_of(path))


def _probe(repo: str, name: str, revision: str | None, *, optional: bool = False) -> str | None:
    """The hash by which the hub names the file; None if the file is optional and the repository does not have it."""
    from huggingface_hub import constants, errors, get_hf_file_metadata, hf_hub_url

    transport_error = _transport_error()
    endpoint = constants.ENDPOINT
    what = f"{name} of {repo}"
    folder = Path(constants.HF_HUB_CACHE) / f"models--{repo.replace('/', '--')}"
    kept = f"it would be kept in {folder}"
    mirror = _ways_on(kept, "HF_ENDPOINT=URL names a mirror")
    parts = urlsplit(endpoint)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise WeightsError(
            f"cannot fetch {what}: HF_ENDPOINT is {endpoint!r}, not a URL", "write for example https://hub"
        )
    if constants.is_offline_mode():
        raise WeightsError(
            f"{what} is not in the cache, and HF_HUB_OFFLINE forbids to fetch it",
            _ways_on(kept, "unset HF_HUB_OFFLINE"),
        )
    try:
        # The client asks other questions first (who is calling), and would wait for each of them.
        require_answer(endpoint, any_status=True)
        metadata = get_hf_file_metadata(hf_hub_url(repo, name, revision=revision), timeout=PROBE_SECONDS)
    except errors.EntryNotFoundError as e:
        if optional:
            return None
        raise WeightsError(f"{repo} on {endpoint} has no file {name}", _ways_on()) from e
    except (errors.GatedRepoError, errors.DisabledRepoError) as e:
        raise WeightsError(
            f"{repo} on {endpoint} may not be read without its owner's consent",
            _ways_on("ask for access on its page and log in with: hf auth login"),
        ) from e
    except (errors.RepositoryNotFoundError, errors.RevisionNotFoundError) as e:
        missing = f"revision {revision!r} of {repo}" if isinstance(e, errors.RevisionNotFoundError) else repo
        raise WeightsError(f"{endpoint} has no {missing}, or does not show it to you", _ways_on()) from e
    except errors.HfHubHTTPError as e:
        raise WeightsError(f"cannot fetch {what}: {endpoint} answers {e.response.status_code}", mirror) from e
    except (transport_error, Unreachable, OSError, ValueError) as e:
        raise WeightsError(f"cannot fetch {what}: {endpoint} cannot be reached ({_reason(e)})", mirror) from e
    _probe_store(metadata.location, what, endpoint, mirror)
    if metadata.etag is None or not _ETAG.fullmatch(metadata.etag):
        # The client writes to a path made of it.
        raise WeightsError(f"cannot fetch {what}: {endpoint} names it by {metadata.etag!r}, which is no hash", mirror)
    return metadata.etag


def _probe_store(location: str, what: str, endpoint: str, hint: str) -> None:
    """Large files lie on another server, to which the hub sends the client; that one must be there too."""
    if urlsplit(location).netloc == urlsplit(endpoint).netloc:
        return
    try:
        require_answer(location)
    except Unreachable as e:
        host = urlsplit(location).netloc
        raise WeightsError(f"cannot fetch {what}: {endpoint} keeps it on {host}, which fails ({e})", hint) from e


def _download(repo: str, name: str, etag: str | None, revision: str | None, *, force: bool) -> Fetched:
    from huggingface_hub import constants, errors, hf_hub_download
    from huggingface_hub.utils.tqdm import disable_progress_bars

    assert etag is not None
    transport_error = _transport_error()
    what = f"{name} of {repo}"
    if not is_terminal(sys.stderr):
        disable_progress_bars()
    note(f"fetching {what}")
    path = Path()
    for attempt in (0, 1):
        try:
            path = Path(
                hf_hub_download(
                    repo, name, revision=revision, etag_timeout=PROBE_SECONDS, force_download=force or attempt > 0
                )
            )
        except (transport_error, errors.LocalEntryNotFoundError, ValueError, RuntimeError) as e:
            raise WeightsError(f"fetching {what} from {constants.ENDPOINT} broke off ({_reason(e)})", _ways_on()) from e
        except OSError as e:
            raise _unwritable(Path(constants.HF_HUB_CACHE), e, "HF_HOME") from e
        if _matches(path, etag):
            return _fetched(repo, name, path)
        note(f"what arrived is not what {constants.ENDPOINT} announced" + ("" if attempt else ": once more"))
    _purge(path)
    raise WeightsError(
        f"{what} arrives damaged from {constants.ENDPOINT}: its hash is not {etag[:12]}…",
        _ways_on("try later or from another network"),
    )


def _transport_error() -> type[Exception]:
    """The base of what the hub's client raises for a broken connection: httpx's or, in later versions, httpx2's."""
    from huggingface_hub.errors import HfHubHTTPError

    return next(c for c in HfHubHTTPError.__mro__ if c.__name__ == "HTTPError")


def _unwritable(path: Path, error: OSError, variable: str) -> WeightsError:
    why = "no space is left" if no_space(error) else error.strerror or str(error)
    return WeightsError(
        f"cannot keep weights at {path}: {why}", f"{variable}=DIR names another cache; --weights FILE needs none"
    )


def _purge(path: Path) -> None:
    """Remove a cached file and the blob behind it, so that nobody takes it for good."""
    blob = path.resolve()
    path.unlink(missing_ok=True)
    blob.unlink(missing_ok=True)


def _reason(error: BaseException) -> str:
    """The innermost cause in one line: what the system said, not what the layers above made of it."""
    seen: BaseException = error
    while (cause := seen.__cause__ or seen.__context__) is not None:
        seen = cause
    text = (str(seen) or str(error) or type(error).__name__).strip().splitlines()[0]
    return text[:160]


def fetch_url(url: str, folder: Path) -> Fetched:
    """The file at `url`, kept in `folder` under its own name, whose hash prefix (`name-1a2b3c4d.pth`) is checked.

    Raises WeightsError, within 10 s if the server cannot be reached.
    """
    name = os.path.basename(urlsplit(url).path)
    path = folder / name
    found = _HASH_IN_NAME.search(name)
    prefix = found.group(1) if found else ""
    if path.is_file():
        digest = sha256_of(path)
        if digest.startswith(prefix):
            return Fetched(path, url, None, digest)
        note(f"{path} is damaged: fetching it again")
    for attempt in (0, 1):
        digest = _stream_to(url, path)
        if digest.startswith(prefix):
            return Fetched(path, url, None, digest)
        path.unlink()
        note(f"what arrived from {url} is not what its name says" + ("" if attempt else ": once more"))
    raise WeightsError(
        f"{url} arrives damaged: its sha256 does not begin with {prefix}",
        _ways_on("try later or from another network"),
    )


def _stream_to(url: str, path: Path) -> str:
    """Fetch `url` to a temporary name beside `path`, rename it, return the sha256."""
    note(f"fetching {url}")
    digest = hashlib.sha256()
    part = path.with_name(f"{path.name}.{os.getpid()}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with part.open("wb") as out:
            for chunk in stream(url):
                digest.update(chunk)
                out.write(chunk)
        os.replace(part, path)
    except Unreachable as e:
        raise WeightsError(
            f"cannot fetch {url}: {_reason(e)}",
            _ways_on(f"it would be kept at {path}, a copy may be put there", "TORCH_HOME=DIR names another cache"),
        ) from e
    except OSError as e:
        raise _unwritable(path, e, "TORCH_HOME") from e
    finally:
        if part.is_file():
            part.unlink()
    return digest.hexdigest()
