"""Read every file once before training, so that a damaged one is found in the first minute, not in the last epoch.

Up to `FULL_CHECK` files are decoded completely, and the readable ones are cached, so that the next run on the same
files starts at once. Of larger sets the header of every file is read (5 s for a million files on a local disk; Pillow
takes 36 s), and `DECODE_SAMPLE` files, evenly spaced, are decoded. A truncated file that the sample misses is found
when it is first trained on: the policy "error" stops the run with its path, "skip" drops it from its batch.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress

import numpy as np
import PIL
import tifffile
from numpy.typing import NDArray

from zoo.cache import CacheFile
from zoo.console import note
from zoo.data.dataset import BadFile, StringTable
from zoo.data.decode.errors import printable
from zoo.data.file_dataset import FileDataset, ImageFiles
from zoo.data.packed_files import StoredImages
from zoo.dist_env import cores
from zoo.errors import DataError

_VERSION = 1  # to be raised when a file is checked in another way


def file_state(path: str) -> int:
    """64 bits that change with the file; 0 if it does not exist."""
    try:
        found = os.stat(path)
    except (OSError, ValueError):
        return 0
    seen = f"{found.st_size} {found.st_mtime_ns} {found.st_ctime_ns} {found.st_ino} {path}"
    digest = hashlib.blake2b(seen.encode("utf-8", "surrogateescape"), digest_size=8).digest()
    return int.from_bytes(digest, "little")


def load_verified(root: str, channels: int | None) -> NDArray[np.uint64]:
    """(n,) `file_state` of the files below `root` that a model reading `channels` could decode."""
    found = _verified_file(root, channels).load_arrays()
    return np.empty(0, np.uint64) if found is None else np.asarray(found[0]["states"], np.uint64)


def save_verified(root: str, channels: int | None, states: NDArray[np.uint64]) -> None:
    with suppress(OSError):
        _verified_file(root, channels).save_arrays({"states": states})


def _verified_file(root: str, channels: int | None) -> CacheFile:
    path, versions = os.path.abspath(root), [_VERSION, PIL.__version__, tifffile.__version__]
    return CacheFile("verified", [path, channels], versions, os.path.basename(path), ".npz")


FULL_CHECK = 20_000  # images; ten seconds: two cores decode 1,900 JPEGs of 500x375 per second
# Images; one second. If 1% of the files are truncated, the probability that the sample misses all is 2e-9.
DECODE_SAMPLE = 2_000
_ANNOUNCE_FROM = 2_000
_MIN_CACHED_FILES = 100  # fewer are checked faster than looked up
_CHUNK = 64
_SIGNATURE_BYTES = 8
_COMMON_SIGNATURES = (b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n", b"GIF87a", b"GIF89a")


def verify_files(
    root: str, names: StringTable, packed: StoredImages | None = None, *, channels: int | None = None
) -> dict[int, str]:
    """Index -> reason of the unreadable files. channels: input channels of the model, if known."""
    files, n = ImageFiles(root, names, packed), len(names)
    if n <= FULL_CHECK:
        return _check_whole(files, channels)
    note(f"checking {n:,} image files by their first bytes, {DECODE_SAMPLE:,} of them whole, in {printable(root)} …")
    reasons = _check_all(range(n), lambda i: _check_start(files, i, channels))
    sample = [i for i in range(0, n, max(1, n // DECODE_SAMPLE)) if i not in reasons]
    return reasons | _check_all(sample, lambda i: files.check(i, decode=True, channels=channels))


def verify_dataset(source: FileDataset) -> tuple[FileDataset, list[BadFile]]:
    """(the readable images, the unreadable files)."""
    reasons = verify_files(source.root, source.names, source.packed, channels=source.channels)
    bad = [BadFile(source.where(i), why) for i, why in sorted(reasons.items())]
    return source.take(np.setdiff1d(np.arange(len(source)), list(reasons))) if reasons else source, bad


def _check_whole(files: ImageFiles, channels: int | None) -> dict[int, str]:
    """Files that were readable before and have not changed are not read again."""
    rows = range(len(files))
    if files.packed is not None:
        return _check_all(rows, lambda i: files.check(i, decode=True, channels=channels))
    states = np.array([file_state(files.where(i)) for i in rows], np.uint64)
    known = load_verified(files.root, channels)
    unknown = np.flatnonzero((states == 0) | ~np.isin(states, known)).tolist()
    if not unknown:
        return {}
    if len(unknown) >= _ANNOUNCE_FROM:
        note(f"checking {len(unknown):,} image files in {printable(files.root)} …")
    reasons = _check_all(unknown, lambda i: files.check(i, decode=True, channels=channels))
    if len(unknown) >= _MIN_CACHED_FILES:
        save_verified(files.root, channels, np.delete(states, list(reasons)))
    return reasons


def _check_all(rows: Sequence[int], check: Callable[[int], str]) -> dict[int, str]:
    def check_chunk(start: int) -> list[tuple[int, str]]:
        reasons = ((i, check(i)) for i in rows[start : start + _CHUNK])
        return [(i, reason) for i, reason in reasons if reason]

    with ThreadPoolExecutor(cores()) as pool:  # Pillow releases the GIL while it decodes
        return dict(bad for chunk in pool.map(check_chunk, range(0, len(rows), _CHUNK)) for bad in chunk)


def _check_start(files: ImageFiles, index: int, channels: int | None) -> str:
    """Opens the file only if its signature is unusual, or the model has an unusual number of channels."""
    if channels in (None, 1, 3) and files.read_header(index, _SIGNATURE_BYTES).startswith(_COMMON_SIGNATURES):
        return ""
    return files.check(index, decode=False, channels=channels)


def raise_if_any(bad: Sequence[BadFile]) -> None:
    """Raise the DataError of the policy "error" if there is any bad file; lists up to ten."""
    if not bad:
        return
    more = f"\n  … and {len(bad) - 10:,} more" if len(bad) > 10 else ""
    listed = "".join(f"\n  {printable(str(b))}" for b in bad[:10]) + more
    raise DataError(
        f"{len(bad):,} unreadable {'file' if len(bad) == 1 else 'files'}:{listed}",
        "replace or remove them, or leave them out with --set data.unreadable=skip",
    )
