"""`zoo cache`: what runs have kept on the disk, features and decoded images."""

from __future__ import annotations

from zoo.cache import CacheEntry, cache_folder, clear_stores, list_stores

__all__ = ["CacheEntry", "cache_folder", "clear_cache", "list_cache"]

_KINDS = ("features", "images")


def list_cache() -> list[CacheEntry]:
    """The kept features of each model and preprocessing, and the decoded images of each data set, last used first."""
    return list_stores(*_KINDS)


def clear_cache(*, max_bytes: int = 0) -> int:
    """Delete what was not used for longest first, until at most `max_bytes` are left; the bytes that were deleted.

    What a later run needs, it computes or decodes again.
    """
    return clear_stores(*_KINDS, max_bytes=max_bytes)
