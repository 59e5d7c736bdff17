"""What the hub says of a file, soon; every failure as the error that the user can do something about."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from urllib.parse import urlsplit

from zoo.errors import WeightsError
from zoo.hub.cache_layout import Place, Remote
from zoo.hub.endpoint import require_endpoint
from zoo.hub.hashes import expected_by_etag
from zoo.hub.http import ANSWER_SECONDS, PROBE_SECONDS, Unreachable, require_answer, within
from zoo.hub.messages import NEED_NONE, reason, ways_on

__all__ = ["HubName", "locate", "parse_hub_name"]

_COMMIT = re.compile(r"[0-9a-f]{40}")
_PART = r"[A-Za-z0-9_][A-Za-z0-9._-]{0,95}"
_NAME = re.compile(rf"(?:hf-hub:|hf_hub:)(?P<repo>{_PART}/{_PART})(?:@(?P<revision>[A-Za-z0-9_][A-Za-z0-9._/-]*))?")


@dataclass(frozen=True)
class HubName:
    """repo: "owner/name". revision: a branch, tag or commit, None for the main branch."""

    repo: str
    revision: str | None

    def __str__(self) -> str:
        return f"hf-hub:{self.repo}" + (f"@{self.revision}" if self.revision else "")


def parse_hub_name(text: str) -> HubName:
    """ "hf-hub:owner/name" or "hf-hub:owner/name@revision". Raises WeightsError if it is neither."""
    found = _NAME.fullmatch(text)
    if found is None or ".." in text or "--" in text:
        raise WeightsError(f"{text!r} is no repository on the hub", "write hf-hub:OWNER/NAME or hf-hub:OWNER/NAME@REV")
    return HubName(found["repo"], found["revision"])


def locate(place: Place, names: Sequence[str], *, state: str = "not in the cache") -> Remote:
    """What the hub says of the first of `names` that the repository has. state: why it is asked, for the errors."""
    from huggingface_hub import constants, errors

    endpoint, repo = place.endpoint, place.repo
    what = f"{names[0]} of {repo}"
    where = f"it would be put in {place.folder}"
    require_endpoint(endpoint)
    if constants.is_offline_mode():
        raise WeightsError(
            f"{what} is {state}, and HF_HUB_OFFLINE forbids to fetch it; {where}",
            f"unset HF_HUB_OFFLINE; or {ways_on()}",
        )
    login = f"set HF_TOKEN or run: hf auth login; {NEED_NONE}"
    try:
        return within(ANSWER_SECONDS, lambda: _ask(place, names))
    except errors.EntryNotFoundError as e:
        raise WeightsError(
            f"{repo} on {endpoint} has no file {' or '.join(names)}", f"look at its files, {NEED_NONE}"
        ) from e
    except errors.GatedRepoError as e:
        raise WeightsError(
            f"{repo} on {endpoint} may not be read without its owner's consent",
            f"ask for access at {endpoint}/{repo}, then {login}",
        ) from e
    except errors.DisabledRepoError as e:
        raise WeightsError(f"{repo} on {endpoint} has been disabled", ways_on()) from e
    except (errors.RepositoryNotFoundError, errors.RevisionNotFoundError) as e:
        missing = f"revision {place.revision!r} of {repo}" if isinstance(e, errors.RevisionNotFoundError) else repo
        raise WeightsError(
            f"{endpoint} has no {missing}, or does not show it to you", f"look at the name; if it is private, {login}"
        ) from e
    except errors.HFValidationError as e:
        raise WeightsError(f"{repo!r} is no repository's name: {reason(e)}", "write hf-hub:OWNER/NAME") from e
    except errors.HfHubHTTPError as e:
        status = e.response.status_code
        raise WeightsError(
            f"cannot fetch {what}: {endpoint} answers {status}; {where}",
            login if status in (401, 403) else ways_on("HF_ENDPOINT"),
        ) from e
    except _Elsewhere as e:
        raise WeightsError(f"cannot fetch {what}: {endpoint} {e}; {where}", ways_on("HF_ENDPOINT")) from e
    except (_transport_error(), Unreachable, OSError, ValueError) as e:
        raise WeightsError(
            f"cannot fetch {what}: {endpoint} cannot be reached ({reason(e)}); {where}", ways_on("HF_ENDPOINT")
        ) from e


class _Elsewhere(Exception):
    """What the hub says of the file cannot be used."""


def _ask(place: Place, names: Sequence[str]) -> Remote:
    from huggingface_hub import errors, get_hf_file_metadata, hf_hub_url
    from huggingface_hub.utils import build_hf_headers  # type: ignore[attr-defined]

    # The client asks other questions first (who is calling), and would wait for each of them.
    require_answer(place.endpoint, any_status=True)
    metadata, name = None, names[-1]
    for name in names:
        url = hf_hub_url(place.repo, name, revision=place.revision, endpoint=place.endpoint)
        try:
            metadata = get_hf_file_metadata(url, timeout=PROBE_SECONDS, endpoint=place.endpoint)
            break
        except errors.EntryNotFoundError:
            if name == names[-1]:
                raise
    assert metadata is not None
    # The client, and we, write to paths made of these.
    if expected_by_etag(metadata.etag) is None:
        raise _Elsewhere(f"names it by {metadata.etag!r}, which is no hash")
    if metadata.commit_hash is None or not _COMMIT.fullmatch(metadata.commit_hash):
        raise _Elsewhere(f"says that its commit is {metadata.commit_hash!r}, which is none")
    assert metadata.etag is not None
    headers: dict[str, str] = {}
    if urlsplit(metadata.location).netloc == urlsplit(place.endpoint).netloc:
        headers = build_hf_headers()
    else:
        # Large files lie on another server, to which the hub sends the client; that one must be there too.
        try:
            require_answer(metadata.location)
        except Unreachable as e:
            raise _Elsewhere(f"keeps it on {urlsplit(metadata.location).netloc}, which fails ({e})") from e
    return Remote(name, metadata.location, metadata.etag, metadata.commit_hash, metadata.size, headers)


def _transport_error() -> type[Exception]:
    """The base of what the hub's client raises for a broken connection: httpx's or, in later versions, httpx2's."""
    from huggingface_hub.errors import HfHubHTTPError

    return next(c for c in HfHubHTTPError.__mro__ if c.__name__ == "HTTPError")
