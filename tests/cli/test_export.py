"""`zoo export`: what it prints, where it writes, what it refuses."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

Zoo = Callable[..., Any]
MakeRun = Callable[..., Any]


@pytest.fixture
def run(make_run: MakeRun) -> Path:
    return make_run("test_vit", ("a", "b"), img_size=32).path


def test_files_and_sizes_in_a_pipe(zoo: Zoo, run: Path) -> None:
    result = zoo("export", run, "--format", "safetensors")
    assert result.code == 0
    rows = [line.split("\t") for line in result.out.splitlines()]
    assert {Path(path).name for path, _ in rows} >= {"model.safetensors", "config.json", "labels.txt", "README.md"}
    assert all(Path(path).stat().st_size == int(size) for path, size in rows)
    assert "next: python -c" in result.err


def test_json_and_another_folder(zoo: Zoo, run: Path, tmp_path: Path) -> None:
    done = json.loads(zoo("export", run, "-o", tmp_path / "out", "--json").out)
    assert done["format"] == "safetensors"
    assert Path(done["folder"]) == tmp_path / "out"
    assert {f["name"] for f in done["files"]} == {p.name for p in (tmp_path / "out").iterdir()}


@pytest.mark.parametrize(
    ("arguments", "code", "expected"),
    [
        (["/no/such/run"], 3, "no such run"),
        (["RUN", "--format", "tensorflow"], 2, "known: safetensors"),
        (["RUN", "-o", "RUN"], 2, "in use"),
        (["RUN", "-o", "."], 2, "current folder"),
        (["RUN", "-o", "RUN/run.json"], 2, "is a file"),
        (["RUN", "-o", "RUN/run.json/inside"], 6, "cannot write"),
    ],
)
def test_bad_input(zoo: Zoo, run: Path, arguments: list[str], code: int, expected: str) -> None:
    result = zoo("export", *(a.replace("RUN", str(run)) for a in arguments))
    assert result.code == code
    assert expected in result.err
    assert "Traceback" not in result.err
    assert result.out == ""


def test_a_run_without_weights(zoo: Zoo, run: Path) -> None:
    (run / "model.safetensors").unlink()
    result = zoo("export", run)
    assert result.code == 3
    assert "model.safetensors is missing" in result.err
