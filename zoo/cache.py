"""Everything that zoo stores under $ZOO_CACHE: kinds, locations, atomic writes, versions, listing and eviction.

Each kind is a folder of entries. An entry is a file (`CacheFile`), or a folder with an `info.json` that describes it. A
file that is absent, damaged or of another version counts as missing: the run that needs it makes it again.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import sys
import time
from collections.abc import Collection, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from zoo.atomic_io import Contents, replace_file

if TYPE_CHECKING:
    import numpy as np


@dataclass(frozen=True)
class CacheKind:
    """A folder under $ZOO_CACHE. holds: description for users. max_bytes: limit for all entries together; the least
    recently used ones are deleted first; None: no limit.
    """

    holds: str
    max_bytes: int | None = None


CACHES: dict[str, CacheKind] = {
    "features": CacheKind("outputs of the frozen layers", 20 << 30),
    "images": CacheKind("decoded images", 10 << 30),
    "unpacked": CacheKind("tar files unpacked from compressed ones"),
    "torchvision": CacheKind("data sets that torchvision has downloaded"),
    "archives": CacheKind("lists of the members of large tar files", 1 << 30),
    "weights": CacheKind("weights converted from installed packages", 1 << 30),
    "check": CacheKind("results of `zoo check` per file", 4 << 30),
    "verified": CacheKind("lists of the image files that were decoded without an error", 1 << 30),
    "timings": CacheKind("measured speeds: precision, compilation, threads, workers, caches", 64 << 20),
    "catalog": CacheKind("model index of the installed timm and torchvision", 64 << 20),
}
UNKNOWN = "unknown"  # kind of the entries that zoo did not write
INFO_FILE = "info.json"

_MAX_FREE_SHARE = 0.5  # of the free disk space
_STALE_SECONDS = 3600  # an unfinished file of this age belongs to no process that still writes
_MAX_LABEL = 60


def cache_folder() -> Path:
    """The folder of all caches of this user; it may not exist yet."""
    if own := os.environ.get("ZOO_CACHE"):
        return Path(own).expanduser()
    if given := os.environ.get("XDG_CACHE_HOME"):
        return Path(given).expanduser() / "zoo"
    if sys.platform == "darwin":
        return Path("~/Library/Caches/zoo").expanduser()
    if sys.platform == "win32" and (local := os.environ.get("LOCALAPPDATA")):
        return Path(local) / "zoo" / "Cache"
    return Path("~/.cache/zoo").expanduser()


def kind_folder(kind: str) -> Path:
    """The folder of the entries of `kind`, a name in CACHES; it may not exist yet."""
    return cache_folder() / kind


# --- writing and reading ---------------------------------------------------------------------------------------------


def save_file(path: Path, contents: Contents) -> None:
    """Write the file `path` in a `kind_folder` atomically, then evict others of its kind. Raises OSError."""
    path.parent.mkdir(parents=True, exist_ok=True)
    replace_file(path, contents)
    evict(path.parent.name, exclude=path)


def save_info(folder: Path, info: Mapping[str, Any]) -> None:
    """Make the entry `folder`, with `info` (JSON-able) as its description for users. Raises OSError."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / INFO_FILE
    if not path.exists():
        replace_file(path, json.dumps(info, indent=2) + "\n")


def touch(path: Path) -> None:
    """Mark an entry as used now. The modification time of a file stays: it may be part of a key."""
    with suppress(OSError):
        info = path.stat()
        os.utime(path, None if path.is_dir() else (time.time(), info.st_mtime))


@dataclass(frozen=True)
class CacheFile:
    """A file in the cache, found by its key.

    Args:
        kind: name in CACHES.
        key: JSON-able value that identifies the contents. A file of the same key is replaced.
        version: JSON-able value that must be equal when the file is read, such as the versions of the libraries.
        label: readable start of the file name.
        suffix: end of the file name.
    """

    kind: str
    key: Any
    version: Any = None
    label: str = ""
    suffix: str = ".json"
    path: Path = field(init=False)

    def __post_init__(self) -> None:
        import hashlib  # not needed by the commands that must start fast

        digest = hashlib.blake2b(json.dumps(self.key, sort_keys=True).encode(), digest_size=10).hexdigest()
        label = re.sub(r"[^A-Za-z0-9._-]", "_", self.label)[:_MAX_LABEL]
        path = kind_folder(self.kind) / f"{label}{'-' if label else ''}{digest}{self.suffix}"
        object.__setattr__(self, "path", path)

    def load_json(self) -> Any:
        """The value that was saved; None if it is missing, damaged or of another version."""
        try:
            value = self._value(json.loads(self.path.read_text(encoding="utf-8")))
        except (OSError, ValueError, KeyError, TypeError):
            return None
        touch(self.path)
        return value

    def save_json(self, value: Any) -> None:
        """Save a JSON-able value. Raises OSError."""
        save_file(self.path, json.dumps(self._document(value), indent=2) + "\n")

    def load_arrays(self) -> tuple[dict[str, np.ndarray[Any, Any]], Any] | None:
        """The arrays by name and the JSON-able value that were saved; None as for `load_json`."""
        import tokenize
        import zipfile

        import numpy as np

        # RuntimeError: a zip header claims encryption or an unknown compression; TokenError: an array has no header
        damaged = (RuntimeError, tokenize.TokenError, zipfile.BadZipFile)
        try:
            with self.path.open("rb") as f, np.load(f, allow_pickle=False) as stored:
                value = self._value(json.loads(bytes(stored["_document"])))
                arrays = {name: stored[name] for name in stored.files if name != "_document"}
        except (OSError, ValueError, KeyError, TypeError, AttributeError, EOFError, *damaged):
            return None
        touch(self.path)
        return arrays, value

    def save_arrays(self, arrays: Mapping[str, np.ndarray[Any, Any]], value: Any = None) -> None:
        """Save arrays by name, and a JSON-able value. Raises OSError."""
        import numpy as np

        text = np.frombuffer(json.dumps(self._document(value)).encode(), np.uint8)
        members: dict[str, Any] = {"_document": text, **arrays}

        def write(temporary: Path) -> None:
            with temporary.open("wb") as f:
                np.savez(f, **members)

        save_file(self.path, write)

    def _document(self, value: Any) -> dict[str, Any]:
        return {"key": self.key, "version": self.version, "value": value}

    def _value(self, document: Any) -> Any:
        """Raises KeyError or TypeError if `document` is not one of this key and version."""
        expected = json.loads(json.dumps([self.key, self.version]))
        if [document["key"], document["version"]] != expected:
            raise KeyError(self.path)
        return document["value"]


# --- listing and eviction --------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class CacheEntry:
    """A file or folder. kind: name in CACHES, or UNKNOWN. last_used: seconds since the epoch. info: description of the
    contents from `info.json`; empty for files.
    """

    kind: str
    path: Path
    bytes: int
    last_used: float
    info: Mapping[str, Any] = field(default_factory=dict)


def list_entries(*kinds: str) -> list[CacheEntry]:
    """All entries of `kinds`, or all that lie in the cache folder, most recently used first."""
    found = []
    for kind in kinds or (*CACHES, UNKNOWN):
        if kind == UNKNOWN:
            paths = [path for path in _children(cache_folder()) if path.name not in CACHES]
        else:
            paths = _children(kind_folder(kind))
        for path in paths:
            with suppress(OSError):  # another process has deleted it
                found.append(_describe(kind, path))
    return sorted(found, key=lambda entry: -entry.last_used)


def _describe(kind: str, path: Path) -> CacheEntry:
    stat = path.lstat()
    if path.is_symlink() or not path.is_dir():
        return CacheEntry(kind, path, stat.st_size, max(stat.st_atime, stat.st_mtime))
    info: Any = None
    with suppress(OSError, ValueError):
        info = json.loads((path / INFO_FILE).read_text(encoding="utf-8"))
    return CacheEntry(kind, path, _folder_bytes(path), stat.st_mtime, info if isinstance(info, dict) else {})


def _folder_bytes(folder: Path) -> int:
    total = 0
    for parent, _, names in os.walk(folder):
        for name in names:
            with suppress(OSError):
                total += os.lstat(os.path.join(parent, name)).st_size
    return total


def _children(folder: Path) -> list[Path]:
    try:
        return list(folder.iterdir())
    except OSError:
        return []


def evict(kind: str, *, exclude: Path | None = None) -> None:
    """Delete the least recently used entries of `kind` over its limit. exclude: entry that is in use and must stay."""
    delete_stale(kind_folder(kind))
    limit = CACHES[kind].max_bytes
    if limit is not None:
        entries = [entry for entry in list_entries(kind) if entry.path.suffix != ".tmp"]
        _delete_oldest(entries, limit, () if exclude is None else (exclude,))


def delete_stale(folder: Path) -> None:
    """Delete the unfinished files that a killed process has left in `folder`."""
    for path in _children(folder):
        with suppress(OSError):
            if path.suffix == ".tmp" and time.time() - path.stat().st_mtime > _STALE_SECONDS:
                path.unlink()


def clear(*kinds: str, max_bytes: int = 0, exclude: Collection[Path] = ()) -> int:
    """Delete the least recently used entries of `kinds` (none: of all) until at most `max_bytes` are left.

    Unknown files always stay, and so do the entries `exclude`. Returns the number of deleted bytes.
    """
    kinds = kinds or tuple(CACHES)
    freed = _delete_oldest(list_entries(*kinds), max_bytes, exclude)
    for kind in kinds:
        with suppress(OSError):  # not empty
            kind_folder(kind).rmdir()
    return freed


def _delete_oldest(entries: Sequence[CacheEntry], max_bytes: int, exclude: Collection[Path]) -> int:
    total, freed = sum(entry.bytes for entry in entries), 0
    for entry in reversed(entries):
        if max_bytes and total - freed <= max_bytes:
            break
        if entry.path not in exclude:
            freed += _delete(entry)
    return freed


def _delete(entry: CacheEntry) -> int:
    if entry.path.is_dir() and not entry.path.is_symlink():
        shutil.rmtree(entry.path, ignore_errors=True)
    else:
        with suppress(OSError):
            entry.path.unlink()
    return 0 if entry.path.exists() else entry.bytes


def free_bytes(kind: str) -> int:
    """Bytes that the entries of `kind` may take: its limit, and at most half of the free disk space."""
    folder = kind_folder(kind)
    while not folder.exists():
        folder = folder.parent
    free = int(_MAX_FREE_SHARE * shutil.disk_usage(folder).free)
    limit = CACHES[kind].max_bytes
    return free if limit is None else min(limit, free)
