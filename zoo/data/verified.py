"""Which files were once read to their end without fault, kept in $ZOO_CACHE/verified: they need not be read again.

A file counts as the same as long as its name, size, times of change and inode are (what Git and make go by; the time of
the last change of the inode is set by the system, not by programs). What cannot be read or written counts as none.
"""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path

import numpy as np
import PIL
import tifffile
from numpy.typing import NDArray

from zoo.catalog.user_file import cache_folder
from zoo.files import replace_file

__all__ = ["load_verified", "save_verified", "state_of"]

# Another version of what the check of a file looks at.
_VERSION = 1


def state_of(path: str) -> int:
    """64 bits that are others when the file is another; 0 if there is none."""
    try:
        found = os.stat(path)
    except (OSError, ValueError):
        return 0
    seen = f"{found.st_size} {found.st_mtime_ns} {found.st_ctime_ns} {found.st_ino} {path}"
    digest = hashlib.blake2b(seen.encode("utf-8", "surrogateescape"), digest_size=8).digest()
    return int.from_bytes(digest, "little")


def load_verified(root: str, channels: int | None) -> NDArray[np.uint64]:
    """(n,) states of the files below `root` that were found sound, for a model that reads `channels`."""
    try:
        return np.asarray(np.load(_place(root, channels), allow_pickle=False), np.uint64)
    except (OSError, ValueError, EOFError):
        return np.empty(0, np.uint64)


def save_verified(root: str, channels: int | None, states: NDArray[np.uint64]) -> None:
    path = _place(root, channels)

    def write(temporary: Path) -> None:
        with temporary.open("wb") as f:
            np.save(f, states, allow_pickle=False)

    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        replace_file(path, write)
    except OSError:
        return  # it costs only the time next time


def _place(root: str, channels: int | None) -> Path:
    key = json.dumps([_VERSION, os.path.abspath(root), channels, PIL.__version__, tifffile.__version__])
    name = hashlib.blake2b(key.encode("utf-8", "surrogateescape"), digest_size=10).hexdigest()
    return cache_folder() / "verified" / f"{name}.npy"
