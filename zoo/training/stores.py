"""The stores of features on the disk: which there are, and which go when they are too many. Imports no torch."""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from zoo.catalog.user_file import cache_folder

__all__ = ["INFO", "Stored", "clear_stores", "list_stores", "stores_folder"]

INFO = "info.json"


@dataclass(frozen=True)
class Stored:
    """A store on the disk. used: when it was last, in seconds since the epoch."""

    folder: Path
    info: dict[str, Any]
    bytes: int
    used: float


def stores_folder() -> Path:
    return cache_folder() / "features"


def list_stores() -> list[Stored]:
    """All stores, last used first."""
    found = []
    try:
        folders = [p for p in stores_folder().iterdir() if p.is_dir()]
    except OSError:
        return []
    for folder in folders:
        try:
            info = json.loads((folder / INFO).read_text(encoding="utf-8"))
        except (OSError, ValueError):
            info = {}
        size = sum(p.stat().st_size for p in folder.iterdir() if p.is_file())
        found.append(Stored(folder, info if isinstance(info, dict) else {}, size, folder.stat().st_mtime))
    return sorted(found, key=lambda s: -s.used)


def clear_stores(*, keep_bytes: int = 0, but: Path | None = None) -> int:
    """Delete the stores that were not used for longest until at most `keep_bytes` are left; the bytes that are free.

    but: a store that is in use and stays.
    """
    stores = list_stores()
    total, freed = sum(s.bytes for s in stores), 0
    for store in reversed(stores):
        if total - freed <= keep_bytes:
            break
        if store.folder != but:
            shutil.rmtree(store.folder, ignore_errors=True)
            freed += store.bytes
    return freed
