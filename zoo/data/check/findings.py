"""What a check says: one `Finding` for each kind of trouble, with the images that have it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from zoo.arrays import Indices
from zoo.data.dataset import BadFile

__all__ = ["SEVERITIES", "Finding", "Severity", "one_per_group", "plural", "sort_by_severity"]

Severity = Literal["error", "warning", "note"]

# From worst to least. error: would spoil a training or its numbers, or stop it. warning: probably a mistake, look at
# it. note: known and handled; good to know.
SEVERITIES: tuple[Severity, ...] = ("error", "warning", "note")


@dataclass(frozen=True)
class Finding:
    """One kind of trouble.

    kind: a stable word for programs. title: one line with the count. advice: what to do. groups: numbers of images that
    belong together (copies of each other), or (n, 1) for images that are meant one by one. details: of single images,
    by number. names: of folders or classes, where the trouble is theirs. files: paths that are no image of the listing.
    """

    kind: str
    severity: Severity
    title: str
    advice: str
    groups: Sequence[Indices] | NDArray[np.int64] = ()
    details: Mapping[int, str] = field(default_factory=dict)
    names: tuple[str, ...] = ()
    files: tuple[BadFile, ...] = ()

    def images(self) -> Iterator[int]:
        for group in self.groups:
            yield from map(int, group)


def one_per_group(images: NDArray[np.int64]) -> NDArray[np.int64]:
    """(n, 1): each of the images for itself."""
    return np.asarray(images, dtype=np.int64).reshape(-1, 1)


def sort_by_severity(findings: Sequence[Finding]) -> tuple[Finding, ...]:
    """By severity; within one in the order given."""
    return tuple(sorted(findings, key=lambda f: SEVERITIES.index(f.severity)))


def plural(n: int, one: str, many: str = "") -> str:
    """ "1 image", "1,200 images"."""
    return f"{n:,} {one if n == 1 else many or one + 's'}"
