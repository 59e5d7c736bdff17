"""Where cached files lie, which there are, and which are deleted when they take too much room."""

from __future__ import annotations

import json
import os
import shutil
import sys
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

__all__ = ["INFO_FILE", "CacheEntry", "cache_folder", "clear_stores", "list_stores", "store_dir"]


def cache_folder() -> Path:
    """Where this user's files of zoo may be kept; it need not exist."""
    if own := os.environ.get("ZOO_CACHE"):
        return Path(own).expanduser()
    if given := os.environ.get("XDG_CACHE_HOME"):
        return Path(given).expanduser() / "zoo"
    if sys.platform == "darwin":
        return Path("~/Library/Caches/zoo").expanduser()
    if sys.platform == "win32" and (local := os.environ.get("LOCALAPPDATA")):
        return Path(local) / "zoo" / "Cache"
    return Path("~/.cache/zoo").expanduser()


INFO_FILE = "info.json"


@dataclass(frozen=True)
class CacheEntry:
    """A store on the disk. last_used: when it was last, in seconds since the epoch."""

    folder: Path
    info: dict[str, Any]
    bytes: int
    last_used: float


def store_dir(kind: str = "features") -> Path:
    return cache_folder() / kind


def _inside(folder: Path) -> list[Path]:
    try:
        return list(folder.iterdir())
    except OSError:
        return []


def list_stores(*kinds: str) -> list[CacheEntry]:
    """All stores of these kinds ("features", "images"; none named: features), last used first."""
    found = []
    for folder in (p for kind in kinds or ("features",) for p in _inside(store_dir(kind)) if p.is_dir()):
        try:
            info = json.loads((folder / INFO_FILE).read_text(encoding="utf-8"))
        except (OSError, ValueError):
            info = {}
        size = 0
        for path in _inside(folder):
            with suppress(OSError):  # another run is through with it
                size += path.stat().st_size
        found.append(CacheEntry(folder, info if isinstance(info, dict) else {}, size, folder.stat().st_mtime))
    return sorted(found, key=lambda s: -s.last_used)


def clear_stores(*kinds: str, max_bytes: int = 0, exclude: Path | None = None) -> int:
    """Delete the stores that were not used for longest until at most `max_bytes` are left; the bytes that are free.

    but: a store that is in use and stays.
    """
    stores = list_stores(*kinds)
    total, freed = sum(s.bytes for s in stores), 0
    for store in reversed(stores):
        if total - freed <= max_bytes:
            break
        if store.folder != exclude:
            shutil.rmtree(store.folder, ignore_errors=True)
            freed += store.bytes
    return freed
