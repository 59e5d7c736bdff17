"""Many strings in little memory."""

from __future__ import annotations

import os
from array import array
from collections.abc import Iterable, Iterator, Sequence
from itertools import accumulate, islice

import numpy as np
from numpy.typing import NDArray

__all__ = ["StringTable"]

_BLOCK = 4096


class StringTable:
    """Many strings as one block of bytes: a million paths take their length plus 8 bytes each, and pickle at once."""

    def __init__(self, strings: Iterable[str] = ()) -> None:
        self._ends = array("q")
        self._bytes = bytearray()
        self.extend(strings)

    def append(self, string: str) -> None:
        self._bytes += os.fsencode(string)
        self._ends.append(len(self._bytes))

    def extend(self, strings: Iterable[str]) -> None:
        iterator = iter(strings)
        while block := list(islice(iterator, _BLOCK)):
            parts: Sequence[str | bytes] = block
            joined = "".join(block)
            if not joined.isascii():
                parts = [os.fsencode(string) for string in block]
            self._ends.extend(islice(accumulate(map(len, parts), initial=len(self._bytes)), 1, None))
            self._bytes += joined.encode() if parts is block else b"".join(map(os.fsencode, parts))

    def take(self, rows: NDArray[np.int64]) -> StringTable:
        """The strings at `rows`, in that order."""
        return StringTable(self[i] for i in rows.tolist())

    def blocks(self, strings: int = 8192) -> Iterator[bytes]:
        """All strings, each followed by a zero byte, so many at a time."""
        for start in range(0, len(self), strings):
            stop = min(start + strings, len(self))
            yield b"".join(os.fsencode(self[i]) + b"\0" for i in range(start, stop))

    def to_arrays(self) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
        """(the bytes, where each string ends in them), to be stored in a file."""
        return np.frombuffer(bytes(self._bytes), np.uint8), np.array(self._ends, np.int64)

    @staticmethod
    def from_arrays(data: NDArray[np.uint8], ends: NDArray[np.int64]) -> StringTable:
        table = StringTable()
        table._bytes = bytearray(data.tobytes())
        table._ends = array("q", ends.astype(np.int64).tobytes())
        return table

    def __len__(self) -> int:
        return len(self._ends)

    def __getitem__(self, index: int) -> str:
        start = self._ends[index - 1] if index else 0
        return os.fsdecode(bytes(self._bytes[start : self._ends[index]]))

    def __iter__(self) -> Iterator[str]:
        return (self[i] for i in range(len(self)))
