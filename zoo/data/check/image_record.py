"""The record of one image, a row of 400 bytes (100,000 images take 40 MB), and the cache of records."""

from __future__ import annotations

import os
from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from zoo.cache import CacheFile
from zoo.console import note

# key: identity of the file in the cache, 0 if there is none. content: hash of the file's bytes, or of the pixels if the
# source has no files. pixels: hash of the decoded image, 0 if not computed. phash, luma, colour: see
# `zoo.data.check.perceptual_hash`. width, height: after EXIF orientation. format, mode: Pillow's names.
RECORD = np.dtype(
    [
        ("key", "<u8", (2,)),
        ("content", "<u8", (2,)),
        ("pixels", "<u8", (2,)),
        ("phash", "<u8"),
        ("width", "<u4"),
        ("height", "<u4"),
        ("format", "S10"),
        ("mode", "S6"),
        ("flags", "<u2"),
        ("orientation", "u1"),
        ("luma", "u1", (16, 16)),
        ("colour", "i1", (4, 4, 2)),
    ]
)
Records = NDArray[np.void]

READABLE = 1  # decoded without error; without it the other fields are empty
GREY = 2  # all pixels are grey, whatever the stored mode
BLANK = 4  # a single level
TRANSPARENT = 8
HIGH_BIT_DEPTH = 16  # more than 8 bits per channel
WRONG_EXTENSION = 32  # the file extension belongs to another format
ANIMATED = 64  # several frames or pages
DETAILED = 128  # large and varied enough for its perceptual hash to be meaningful

VERSION = 1  # to be raised when a file gives another record


class RecordCache:
    """The records of the files of one folder, one file in $ZOO_CACHE/check, found by path, size and modification time.

    disabled: neither read nor written.
    """

    def __init__(self, root: str, *, disabled: bool = False) -> None:
        self._root = os.path.abspath(root)
        self._disabled = disabled

    @property
    def file(self) -> CacheFile:
        return CacheFile("check", self._root, VERSION, os.path.basename(self._root), ".npz")

    def load(self, keys: NDArray[np.uint64]) -> tuple[Records, dict[int, str]]:
        """(records, reasons) of the files with these keys (n, 2); rows[i]["key"] is 0 if there is no record."""
        rows = np.zeros(len(keys), dtype=RECORD)
        reasons: dict[int, str] = {}
        if self._disabled:
            return rows, reasons
        found = self.file.load_arrays()
        if found is None or (known := found[0]["rows"]).dtype != RECORD:
            return rows, reasons
        why = {int(i): str(reason) for i, reason in found[1].items()}
        order = np.argsort(known["key"][:, 0], kind="stable")
        indices = np.searchsorted(known["key"][order, 0], keys[:, 0])
        indices = order[np.minimum(indices, max(len(order) - 1, 0))] if len(order) else np.zeros(len(keys), np.int64)
        hit = np.zeros(len(keys), dtype=bool)
        if len(order):
            hit = (known["key"][indices] == keys).all(axis=1) & keys.any(axis=1)
        rows[hit] = known[indices[hit]]
        reasons = {int(i): why[int(indices[i])] for i in np.flatnonzero(hit) if int(indices[i]) in why}
        return rows, reasons

    def save(self, rows: Records, reasons: Mapping[int, str]) -> None:
        """Store the records that have a key, and their reasons."""
        if self._disabled:
            return
        selected = np.flatnonzero(rows["key"].any(axis=1))
        new_index = {int(i): p for p, i in enumerate(selected)} if reasons else {}
        saved_reasons = {new_index[i]: why for i, why in reasons.items() if i in new_index}
        try:
            self.file.save_arrays({"rows": rows[selected]}, saved_reasons)
        except OSError as e:
            note(f"the results are not cached: {self.file.path}: {e.strerror or e}")
            self._disabled = True
