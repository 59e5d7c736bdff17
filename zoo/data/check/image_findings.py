"""What single images are: unreadable, blank, of odd size, in another format or colour space than the rest."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import numpy as np
from numpy.typing import NDArray

from zoo.data.check import image_record as r
from zoo.data.check.findings import Finding, Severity, one_per_group, plural
from zoo.data.check.thresholds import ASPECT, FOLDER_UNREADABLE, SIZE_OUTLIER_RATIO, TINY
from zoo.data.listing import Listing
from zoo.tasks import get_task

__all__ = ["content_findings", "unreadable_findings"]


def unreadable_findings(listing: Listing, reasons: Mapping[int, str], *, skip: bool) -> Iterator[Finding]:
    """skip: the policy for unreadable files leaves them out, so that they do not stop a training."""
    n = len(reasons) + len(listing.bad)
    if n:
        yield Finding(
            "unreadable",
            "warning" if skip else "error",
            f"{plural(n, 'file')} that cannot be read",
            "replace or remove them" + ("" if skip else ", or leave them out with --set data.unreadable=skip"),
            groups=one_per_group(np.array(sorted(reasons), dtype=np.int64)),
            details=reasons,
            files=listing.bad,
        )
    if listing.links:
        yield Finding(
            "broken-links",
            "warning",
            f"{plural(len(listing.links), 'symbolic link')} that lead nowhere",
            "mend or remove them: their images are missing from the training",
            files=listing.links,
        )
    if folders := _mostly_unreadable(listing, reasons):
        yield Finding(
            "folders-unreadable",
            "warning",
            f"{plural(len(folders), 'class folder')} of which more than half cannot be read",
            "was the download or copy of it interrupted? fetch the folder again",
            names=folders,
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

    if len(blank := having(r.BLANK)):
        yield Finding(
            "blank",
            "warning",
            f"{plural(len(blank), 'image')} of one colour all over",
            "remove them, unless an empty picture is what the class means",
            groups=one_per_group(blank),
            details=_sizes(rows, blank),
        )
    yield from _odd_sizes(rows, np.flatnonzero(read))
    yield from _colours(rows, read)
    if len(misnamed := having(r.WRONG_EXTENSION)):
        yield Finding(
            "wrong-extensions",
            "note",
            f"{plural(len(misnamed), 'file')} whose ending names another format",
            "zoo goes by the contents; other programs may refuse them",
            groups=one_per_group(misnamed),
            details={int(i): f"a {rows['format'][i].decode()} file" for i in misnamed},
        )
    if len(moving := having(r.ANIMATED)):
        yield Finding(
            "multiple-frames",
            "note",
            f"{plural(len(moving), 'file')} with several frames or pages",
            "the first is used",
            groups=one_per_group(moving),
        )
    if len(turned := np.flatnonzero(read & (rows["orientation"] > 1))):
        yield Finding(
            "exif-rotated",
            "note",
            f"{plural(len(turned), 'image')} stored turned or mirrored, with EXIF orientation",
            "zoo shows them upright, in training and prediction; make sure that what serves the model does too",
            groups=one_per_group(turned),
            details={int(i): f"orientation {rows['orientation'][i]}" for i in turned},
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
    for kind, found, what, advice in (
        ("tiny", tiny, f"with a side below {TINY} pixels", "remove icons and thumbnails: enlarged, they are a blur"),
        (
            "extreme-aspect-ratios",
            long & ~tiny,
            f"more than {ASPECT:g} times as long as wide",
            "cut them, or see whether the model's crop still shows the object (zoo augment)",
        ),
        (
            "odd-sizes",
            odd & ~tiny & ~long,
            f"of a size far from the others' ({typical})",
            "look whether they belong here",
        ),
    ):
        if found.any():
            images = read[found]
            severity: Severity = "warning" if kind == "tiny" else "note"
            yield Finding(
                kind,
                severity,
                f"{plural(len(images), 'image')} {what}",
                advice,
                groups=one_per_group(images),
                details=_sizes(rows, images),
            )


def _colours(rows: r.Records, read: NDArray[np.bool_]) -> Iterator[Finding]:
    grey = read & ((rows["flags"] & r.GREY) > 0) & ((rows["flags"] & r.BLANK) == 0)
    colour = read & ((rows["flags"] & r.GREY) == 0)
    few, what = (grey, "grey") if grey.sum() <= colour.sum() else (colour, "colour")
    if few.any():
        others = "colour" if what == "grey" else "grey"
        yield _colour_finding(
            f"{what}-among-{others}",
            few,
            f"in {what} among {others} ones",
            "they become the model's channels; look that the colour does not give the class away",
        )
    for kind, found, what, advice in (
        (
            "cmyk",
            rows["mode"] == b"CMYK",
            "in CMYK",
            "converted without a colour profile: their colours may be off; save them as RGB",
        ),
        ("transparent", (rows["flags"] & r.TRANSPARENT) > 0, "with transparency", "put on white"),
        (
            "high-bit-depth",
            (rows["flags"] & r.HIGH_BIT_DEPTH) > 0,
            "with more than 8 bits a level",
            "scaled to 8 bits, see docs/pixels.md",
        ),
    ):
        if (here := read & found).any():
            yield _colour_finding(kind, here, what, advice)


def _colour_finding(kind: str, found: NDArray[np.bool_], what: str, advice: str) -> Finding:
    images = np.flatnonzero(found)
    return Finding(kind, "note", f"{plural(len(images), 'image')} {what}", advice, groups=one_per_group(images))


def _sizes(rows: r.Records, images: NDArray[np.int64]) -> dict[int, str]:
    return {int(i): f"{rows['width'][i]}x{rows['height'][i]}" for i in images}
