"""The findings of a check: one `Finding` per kind of problem, with its images."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from zoo.arrays import Indices
from zoo.data.dataset import BadFile
from zoo.data.decode.errors import printable

Severity = Literal["error", "warning", "note"]

# Most severe first. error: it makes training or its metrics wrong, or stops training. warning: probably a mistake.
# note: zoo handles it.
SEVERITIES: tuple[Severity, ...] = ("error", "warning", "note")


@dataclass(frozen=True)
class Finding:
    """One kind of problem."""

    kind: str  # stable identifier for programs
    severity: Severity  # "error", "warning" or "note"
    title: str  # one line with the count
    advice: str
    # groups of image numbers (duplicates of each other), or (n, 1) for single images
    groups: Sequence[Indices] | NDArray[np.int64] = ()
    details: Mapping[int, str] = field(default_factory=dict)  # image number -> detail
    names: tuple[str, ...] = ()  # folders or classes with the problem
    files: tuple[BadFile, ...] = ()  # files that are not in the listing

    def images(self) -> Iterator[int]:
        for group in self.groups:
            yield from map(int, group)


def one_per_group(images: NDArray[np.int64]) -> NDArray[np.int64]:
    """(n, 1): one group per image."""
    return np.asarray(images, dtype=np.int64).reshape(-1, 1)


def sort_by_severity(findings: Sequence[Finding]) -> tuple[Finding, ...]:
    """Sorted by severity; stable."""
    return tuple(sorted(findings, key=lambda f: SEVERITIES.index(f.severity)))


def plural(n: int, noun: str) -> str:
    """ "1 image", "1,200 images", "3 classes"."""
    return f"{n:,} {noun if n == 1 else noun + ('es' if noun.endswith('s') else 's')}"


def named_finding(
    kind: str, severity: Severity, names: Sequence[str], noun: str, what: str, advice: str
) -> Iterator[Finding]:
    """A finding with the title "3 folders WHAT" if there are any names; noun: "folder"."""
    if names:
        title = f"{plural(len(names), noun)} {what}"
        yield Finding(kind, severity, title, advice, names=tuple(map(printable, names)))


def image_finding(
    kind: str, severity: Severity, images: Indices, title: str, advice: str, details: Mapping[int, str] | None = None
) -> Iterator[Finding]:
    """A finding on single images if there are any; "{}" in the title: "3 images"."""
    if len(images):
        text = title.format(plural(len(images), "image"))
        yield Finding(kind, severity, text, advice, groups=one_per_group(images), details=details or {})
