"""The cache of records: one file in $ZOO_CACHE/check per folder.

A record is found by the path, size and modification time of its file. A cache that is missing, damaged or of another
version counts as empty.
"""

from __future__ import annotations

import os
from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from zoo.cache import CacheFile
from zoo.console import note
from zoo.data.check.image_record import RECORD, Records

__all__ = ["Cache"]

# To be raised when a file gives another record.
VERSION = 1


class Cache:
    """The records of the files of one folder. disabled: neither read nor written."""

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
