"""One file from a plain URL, in torch's cache: what torch.hub would do, checked at every use.

    fetch_url("https://download.pytorch.org/models/resnet34-b627a593.pth", torch_cache())

torch.hub takes a connection that closes early for the end of the file, and never looks again at what it has cached.
Most names carry the first digits of the file's sha256; of the others the hash is kept at the first download, in
NAME.sha256, as the program sha256sum writes it.
"""

from __future__ import annotations

import os
import re
from dataclasses import replace
from pathlib import Path
from urllib.parse import urlsplit

from zoo.console import note
from zoo.errors import WeightsError
from zoo.hub.cache_layout import Fetched
from zoo.hub.download import Damaged, download, locked, unwritable
from zoo.hub.hashes import Expected, expected_by_name, sha256_of
from zoo.hub.http import ANSWER_SECONDS, Unreachable, require_answer, within
from zoo.hub.huggingface import copy
from zoo.hub.messages import ways_on

__all__ = ["fetch_url", "save_url", "torch_cache"]

_HINT = "free some disk space, or TORCH_HOME=DIR names another cache"
_SUM = re.compile(r"([0-9a-f]{64}) [ *]\S.*\n?")


def torch_cache() -> Path:
    """Where torch.hub keeps files; $TORCH_HOME moves it."""
    from torch.hub import get_dir

    return Path(get_dir()) / "checkpoints"


def fetch_url(url: str, folder: Path, *, again: bool = False) -> Fetched:
    """The file at `url`, kept in `folder` under its own name. again: replace the one that is there.

    Raises WeightsError, within `ANSWER_SECONDS` if the server cannot be reached.
    """
    place = folder / os.path.basename(urlsplit(url).path)
    try:
        if place.is_file() and not again:
            if (kept := _kept(url, place)) is not None:
                return kept
            note(f"{place} is damaged: fetching it again")
        before = _stamp(place)
        with locked(folder / ".locks" / f"{place.name}.lock", url):
            # Another process may have fetched it while this one waited.
            if _stamp(place) != before and (kept := _kept(url, place)) is not None:
                return kept
            fetched = _download(url, place)
            if not fetched.checked:
                _noted(place).write_text(f"{fetched.sha256}  {place.name}\n", encoding="utf-8")
            return fetched
    except OSError as e:
        raise unwritable(place, e, _HINT) from e


def _stamp(place: Path) -> tuple[int, int] | None:
    """Changes when the file is replaced."""
    try:
        found = place.stat()
    except OSError:
        return None
    return found.st_ino, found.st_mtime_ns


def _noted(place: Path) -> Path:
    return place.with_name(f"{place.name}.sha256")


def _known(place: Path) -> Expected | None:
    if (by_name := expected_by_name(place.name)) is not None:
        return by_name
    try:
        found = _SUM.fullmatch(_noted(place).read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError):
        return None
    return Expected(found[1]) if found else None


def _kept(url: str, place: Path) -> Fetched | None:
    """The file that is there, None if it is damaged. Without a hash the size that the server states must do."""
    digest = sha256_of(place)
    if (known := _known(place)) is not None:
        published = expected_by_name(place.name) is not None
        return Fetched(place, url, None, digest, checked=published) if digest.startswith(known.digits) else None
    try:
        headers = within(ANSWER_SECONDS, lambda: require_answer(url))
    except Unreachable as e:
        note(f"{place.name} is in the cache without a hash, and is used unchecked: {e}")
        return Fetched(place, url, None, digest, checked=False)
    if headers is not None and headers.get("Content-Length") not in (None, str(place.stat().st_size)):
        return None
    return Fetched(place, url, None, digest, checked=False)


def _download(url: str, place: Path) -> Fetched:
    expected = expected_by_name(os.path.basename(urlsplit(url).path))
    try:
        headers = within(ANSWER_SECONDS, lambda: require_answer(url))
        stated = headers.get("Content-Length") if headers is not None else None
        size = int(stated) if stated is not None and stated.isdigit() else None
        download(url, place, what=url, size=size or None, expected=expected)
    except Unreachable as e:
        raise WeightsError(f"cannot fetch {url}: {e}; it would be put at {place}", ways_on()) from e
    except Damaged as e:
        wanted = f"its sha256 does not begin with {expected.digits}" if expected else "it is not as long as it says"
        raise WeightsError(
            f"{url} arrives damaged: {wanted}", f"try later or from another network; or {ways_on()}"
        ) from e
    return Fetched(place, url, None, sha256_of(place), downloaded=True, checked=expected is not None)


def save_url(url: str, target: Path, cache: Path) -> Fetched:
    """As `fetch_url`, but at `target` instead of in `cache`, from which it is copied if it is there."""
    name = os.path.basename(urlsplit(url).path)
    cached, expected = cache / name, expected_by_name(name)
    if cached.is_file() and (kept := _kept(url, cached)) is not None and kept.checked:
        return replace(kept, path=target, downloaded=copy(cached, target))
    try:
        if expected is not None and target.is_file() and expected.fits(target):
            return Fetched(target, url, None, sha256_of(target))
        return _download(url, target)
    except OSError as e:
        raise unwritable(target, e, "free some disk space, or choose another --to DIR") from e
