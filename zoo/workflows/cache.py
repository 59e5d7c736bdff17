"""`zoo cache`: list and clear what zoo stores under $ZOO_CACHE."""

from __future__ import annotations

from zoo.cache import CACHES, CacheEntry, clear, list_entries
from zoo.data.sources.torchvision_sets import SETS
from zoo.errors import UsageError, did_you_mean, nearest


def list_cache(*kinds: str) -> list[CacheEntry]:
    """The entries of `kinds`, or everything in the cache folder, most recently used first.

    Args:
        kinds: names in `zoo.cache.CACHES`.

    Raises:
        UsageError: a kind is not one of CACHES.
    """
    _check(kinds)
    return list_entries(*kinds)


def clear_cache(*kinds: str, max_bytes: int = 0) -> int:
    """Delete the least recently used entries until at most `max_bytes` are left; returns the bytes that were deleted.

    Runs make deleted entries again when they need them. Two things stay: files that zoo did not write, and, unless
    `kinds` names "torchvision", the data sets that only the user can download.

    Args:
        kinds: names in `zoo.cache.CACHES`; none: all of them.

    Raises:
        UsageError: a kind is not one of CACHES.
    """
    _check(kinds)
    manual = [e.path for e in list_entries("torchvision") if e.path.name in SETS and SETS[e.path.name].manual_download]
    return clear(*kinds, max_bytes=max_bytes, exclude=() if "torchvision" in kinds else manual)


def _check(kinds: tuple[str, ...]) -> None:
    for kind in kinds:
        if kind not in CACHES:
            hint = did_you_mean(nearest(kind, CACHES, n=1), f"kinds: {', '.join(CACHES)}")
            raise UsageError(f"no kind of cache is called {kind!r}", hint)
