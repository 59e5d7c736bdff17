"""The folder of an export: made beside its place under a hidden name, checked, then renamed. Never half-written."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from zoo.atomic_io import atomic_write, write_json
from zoo.errors import ExportError, UsageError, writing
from zoo.formats.model_card import card
from zoo.formats.spec import Subject, Usage

__all__ = ["Exported", "write_folder"]

MARK = "export.json"


@dataclass(frozen=True)
class Exported:
    """folder: where the files lie. files: (name, bytes), sorted by name. command: a shell command that loads them."""

    format: str
    folder: Path
    files: tuple[tuple[str, int], ...]
    command: str

    def to_dict(self) -> dict[str, Any]:
        return {
            "format": self.format,
            "folder": str(self.folder),
            "files": [{"name": name, "bytes": size} for name, size in self.files],
            "command": self.command,
        }


def write_folder(subject: Subject, name: str, write: Callable[[Subject, Path], Usage], target: Path) -> Exported:
    """Export `subject` in the format called `name`, which `write` makes, as the folder `target`.

    `target` may be missing, an empty folder, or a former export that holds nothing else, which is replaced when the new
    one has been written and checked. Raises UsageError if it is anything else, ExportError if writing or checking
    fails.
    """
    check_free(target)
    place = target.resolve()
    with _beside(place) as folder:
        usage = write(subject, folder)
        _write_text(folder / "labels.txt", "".join(f"{_one_line(c)}\n" for c in subject.classes))
        write_json(folder / "preprocess.json", subject.preprocess.to_dict(), ExportError)
        _write_text(folder / "README.md", card(subject, usage))
        files = sorted([*(p.name for p in folder.iterdir()), MARK])
        mark = {"made_by": "zoo export", "format": name, "run": subject.title, "files": files}
        write_json(folder / MARK, mark, ExportError)
        sizes = tuple((f, (folder / f).stat().st_size) for f in files)
        with writing(target, ExportError):
            _swap(folder, place)
    return Exported(name, target, sizes, usage.command(target))


def check_free(target: Path) -> None:
    """Raises UsageError if an export to `target` would destroy anything but a former export."""
    if not target.exists() and not target.is_symlink():
        return
    if not target.is_dir():
        raise UsageError(f"{target} is a file", "choose another --output-dir")
    here, place = Path.cwd().resolve(), target.resolve()
    if here == place or place in here.parents:
        raise UsageError(f"{target} is the current folder or holds it", "give a new folder with --output-dir")
    present = {p.name for p in target.iterdir()}
    if not present:
        return
    foreign = sorted(present - _own_files(target))
    if foreign:
        shown = ", ".join(foreign[:5]) + (", …" if len(foreign) > 5 else "")
        raise UsageError(
            f"{target} is in use: it holds {shown}, no export of zoo's", "choose another --output-dir, or empty it"
        )


def _own_files(folder: Path) -> set[str]:
    """The names that a former export lists; none if there was none."""
    try:
        mark = json.loads((folder / MARK).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return set()
    files = mark.get("files") if isinstance(mark, dict) and mark.get("made_by") == "zoo export" else None
    return {str(f) for f in files} if isinstance(files, list) else set()


@contextmanager
def _beside(place: Path) -> Iterator[Path]:
    """A new folder on the same disk as `place`; gone afterwards, unless it was renamed."""
    folder = place.with_name(f".{place.name}.{os.getpid()}.tmp")
    with writing(place, ExportError):
        place.parent.mkdir(parents=True, exist_ok=True)
        folder.mkdir()
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _swap(folder: Path, place: Path) -> None:
    """Rename `folder` to `place`. What was there comes back if that fails."""
    if not place.exists():
        folder.rename(place)
        return
    former = place.with_name(f".{place.name}.{os.getpid()}.old")
    place.rename(former)
    try:
        folder.rename(place)
    except OSError:
        former.rename(place)
        raise
    shutil.rmtree(former, ignore_errors=True)


def _one_line(name: str) -> str:
    return " ".join(name.splitlines())


def _write_text(path: Path, text: str) -> None:
    def write(temporary: Path) -> None:
        temporary.write_text(text, encoding="utf-8")

    atomic_write(path, write, ExportError)
