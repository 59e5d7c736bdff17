"""The fast check before each training, about two seconds: counts, names, and files with the same bytes.

Only files of the same size can be equal: their first and last 4 KB are compared, and files that agree are read in full.
Sizes that occur in both splits are compared first, to find leakage early.
"""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from zoo.arrays import Indices
from zoo.data.check.counts import class_counts, count_findings
from zoo.data.check.duplicates import NearDuplicatePairs, duplicate_findings
from zoo.data.check.findings import Finding, sort_by_severity
from zoo.data.check.folders import name_findings
from zoo.data.dataset import Data, ImageDataset, Subset
from zoo.data.decode.errors import UnreadableImage
from zoo.data.file_dataset import FileDataset
from zoo.data.listing import ListedSplit, Listing
from zoo.tasks import get_task

_END = 4096
_BLOCK = 1 << 20
_NO_PAIRS = NearDuplicatePairs(
    np.empty(0, np.int64), np.empty(0, np.int64), np.empty(0, np.uint8), np.empty(0, np.float32)
)


@dataclass(frozen=True)
class PreflightReport:
    """The result of `preflight_check`."""

    findings: tuple[Finding, ...]  # errors and warnings, most severe first
    listing: Listing  # the images that the findings refer to
    coverage: str  # a sentence on how many files were compared
    seconds: float

    def lines(self) -> list[str]:
        """One line per finding, with its first image or name."""
        lines = []
        for finding in self.findings:
            example = next(iter(finding.names), "") or next(map(self.listing.where, finding.images()), "")
            lines.append(finding.title + (f", such as {example}" if example else ""))
        return lines


def preflight_check(data: Data, *, seconds: float = 2.0) -> PreflightReport:
    """The fast part of a check. seconds: approximate maximum duration."""
    began = time.perf_counter()
    splits = (ListedSplit("training", data.train), ListedSplit("validation", data.val))
    listing = Listing(data.name, data.task, data.classes, splits)
    targets, split = listing.targets, listing.split_indices
    # If zoo made the split, both are counted together.
    auto_split = isinstance(data.train, Subset) and isinstance(data.val, Subset)
    seen = np.zeros_like(split) if auto_split else split
    counts = class_counts(targets, seen, len(data.classes), 1 if auto_split else 2, data.task)
    equal, coverage = _equal_files(listing, began + seconds)
    findings = [
        *duplicate_findings(equal, _NO_PAIRS, split, targets, data.task, is_split=True),
        *count_findings(counts, data.classes, data.task, images=int((seen == 0).sum()), is_split=not auto_split),
        *(name_findings(data.classes, ()) if get_task(data.task).has_classes else ()),
    ]
    serious = tuple(f for f in sort_by_severity(findings) if f.severity != "note")
    return PreflightReport(serious, listing, coverage, time.perf_counter() - began)


def _equal_files(listing: Listing, until: float) -> tuple[list[Indices], str]:
    """(groups of images with equal files found until the time `until`; a sentence on how many were compared)."""
    sizes = [_sizes(p.source) for p in listing.splits]
    known = [s for s in sizes if s is not None]
    if len(known) < len(sizes):
        return [], "duplicates were not checked: the images are not files"
    suspects = list(_same_size(np.concatenate(known), listing.split_indices))
    found: list[Indices] = []
    total, done = sum(map(len, suspects)), 0
    for group in suspects:
        if time.perf_counter() > until:
            break
        found += _equal(listing, group)
        done += len(group)
    compared = len(listing) - total + done
    share = "all" if compared == len(listing) else f"{compared:,} of"
    return found, f"compared {share} {len(listing):,} images for duplicates"


def _sizes(source: ImageDataset) -> NDArray[np.int64] | None:
    """Size in bytes of each image's file; None if the images are not files."""
    if isinstance(source, FileDataset):
        return source.sizes
    if isinstance(source, Subset):
        whole = _sizes(source.source)
        return None if whole is None else whole[source.indices]
    return None


def _same_size(sizes: NDArray[np.int64], split: NDArray[np.int64]) -> Iterator[Indices]:
    """Groups of images with the same file size: groups in both splits first, then small groups."""
    order = np.argsort(sizes, kind="stable")
    _, starts, counts = np.unique(sizes[order], return_index=True, return_counts=True)
    several = counts > 1
    groups = [order[s : s + n] for s, n in zip(starts[several], counts[several], strict=True)]
    yield from sorted(groups, key=lambda g: (len(np.unique(split[g])) < 2, len(g)))


def _equal(listing: Listing, group: Indices) -> list[Indices]:
    found = []
    for candidates in _by_digest(listing, group, ends_only=True):
        found += _by_digest(listing, candidates, ends_only=False)
    return found


def _by_digest(listing: Listing, group: Indices, *, ends_only: bool) -> list[Indices]:
    by_digest: dict[bytes, list[int]] = {}
    for image in map(int, group):
        try:
            digest = _digest(listing, image, ends_only=ends_only)
        except (OSError, UnreadableImage):  # removed since it was listed; training will report it
            continue
        by_digest.setdefault(digest, []).append(image)
    return [np.array(images, dtype=np.int64) for images in by_digest.values() if len(images) > 1]


def _digest(listing: Listing, image: int, *, ends_only: bool) -> bytes:
    digest = hashlib.blake2b(digest_size=16)
    split, index = listing.locate(image)
    source: ImageDataset = split.source
    while isinstance(source, Subset):
        index = int(source.indices[index])
        source = source.source
    if isinstance(source, FileDataset) and source.packed is not None:  # its end cannot be read alone
        data = source.read_file_bytes(index)
        digest.update(data[:_END] + data[max(_END, len(data) - _END) :] if ends_only else data)
        return digest.digest()
    with open(source.where(index), "rb") as f:
        if ends_only:
            digest.update(f.read(_END))
            f.seek(max(f.tell(), os.fstat(f.fileno()).st_size - _END))
            digest.update(f.read(_END))
        else:
            while block := f.read(_BLOCK):
                digest.update(block)
    return digest.digest()
