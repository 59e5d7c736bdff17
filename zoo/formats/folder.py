"""Write the folder of an export: under a temporary name, renamed when it is complete and checked."""

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
from zoo.errors import ExportError, UsageError, translate_write_errors
from zoo.formats.model_card import render_model_card
from zoo.formats.spec import ExportSpec, Usage

MANIFEST = "export.json"


@dataclass(frozen=True)
class ExportResult:
    """A finished export.

    Args:
        format: name in `zoo.formats.FORMATS`.
        folder: folder of the files.
        files: (name, bytes), sorted by name.
        command: shell command that loads the files.
    """

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


def write_folder(spec: ExportSpec, name: str, write: Callable[[ExportSpec, Path], Usage], target: Path) -> ExportResult:
    """Export `spec` to the folder `target` in the format `name`, whose function is `write`.

    `target` may be missing, empty, or an earlier export, which is replaced after the new one is complete.

    Raises:
        UsageError: `target` contains other files.
        ExportError: writing or checking fails.
    """
    check_target(target)
    destination = target.resolve()
    with _temporary_folder(destination) as folder:
        usage = write(spec, folder)
        atomic_write(folder / "labels.txt", "".join(f"{_one_line(c)}\n" for c in spec.classes), ExportError)
        write_json(folder / "preprocess.json", spec.preprocess.to_dict(), ExportError)
        atomic_write(folder / "README.md", render_model_card(spec, usage), ExportError)
        files = sorted([*(p.name for p in folder.iterdir()), MANIFEST])
        manifest = {"made_by": "zoo export", "format": name, "run": spec.title, "files": files}
        write_json(folder / MANIFEST, manifest, ExportError)
        sizes = tuple((f, (folder / f).stat().st_size) for f in files)
        with translate_write_errors(target, ExportError):
            _swap(folder, destination)
    return ExportResult(name, target, sizes, usage.command(target))


def check_target(target: Path) -> None:
    """Raises UsageError if an export to `target` would delete anything but an earlier export."""
    if not target.exists() and not target.is_symlink():
        return
    if not target.is_dir():
        raise UsageError(f"{target} is a file", "choose another --output-dir")
    here, destination = Path.cwd().resolve(), target.resolve()
    if here == destination or destination in here.parents:
        raise UsageError(f"{target} is the current folder or contains it", "give a new folder with --output-dir")
    present = {p.name for p in target.iterdir()}
    if not present:
        return
    foreign = sorted(present - _exported_files(target))
    if foreign:
        shown = ", ".join(foreign[:5]) + (", …" if len(foreign) > 5 else "")
        raise UsageError(
            f"{target} is in use: it contains {shown}, which is not an export",
            "choose another --output-dir, or empty it",
        )


def _exported_files(folder: Path) -> set[str]:
    """The file names of an earlier export in `folder`."""
    try:
        manifest = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return set()
    files = manifest.get("files") if isinstance(manifest, dict) and manifest.get("made_by") == "zoo export" else None
    return {str(f) for f in files} if isinstance(files, list) else set()


@contextmanager
def _temporary_folder(destination: Path) -> Iterator[Path]:
    """A new folder on the same disk as `destination`; deleted at the end, unless it was renamed."""
    folder = destination.with_name(f".{destination.name}.{os.getpid()}.tmp")
    with translate_write_errors(destination, ExportError):
        destination.parent.mkdir(parents=True, exist_ok=True)
        folder.mkdir()
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _swap(folder: Path, destination: Path) -> None:
    """Rename `folder` to `destination`; restores the old `destination` if that fails."""
    if not destination.exists():
        folder.rename(destination)
        return
    previous = destination.with_name(f".{destination.name}.{os.getpid()}.old")
    destination.rename(previous)
    try:
        folder.rename(destination)
    except OSError:
        previous.rename(destination)
        raise
    shutil.rmtree(previous, ignore_errors=True)


def _one_line(name: str) -> str:
    return " ".join(name.splitlines())
