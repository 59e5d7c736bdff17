"""Reading every file once before training, so that a damaged one is met in the first minute and not in the last epoch.

Up to `FULL_CHECK` files are decoded to their end; of larger sets only the headers are read (which finds empty files,
other formats and decompression bombs, but not a missing end), and a truncated file is met when it is first trained on:
under the policy "error" that stops the run with its path, under "skip" the batch does without it and the
loader reports it.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Protocol

from zoo.data.decode import check_image, shown
from zoo.data.source import BadFile
from zoo.errors import DataError
from zoo.output import note

__all__ = ["FULL_CHECK", "cores", "refuse", "verify_files"]

# Images. At the 1,900 JPEGs of 500x375 a second that two cores were measured to check, ten seconds.
FULL_CHECK = 20_000
_SAY_SO = 2_000
_CHUNK = 64


def cores() -> int:
    """The processor cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


class Names(Protocol):
    """A list of paths, or a `StringTable`."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: int, /) -> str: ...


def verify_files(root: str, names: Names) -> dict[int, str]:
    """Reasons of the unreadable files by index. Threads suffice: Pillow lets go of the lock while it decodes."""
    decode = len(names) <= FULL_CHECK
    if len(names) >= _SAY_SO:
        note(f"checking {len(names):,} image {'files' if decode else 'headers'} in {shown(root)} …")

    def check(start: int) -> list[tuple[int, str]]:
        chunk = range(start, min(start + _CHUNK, len(names)))
        reasons = ((i, check_image(os.path.join(root, names[i]), decode=decode)) for i in chunk)
        return [(i, reason) for i, reason in reasons if reason]

    with ThreadPoolExecutor(cores()) as pool:
        return dict(bad for chunk in pool.map(check, range(0, len(names), _CHUNK)) for bad in chunk)


def refuse(bad: Sequence[BadFile]) -> None:
    """Raise the DataError of the policy "error" if there is any bad file; lists up to ten."""
    if not bad:
        return
    listed = "".join(f"\n  {shown(str(b))}" for b in bad[:10]) + (
        f"\n  … and {len(bad) - 10:,} more" if len(bad) > 10 else ""
    )
    raise DataError(
        f"{len(bad):,} unreadable {'file' if len(bad) == 1 else 'files'}:{listed}",
        "replace or remove them, or leave them out with --set data.unreadable=skip",
    )
