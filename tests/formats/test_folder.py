"""The folder of an export: replaces only an earlier export, and atomically."""

from __future__ import annotations

import errno
import json
import os
from pathlib import Path

import pytest

from zoo import run as run_module
from zoo.errors import ExportError, UsageError
from zoo.formats.folder import write_folder
from zoo.formats.spec import ExportSpec, Usage
from zoo.models import build


@pytest.fixture(scope="module")
def spec() -> ExportSpec:
    model = build("test_vit", classes=2, img_size=32, weights="none")
    return ExportSpec(model, ("cat", "two\nlines"), model.preprocess, "a run", None)


def format_of(text: str):
    def write(spec: ExportSpec, folder: Path) -> Usage:
        (folder / "model.txt").write_text(text)
        return Usage("text", "print(1)", "print(folder)")

    return write


def test_a_new_folder_has_the_common_files(spec: ExportSpec, tmp_path: Path) -> None:
    done = write_folder(spec, "text", format_of("one"), tmp_path / "deep" / "out")
    names = sorted(p.name for p in (tmp_path / "deep" / "out").iterdir())
    assert names == ["README.md", "export.json", "labels.txt", "model.txt", "preprocess.json"]
    assert [name for name, _ in done.files] == names
    assert all((done.folder / name).stat().st_size == size for name, size in done.files)
    assert (done.folder / "labels.txt").read_text().splitlines() == ["cat", "two lines"]
    assert json.loads((done.folder / "preprocess.json").read_text()) == spec.preprocess.to_dict()
    assert [p.name for p in (tmp_path / "deep").iterdir()] == ["out"]


def test_an_earlier_export_is_replaced(spec: ExportSpec, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    write_folder(spec, "text", format_of("one"), tmp_path / "out")
    write_folder(spec, "text", format_of("two"), tmp_path / "out")
    assert (tmp_path / "out" / "model.txt").read_text() == "two"
    assert [p.name for p in tmp_path.iterdir()] == ["out"]


@pytest.mark.parametrize("former", [False, True])
def test_other_files_are_refused_and_not_deleted(spec: ExportSpec, tmp_path: Path, former: bool) -> None:
    out = tmp_path / "out"
    if former:
        write_folder(spec, "text", format_of("one"), out)
    else:
        out.mkdir()
    (out / "mine.txt").write_text("mine")
    with pytest.raises(UsageError, match=r"mine\.txt"):
        write_folder(spec, "text", format_of("two"), out)
    assert (out / "mine.txt").read_text() == "mine"


def test_a_file_and_the_current_folder_are_refused(
    spec: ExportSpec, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises(UsageError, match="is a file"):
        write_folder(spec, "text", format_of("one"), tmp_path / "file")
    (tmp_path / "inner").mkdir()
    monkeypatch.chdir(tmp_path / "inner")
    for here in (Path(), tmp_path):
        with pytest.raises(UsageError, match="current folder"):
            write_folder(spec, "text", format_of("one"), here)


def test_a_failed_export_leaves_the_earlier_one(spec: ExportSpec, tmp_path: Path) -> None:
    def fails(spec: ExportSpec, folder: Path) -> Usage:
        (folder / "model.txt").write_text("half")
        raise ExportError("differs")

    write_folder(spec, "text", format_of("one"), tmp_path / "out")
    with pytest.raises(ExportError):
        write_folder(spec, "text", fails, tmp_path / "out")
    assert (tmp_path / "out" / "model.txt").read_text() == "one"
    assert [p.name for p in tmp_path.iterdir()] == ["out"]


def test_a_full_disk_leaves_no_files(spec: ExportSpec, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(source: object, target: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(run_module.os, "replace", full)
    with pytest.raises(ExportError, match="no space left"):
        write_folder(spec, "text", format_of("one"), tmp_path / "out")
    assert not list(tmp_path.iterdir())
