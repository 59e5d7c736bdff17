"""The HTML page of `zoo check`: one file without scripts or external resources, with thumbnails of the findings."""

from __future__ import annotations

import base64
import io
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from zoo.atomic_io import atomic_write
from zoo.augment.view import View, to_pil
from zoo.data.check import THRESHOLDS, Finding, Report
from zoo.data.decode.errors import UnreadableImage, printable
from zoo.tasks import get_task

# Limits that keep the page below about 4 MB.
_MAX_GROUPS = 24  # per finding
_MAX_PER_GROUP = 6
_MAX_THUMBNAILS = 500  # in total
_MAX_LINES = 100  # names and paths per finding
_MAX_CLASSES = 100
_THUMBNAIL_SIDE = 152
_JPEG_QUALITY = 72


def write_page(report: Report, path: Path) -> None:
    """Write the page to `path`, atomically. Raises TrainingError if it cannot be written."""
    from jinja2 import Environment, StrictUndefined

    text = files("zoo.reports").joinpath("check_page.html").read_text(encoding="utf-8")
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    atomic_write(path, environment.from_string(text).render(page=_page(report)))


@dataclass(frozen=True)
class _Thumbnail(View):
    """The whole image, reduced to fit a square of `_THUMBNAIL_SIDE`."""

    def min_size(self, height: int, width: int) -> tuple[int, int]:
        scale = min(1.0, _THUMBNAIL_SIDE / max(height, width))
        return max(1, round(height * scale)), max(1, round(width * scale))

    def cut(self, image: Image.Image, height: int, width: int, plane: int = 0) -> Image.Image:
        h, w = self.min_size(height, width)
        return image.resize((w, h), Image.Resampling.BICUBIC, reducing_gap=2.0)


def _page(report: Report) -> dict[str, Any]:
    listing = report.listing
    more_classes = len(report.counts) - _MAX_CLASSES
    return {
        "title": f"zoo check: {printable(report.data)}",
        "subtitle": f"{len(listing):,} images, {listing.task}",
        "tone": report.findings[0].severity if report.findings else "fine",
        "verdict": report.verdict,
        "facts": list(_facts(report)),
        "unit": get_task(listing.task).output,
        "splits": [p.name for p in listing.splits],
        "classes": _classes(report),
        "more_classes": f"and {more_classes:,} more in between" if more_classes > 0 else "",
        "findings": list(_sections(report)),
        "thresholds": THRESHOLDS,
    }


def _facts(report: Report) -> Iterator[tuple[str, str]]:
    facts = report.facts()
    yield "images", ", ".join(f"{len(p.source):,} {p.name}" for p in report.listing.splits)
    yield "readable", f"{facts['readable']:,}"
    for side in ("width", "height"):
        if side in facts:
            yield side, ", ".join(f"{name} {value:,}" for name, value in facts[side].items())
    for key in ("formats", "modes"):
        if facts.get(key):
            yield key, ", ".join(f"{name} {n:,}" for name, n in facts[key].items())
    yield "task", get_task(report.listing.task).name
    for note in report.listing.notes:
        yield "note", printable(note)


def _classes(report: Report) -> list[dict[str, Any]]:
    """The classes by number of images; of too many, those with the most and the fewest."""
    total = report.counts.sum(axis=1)
    order = list(map(int, total.argsort(kind="stable")[::-1]))
    if len(order) > _MAX_CLASSES:
        order = order[: _MAX_CLASSES // 2] + order[-_MAX_CLASSES // 2 :]
    most = max(int(total.max()), 1) if len(total) else 1
    return [
        {
            "name": printable(report.listing.classes[k]),
            "counts": report.counts[k].tolist(),
            "widths": [f"{100 * n / most:.2f}" for n in report.counts[k].tolist()],
        }
        for k in order
    ]


def _sections(report: Report) -> Iterator[dict[str, Any]]:
    left = _MAX_THUMBNAILS
    for finding in report.findings:
        names = list(finding.names[:_MAX_LINES])
        files_shown = [_file_line(report, f.path, f.reason) for f in finding.files[:_MAX_LINES]]
        groups = []
        if finding.kind == "unreadable":
            for image in list(finding.images())[: _MAX_LINES - len(files_shown)]:
                files_shown.append(_file_line(report, report.listing.where(image), finding.details[image]))
        else:
            groups = [_group(report, finding, group) for group in finding.groups[: min(_MAX_GROUPS, left)]]
            left -= sum(len(group["images"]) for group in groups)
        rest = len(finding.names) + len(finding.files) + len(finding.groups)
        rest -= len(names) + len(files_shown) + len(groups)
        more = f"… and {rest:,} more: zoo check --json lists all" if rest > 0 else ""
        own = {key: getattr(finding, key) for key in ("kind", "severity", "title", "advice")}
        yield {**own, "names": names, "files": files_shown, "groups": groups, "more": more}


def _file_line(report: Report, path: str, detail: str) -> dict[str, str]:
    return {"path": printable(report.short(path)), "detail": detail}


def _group(report: Report, finding: Finding, group: NDArray[np.int64]) -> dict[str, Any]:
    images = [_image(report, finding, int(i)) for i in _choose_images(report, group)]
    rest = len(group) - len(images)
    return {"images": images, "more": f"and {rest:,} more" if rest else "", "several": len(group) > 1}


def _choose_images(report: Report, group: NDArray[np.int64]) -> list[int]:
    """The first images of a group, with at least one of each split in it."""
    split = report.listing.split_indices
    chosen = [int(i) for i in group[:_MAX_PER_GROUP]]
    other = next((int(i) for i in group if split[int(i)] != split[chosen[0]]), None)
    if other is not None and other not in chosen:
        chosen[-1] = other
    return chosen


def _image(report: Report, finding: Finding, image: int) -> dict[str, Any]:
    split, index = report.listing.locate(image)
    row = report.rows[image]
    try:
        data = _data_uri(to_pil(split.source.read(index, lambda height, width: _Thumbnail())))
    except UnreadableImage:  # the file has changed since it was checked
        data = ""
    return {
        "data": data,
        "path": printable(report.short(split.source.where(index))),
        "label": printable(report.listing.label(image)),
        "split": split.name if report.listing.is_split else "",
        "detail": finding.details.get(image, "") or f"{row['width']}x{row['height']}",
        "small": max(int(row["width"]), int(row["height"])) < _THUMBNAIL_SIDE // 2,
    }


def _data_uri(image: Image.Image) -> str:
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=_JPEG_QUALITY)
    return "data:image/jpeg;base64," + base64.b64encode(buffer.getvalue()).decode()
