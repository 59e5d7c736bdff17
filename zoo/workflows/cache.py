"""`zoo cache`: the features that runs have kept on the disk."""

from __future__ import annotations

from zoo.training.stores import Stored, clear_stores, list_stores, stores_folder

__all__ = ["Stored", "clear_cache", "list_cache", "stores_folder"]


def list_cache() -> list[Stored]:
    """The kept features of each model and preprocessing, last used first."""
    return list_stores()


def clear_cache(*, keep_bytes: int = 0) -> int:
    """Delete kept features, those that were not used for longest first, until at most `keep_bytes` are left.

    The bytes that were deleted. What a later run needs, it computes again.
    """
    return clear_stores(keep_bytes=keep_bytes)
