"""Findings on single images: unreadable, blank, unusual size, unusual format or colour mode."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import numpy as np
from numpy.typing import NDArray

from zoo.data.check import image_record as r
from zoo.data.check.findings import Finding, Severity, image_finding, named_finding, one_per_group, plural
from zoo.data.check.thresholds import ASPECT, FOLDER_UNREADABLE, SIZE_OUTLIER_RATIO, TINY
from zoo.data.listing import Listing
from zoo.tasks import get_task


def unreadable_findings(listing: Listing, reasons: Mapping[int, str], *, skip: bool) -> Iterator[Finding]:
    """skip: training skips unreadable files, so they are warnings."""
    n = len(reasons) + len(listing.bad)
    if n:
        yield Finding(
            "unreadable",
            "warning" if skip else "error",
            f"{plural(n, 'unreadable file')}",
            "replace or remove them" + ("" if skip else ", or skip them with --set data.unreadable=skip"),
            groups=one_per_group(np.array(sorted(reasons), dtype=np.int64)),
            details=reasons,
            files=listing.bad,
        )
    if listing.links:
        yield Finding(
            "broken-links",
            "warning",
            f"{plural(len(listing.links), 'broken symbolic link')}",
            "fix or remove them: their images are missing in training",
            files=listing.links,
        )
    yield from named_finding(
        "folders-unreadable",
        "warning",
        _mostly_unreadable(listing, reasons),
        "class folder",
        "with more than half of the files unreadable",
        "download or copy the folder again; the transfer may have been interrupted",
    )


def _mostly_unreadable(listing: Listing, reasons: Mapping[int, str]) -> tuple[str, ...]:
    if not get_task(listing.task).has_one_class_per_image:
        return ()
    bad = np.zeros(len(listing), dtype=bool)
    bad[list(reasons)] = True
    targets, split = listing.targets, listing.split_indices
    found = []
    for p, named in enumerate(listing.splits):
        for k, name in enumerate(listing.classes):
            here = (split == p) & (targets == k)
            lost = int(bad[here].sum()) + listing.lost[named.name, name]
            total = int(here.sum()) + listing.lost[named.name, name]
            if total and lost / total > FOLDER_UNREADABLE:
                found.append(f"{name} ({named.name}: {lost:,} of {total:,})")
    return tuple(found)


def content_findings(rows: r.Records) -> Iterator[Finding]:
    read = (rows["flags"] & r.READABLE) > 0

    def having(flag: int) -> NDArray[np.int64]:
        return np.flatnonzero(read & ((rows["flags"] & flag) > 0))

    blank, misnamed = having(r.BLANK), having(r.WRONG_EXTENSION)
    rotated = np.flatnonzero(read & (rows["orientation"] > 1))
    yield from image_finding(
        "blank",
        "warning",
        blank,
        "{} of a single colour",
        "remove them, unless the class means empty images",
        _sizes(rows, blank),
    )
    yield from _odd_sizes(rows, np.flatnonzero(read))
    yield from _colours(rows, read)
    yield from image_finding(
        "wrong-extensions",
        "note",
        misnamed,
        "{} with the extension of another format",
        "zoo detects the format from the contents; other programs may fail",
        {int(i): f"a {rows['format'][i].decode()} file" for i in misnamed},
    )
    yield from image_finding(
        "multiple-frames", "note", having(r.ANIMATED), "{} with several frames or pages", "zoo uses the first"
    )
    yield from image_finding(
        "exif-rotated",
        "note",
        rotated,
        "{} rotated or flipped by EXIF orientation",
        "zoo applies the orientation; make sure that the program that serves the model does too",
        {int(i): f"orientation {rows['orientation'][i]}" for i in rotated},
    )


def _odd_sizes(rows: r.Records, read: NDArray[np.int64]) -> Iterator[Finding]:
    if not len(read):
        return
    width, height = rows["width"][read].astype(float), rows["height"][read].astype(float)
    short, shape = np.minimum(width, height), np.maximum(width, height) / np.minimum(width, height)
    side = np.sqrt(width * height)
    tiny = (short < TINY) & (short < np.median(short) / 2)
    long = (shape >= ASPECT) & (shape >= 2 * np.median(shape))
    odd = (side >= SIZE_OUTLIER_RATIO * np.median(side)) | (side <= np.median(side) / SIZE_OUTLIER_RATIO)
    typical = f"{np.median(width):.0f}x{np.median(height):.0f}"
    for kind, found, title, advice in (
        ("tiny", tiny, f"{{}} with a side below {TINY} pixels", "remove icons and thumbnails: they get blurred"),
        (
            "extreme-aspect-ratios",
            long & ~tiny,
            f"{{}} with an aspect ratio above {ASPECT:g}",
            "crop them, or check with zoo augment that the model's crop shows the object",
        ),
        (
            "odd-sizes",
            odd & ~tiny & ~long,
            f"{{}} of unusual size (typical: {typical})",
            "check that they belong to the data set",
        ),
    ):
        severity: Severity = "warning" if kind == "tiny" else "note"
        yield from image_finding(kind, severity, read[found], title, advice, _sizes(rows, read[found]))


def _colours(rows: r.Records, read: NDArray[np.bool_]) -> Iterator[Finding]:
    grey = read & ((rows["flags"] & r.GREY) > 0) & ((rows["flags"] & r.BLANK) == 0)
    colour = read & ((rows["flags"] & r.GREY) == 0)
    minority, what, others = (grey, "grey", "colour") if grey.sum() <= colour.sum() else (colour, "colour", "grey")
    for kind, found, title, advice in (
        (
            f"{what}-among-{others}",
            minority,
            f"{{}} in {what}, the others in {others}",
            "all are converted to the model's channels; check that the colour does not reveal the class",
        ),
        (
            "cmyk",
            rows["mode"] == b"CMYK",
            "{} in CMYK",
            "converted without a colour profile, so colours may be wrong; save them as RGB",
        ),
        ("transparent", (rows["flags"] & r.TRANSPARENT) > 0, "{} with transparency", "zoo uses a white background"),
        (
            "high-bit-depth",
            (rows["flags"] & r.HIGH_BIT_DEPTH) > 0,
            "{} with more than 8 bits per channel",
            "zoo scales them to 8 bits, see docs/pixels.md",
        ),
    ):
        yield from image_finding(kind, "note", np.flatnonzero(read & found), title, advice)


def _sizes(rows: r.Records, images: NDArray[np.int64]) -> dict[int, str]:
    return {int(i): f"{rows['width'][i]}x{rows['height'][i]}" for i in images}
