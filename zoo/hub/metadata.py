"""Ask the hub for the metadata of a file within a time limit; each failure becomes an error with a hint."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from urllib.parse import urlsplit

from zoo.errors import WeightsError, first_line
from zoo.hub.cache_layout import RemoteFile, RepoCache
from zoo.hub.download import NO_WEIGHTS_HINT, alternatives_hint
from zoo.hub.hashes import expected_hash_from_etag
from zoo.hub.http import CONNECT_TIMEOUT, METADATA_TIMEOUT, Unreachable, request_headers, require_endpoint, with_timeout

_COMMIT = re.compile(r"[0-9a-f]{40}")
_NAME_PART = r"[A-Za-z0-9_][A-Za-z0-9._-]{0,95}"
_NAME = re.compile(
    rf"(?:hf-hub:|hf_hub:)(?P<repo>{_NAME_PART}/{_NAME_PART})(?:@(?P<revision>[A-Za-z0-9_][A-Za-z0-9._/-]*))?"
)


@dataclass(frozen=True)
class HubName:
    """repo: "owner/name". revision: branch, tag or commit; None for the main branch."""

    repo: str
    revision: str | None

    def __str__(self) -> str:
        return f"hf-hub:{self.repo}" + (f"@{self.revision}" if self.revision else "")


def parse_hub_name(text: str) -> HubName:
    """Parse "hf-hub:owner/name" or "hf-hub:owner/name@revision". Raises WeightsError."""
    found = _NAME.fullmatch(text)
    if found is None or ".." in text or "--" in text:
        raise WeightsError(f"{text!r} is not a repository name", "write hf-hub:OWNER/NAME or hf-hub:OWNER/NAME@REV")
    return HubName(found["repo"], found["revision"])


def fetch_file_metadata(repo_cache: RepoCache, names: Sequence[str], *, state: str = "not in the cache") -> RemoteFile:
    """Metadata of the first of `names` that the repository has. state: state of the file for error messages."""
    from huggingface_hub import constants, errors

    endpoint, repo = repo_cache.endpoint, repo_cache.repo
    what = f"{names[0]} of {repo}"
    where = f"target: {repo_cache.folder}"
    require_endpoint(endpoint)
    if constants.is_offline_mode():
        raise WeightsError(
            f"{what} is {state}, and HF_HUB_OFFLINE is set; {where}", f"unset HF_HUB_OFFLINE; or {alternatives_hint()}"
        )
    login = f"set HF_TOKEN or run: hf auth login; {NO_WEIGHTS_HINT}"
    try:
        return with_timeout(METADATA_TIMEOUT, lambda: _query_hub(repo_cache, names))
    except errors.EntryNotFoundError as e:
        raise WeightsError(
            f"{repo} on {endpoint} has no file {' or '.join(names)}", f"check its files, {NO_WEIGHTS_HINT}"
        ) from e
    except errors.GatedRepoError as e:
        raise WeightsError(
            f"access to {repo} on {endpoint} is restricted", f"request access at {endpoint}/{repo}, then {login}"
        ) from e
    except errors.DisabledRepoError as e:
        raise WeightsError(f"{repo} on {endpoint} has been disabled", alternatives_hint()) from e
    except (errors.RepositoryNotFoundError, errors.RevisionNotFoundError) as e:
        missing = f"revision {repo_cache.revision!r} of {repo}" if isinstance(e, errors.RevisionNotFoundError) else repo
        raise WeightsError(
            f"{endpoint} has no {missing}, or it is private", f"check the name; if it is private, {login}"
        ) from e
    except errors.HFValidationError as e:
        raise WeightsError(f"{repo!r} is not a repository name: {_root_cause(e)}", "write hf-hub:OWNER/NAME") from e
    except errors.HfHubHTTPError as e:
        status = e.response.status_code
        raise WeightsError(
            f"cannot download {what}: {endpoint} answers {status}; {where}",
            login if status in (401, 403) else alternatives_hint("HF_ENDPOINT"),
        ) from e
    except _UnusableMetadata as e:
        raise WeightsError(f"cannot download {what}: {endpoint} {e}; {where}", alternatives_hint("HF_ENDPOINT")) from e
    except (_transport_error(), Unreachable, OSError, ValueError) as e:
        raise WeightsError(
            f"cannot download {what}: {endpoint} cannot be reached ({_root_cause(e)}); {where}",
            alternatives_hint("HF_ENDPOINT"),
        ) from e


class _UnusableMetadata(Exception):
    """The hub's metadata of the file cannot be used."""


def _query_hub(repo_cache: RepoCache, names: Sequence[str]) -> RemoteFile:
    from huggingface_hub import errors, get_hf_file_metadata, hf_hub_url
    from huggingface_hub.utils import build_hf_headers  # type: ignore[attr-defined]

    # The client sends other requests first, with its own timeouts.
    request_headers(repo_cache.endpoint, any_status=True)
    metadata, name = None, names[-1]
    for name in names:
        url = hf_hub_url(repo_cache.repo, name, revision=repo_cache.revision, endpoint=repo_cache.endpoint)
        try:
            metadata = get_hf_file_metadata(url, timeout=CONNECT_TIMEOUT, endpoint=repo_cache.endpoint)
            break
        except errors.EntryNotFoundError:
            if name == names[-1]:
                raise
    assert metadata is not None
    # The client and zoo write to paths that contain both.
    if expected_hash_from_etag(metadata.etag) is None:
        raise _UnusableMetadata(f"returns the ETag {metadata.etag!r}, which is not a hash")
    if metadata.commit_hash is None or not _COMMIT.fullmatch(metadata.commit_hash):
        raise _UnusableMetadata(f"returns the commit {metadata.commit_hash!r}, which is not a hash")
    assert metadata.etag is not None
    headers: dict[str, str] = {}
    if urlsplit(metadata.location).netloc == urlsplit(repo_cache.endpoint).netloc:
        headers = build_hf_headers()
    else:
        # The hub redirects to another server for large files; that one must be reachable too.
        try:
            request_headers(metadata.location)
        except Unreachable as e:
            raise _UnusableMetadata(f"redirects to {urlsplit(metadata.location).netloc}, which fails ({e})") from e
    return RemoteFile(name, metadata.location, metadata.etag, metadata.commit_hash, metadata.size, headers)


def _root_cause(error: BaseException) -> str:
    """The message of the innermost exception, in one line."""
    if isinstance(error, Unreachable):
        return str(error)
    seen: BaseException = error
    while (cause := seen.__cause__ or seen.__context__) is not None:
        seen = cause
    if isinstance(seen, OSError) and seen.strerror:
        return seen.strerror[:160]
    return re.sub(r"^\[Errno -?\d+\] ", "", first_line(seen if str(seen) else error))


def _transport_error() -> type[Exception]:
    """The base class of the client's connection errors: that of httpx or, in later versions, httpx2."""
    from huggingface_hub.errors import HfHubHTTPError

    return next(c for c in HfHubHTTPError.__mro__ if c.__name__ == "HTTPError")
