"""The report of a check: numbers, findings, and whether the data set is ready for training."""

from __future__ import annotations

import os
import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from zoo.data.check import image_record as r
from zoo.data.check.counts import class_counts, count_findings
from zoo.data.check.duplicates import duplicate_findings, equal_groups, near_pairs, same_pixel_candidates, unequal_pairs
from zoo.data.check.findings import SEVERITIES, Finding, plural, sort_by_severity
from zoo.data.check.folders import folder_findings, name_findings
from zoo.data.check.image_findings import content_findings, unreadable_findings
from zoo.data.check.scan_images import fill_pixel_hashes, scan_images
from zoo.data.decode.errors import printable
from zoo.data.file_dataset import FileDataset
from zoo.data.listing import Listing
from zoo.errors import DataError
from zoo.tasks import get_task


@dataclass(frozen=True)
class Report:
    """The result of `zoo check`."""

    data: str  # the source as the user wrote it
    listing: Listing  # images and labels of all splits
    rows: r.Records  # (n,) records of the images (`zoo.data.check.image_record`)
    reasons: Mapping[int, str]  # image number -> why the image cannot be read
    counts: NDArray[np.int64]  # (classes, splits) readable images per class
    findings: tuple[Finding, ...]  # most severe first
    seconds: float
    from_cache: int  # number of images whose record came from the cache

    @property
    def ok(self) -> bool:
        """True if there is no error."""
        return all(f.severity != "error" for f in self.findings)

    @property
    def verdict(self) -> str:
        """Number of findings and what to do, in one line."""
        counts = {s: sum(f.severity == s for f in self.findings) for s in SEVERITIES}
        text = ", ".join(plural(n, severity) for severity, n in counts.items() if n)
        if not text:
            return "no problems found: ready for training"
        if self.ok:
            return f"{text}. Ready for training."
        return f"{text}. Fix the {'error' if counts['error'] == 1 else 'errors'} before training."

    @property
    def exit_code(self) -> int:
        return 0 if self.ok else DataError.exit_code

    @property
    def read(self) -> NDArray[np.bool_]:
        """(n,) whether each image could be read."""
        return np.asarray((self.rows["flags"] & r.READABLE) > 0)

    def short(self, path: str) -> str:
        """`path` relative to `data`; unchanged if it is outside."""
        below = os.path.relpath(path, os.path.expanduser(self.data))
        return path if below.startswith(os.pardir) else below

    def facts(self) -> dict[str, Any]:
        """Sizes, formats and colour modes of the readable images."""
        rows = self.rows[self.read]
        facts: dict[str, Any] = {"images": len(self.rows), "readable": len(rows)}
        if not len(rows):
            return facts
        for side in ("width", "height"):
            quantiles = np.quantile(rows[side], [0, 0.05, 0.5, 0.95, 1])
            facts[side] = dict(zip(("min", "5%", "median", "95%", "max"), map(round, quantiles.tolist()), strict=True))
        for column in ("format", "mode"):
            found = Counter(value.decode() for value in rows[column].tolist())
            facts[column + "s"] = {k: n for k, n in found.most_common() if k}
        facts["grey"] = int(((rows["flags"] & r.GREY) > 0).sum())
        facts["exif_rotated"] = int((rows["orientation"] > 1).sum())
        return facts

    def to_dict(self) -> dict[str, Any]:
        """The report as JSON values; images are given by path."""
        splits = [p.name for p in self.listing.splits]
        return {
            "data": self.data,
            "ok": self.ok,
            "task": self.listing.task,
            "splits": {p.name: len(p.source) for p in self.listing.splits},
            "classes": {
                printable(name): dict(zip(splits, row.tolist(), strict=True))
                for name, row in zip(self.listing.classes, self.counts, strict=False)
            },
            "facts": self.facts(),
            "findings": [self._finding(f) for f in self.findings],
            "notes": list(self.listing.notes),
            "seconds": round(self.seconds, 3),
            "from_cache": self.from_cache,
        }

    def _finding(self, finding: Finding) -> dict[str, Any]:
        return {
            "kind": finding.kind,
            "severity": finding.severity,
            "title": finding.title,
            "advice": finding.advice,
            "names": list(finding.names),
            "groups": [[self._image(int(i), finding) for i in group] for group in finding.groups],
            "files": [{"path": printable(f.path), "detail": f.reason} for f in finding.files],
        }

    def _image(self, image: int, finding: Finding) -> dict[str, Any]:
        split, index = self.listing.locate(image)
        found = {
            "path": printable(split.source.where(index)),
            "split": split.name,
            "label": printable(self.listing.label(image)),
        }
        if detail := finding.details.get(image):
            found["detail"] = detail
        return found


def examine_data(
    data: str, listing: Listing, *, workers: int, cache: bool = True, skip_unreadable: bool = False
) -> Report:
    """Read all images of `listing` and report the findings.

    Args:
        data: the source as the user wrote it.
        listing: images and labels of all splits.
        workers: number of processes; 0 or 1: this process.
        cache: reuse the records of unchanged files, and store new ones ($ZOO_CACHE/check).
        skip_unreadable: training will skip unreadable files, so they are warnings, not errors.

    Raises:
        DataError: a worker process was killed.
    """
    began = time.perf_counter()
    sources = [p.source for p in listing.splits]
    found = scan_images(sources, workers=workers, cache=cache)
    rows, read = found.rows, (found.rows["flags"] & r.READABLE) > 0
    offset = 0
    near = near_pairs(rows)
    suspects = same_pixel_candidates(rows, near)
    for source in sources:
        here = suspects[(suspects >= offset) & (suspects < offset + len(source))] - offset
        if isinstance(source, FileDataset):
            fill_pixel_hashes(source, rows[offset : offset + len(source)], here, workers=workers, cache=cache)
        offset += len(source)
    targets, split = listing.targets, listing.split_indices
    counts = class_counts(targets[read], split[read], len(listing.classes), len(listing.splits), listing.task)
    folders = [p.folder for p in listing.splits if p.folder is not None]
    equal = equal_groups(rows)
    findings = [
        *duplicate_findings(equal, unequal_pairs(near, equal), split, targets, listing.task, is_split=listing.is_split),
        *unreadable_findings(listing, found.reasons, skip=skip_unreadable),
        *count_findings(
            counts, listing.classes, listing.task, images=int((split[read] == 0).sum()), is_split=listing.is_split
        ),
        *folder_findings(folders),
        *(name_findings(listing.classes, folders) if get_task(listing.task).has_classes else ()),
        *content_findings(rows),
    ]
    seconds = time.perf_counter() - began
    return Report(data, listing, rows, found.reasons, counts, sort_by_severity(findings), seconds, found.from_cache)
