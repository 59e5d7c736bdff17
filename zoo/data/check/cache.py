"""Rows of files that were read before: a file in $ZOO_CACHE/check for each folder, replaced whole.

A row is found again by its file's path, size and time of change. A cache that is absent, damaged or of another version
counts as empty, and one that cannot be written costs only the time next time.
"""

from __future__ import annotations

import hashlib
import json
import os
import zipfile
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from zoo.atomic_io import replace_file
from zoo.cache import cache_folder
from zoo.console import note
from zoo.data.check.image_record import RECORD, Records

__all__ = ["Cache"]

# Another version of the rules by which a file becomes a row.
VERSION = 1


class Cache:
    """What is known of the files of one folder. `disabled`: neither read nor written."""

    def __init__(self, root: str, *, disabled: bool = False) -> None:
        name = hashlib.sha256(os.fsencode(os.path.abspath(root))).hexdigest()[:16]
        self.path: Path = cache_folder() / "check" / f"{name}.npz"
        self._disabled = disabled

    def load(self, keys: NDArray[np.uint64]) -> tuple[Records, dict[int, str]]:
        """(rows, reasons) for files of these keys (n, 2); rows[i]["key"] is 0 where nothing is known."""
        rows = np.zeros(len(keys), dtype=RECORD)
        reasons: dict[int, str] = {}
        if self._disabled:
            return rows, reasons
        try:
            with self.path.open("rb") as f, np.load(f, allow_pickle=False) as stored:
                meta = json.loads(bytes(stored["meta"]).decode())
                known = stored["rows"]
            if meta["version"] != VERSION or known.dtype != RECORD:
                return rows, reasons
            why = {int(i): str(reason) for i, reason in meta["reasons"].items()}
        except (OSError, ValueError, KeyError, AttributeError, TypeError, zipfile.BadZipFile, EOFError):
            return rows, reasons
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
        """Keep the rows that have a key, and their reasons."""
        if self._disabled:
            return
        selected = np.flatnonzero(rows["key"].any(axis=1))
        new_index = {int(i): p for p, i in enumerate(selected)} if reasons else {}
        meta = {"version": VERSION, "reasons": {new_index[i]: why for i, why in reasons.items() if i in new_index}}
        text = np.frombuffer(json.dumps(meta).encode(), dtype=np.uint8)

        def write(temporary: Path) -> None:
            with temporary.open("wb") as f:
                np.savez(f, rows=rows[selected], meta=text)

        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            replace_file(self.path, write)
        except OSError as e:
            note(f"what was read is not kept for the next time: {self.path}: {e.strerror or e}")
            self._disabled = True
