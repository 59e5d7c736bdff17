"""`zoo predict`: One line per image, formats, bad files, pipes."""

from __future__ import annotations

import csv
import io
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

Zoo = Callable[..., Any]
MakeRun = Callable[..., Any]


@pytest.fixture
def run(make_run: MakeRun) -> Path:
    return make_run("test_vit", ("cat", "a, b", "owl"), img_size=32).path


@pytest.fixture
def files(photo_folder: Path) -> list[Path]:
    return sorted((photo_folder / "china").iterdir())


def test_one_line_per_image(zoo: Zoo, run: Path, files: list[Path]) -> None:
    result = zoo("predict", run, files[0].parent)
    rows = [line.split("\t") for line in result.out.splitlines()]
    assert result.code == 0
    assert [row[0] for row in rows] == [str(f) for f in files]
    assert {row[1] for row in rows} <= {"cat", "a, b", "owl"}
    assert all(1 / 3 <= float(row[2]) <= 1 for row in rows)
    assert result.err == ""


def test_top_k_adds_pairs(zoo: Zoo, run: Path, files: list[Path]) -> None:
    (line,) = zoo("predict", run, files[0], "--top", 3).out.splitlines()
    cells = line.split("\t")
    assert len(cells) == 7
    assert sum(float(p) for p in cells[2::2]) == pytest.approx(1, abs=2e-4)
    assert float(cells[2]) >= float(cells[4]) >= float(cells[6])


def test_json_is_one_array(zoo: Zoo, run: Path, files: list[Path]) -> None:
    found = json.loads(zoo("predict", run, *files[:3], "--json", "-k", 2).out)
    assert [p["path"] for p in found] == [str(f) for f in files[:3]]
    assert all(p["label"] == p["top"][0]["label"] and len(p["top"]) == 2 for p in found)


def test_csv_has_a_header_and_quotes(zoo: Zoo, run: Path, files: list[Path]) -> None:
    rows = list(csv.DictReader(io.StringIO(zoo("predict", run, *files[:2], "--csv", "-k", 3).out)))
    assert list(rows[0]) == ["path", "label", "probability", "label_2", "probability_2", "label_3", "probability_3"]
    assert {rows[0]["label"], rows[0]["label_2"], rows[0]["label_3"]} == {"cat", "a, b", "owl"}


@pytest.fixture
def tags(make_run: MakeRun) -> Path:
    return make_run("test_vit", tuple("abcdefgh"), task="multi-label", img_size=32).path


def test_multi_label_output(zoo: Zoo, tags: Path, files: list[Path]) -> None:
    """Pairs of label and probability, best first; no label, no pair."""
    rows = [line.split("\t") for line in zoo("predict", tags, *files[:4]).out.splitlines()]
    assert [row[0] for row in rows] == [str(f) for f in files[:4]]
    for row in rows:
        shares = [float(p) for p in row[2::2]]
        assert shares == sorted(shares, reverse=True)
        assert set(row[1::2]) <= set("abcdefgh")
        assert all(p >= 0.5 for p in shares)
    assert zoo("predict", tags, files[0], "--threshold", 1).out == f"{files[0]}\n"
    (line,) = zoo("predict", tags, files[0], "--top", 5).out.splitlines()
    assert len(line.split("\t")) == 11
    found = json.loads(zoo("predict", tags, files[0], "--top", 5, "--json").out)
    assert [entry["label"] for entry in found[0]["labels"]] == line.split("\t")[1::2]


def test_multi_label_csv_has_one_line_per_label(zoo: Zoo, tags: Path, files: list[Path]) -> None:
    rows = list(csv.DictReader(io.StringIO(zoo("predict", tags, *files[:2], "--csv", "-k", 3).out)))
    assert list(rows[0]) == ["path", "label", "probability"]
    assert [row["path"] for row in rows] == [str(f) for f in files[:2] for _ in range(3)]
    (none,) = csv.DictReader(io.StringIO(zoo("predict", tags, files[0], "--csv", "--threshold", 1).out))
    assert none == {"path": str(files[0]), "label": "", "probability": ""}


def test_regression_output(zoo: Zoo, make_run: MakeRun, files: list[Path]) -> None:
    run = make_run("test_vit", ("width", "a, b"), task="regression", img_size=32).path
    rows = [line.split("\t") for line in zoo("predict", run, *files[:3]).out.splitlines()]
    assert [row[0] for row in rows] == [str(f) for f in files[:3]]
    table = list(csv.DictReader(io.StringIO(zoo("predict", run, *files[:3], "--csv").out)))
    assert list(table[0]) == ["path", "width", "a, b"]
    assert [[r["width"], r["a, b"]] for r in table] == [row[1:] for row in rows]
    found = json.loads(zoo("predict", run, *files[:3], "--json").out)
    assert [[f"{v:.6g}" for v in f["values"].values()] for f in found] == [row[1:] for row in rows]
    result = zoo("predict", run, files[0], "--top", 2)
    assert (result.code, result.out) == (2, "")


@pytest.mark.parametrize("form", [[], ["--json"], ["--csv"]])
def test_unreadable_files_are_reported_with_exit_code_3(
    zoo: Zoo, run: Path, files: list[Path], tmp_path: Path, form: list[str]
) -> None:
    (tmp_path / "zero.jpg").write_bytes(b"")
    result = zoo("predict", run, files[0], tmp_path / "zero.jpg", tmp_path / "missing.png", files[1], *form)
    assert result.code == 3
    assert str(files[0]) in result.out
    assert str(files[1]) in result.out
    assert "zero.jpg" not in result.out
    assert "zero.jpg" in result.err
    assert "missing.png" in result.err
    assert "2 files could not be read" in result.err
    if form == ["--json"]:
        assert len(json.loads(result.out)) == 2


def test_only_unreadable_files_still_give_valid_json(zoo: Zoo, run: Path) -> None:
    result = zoo("predict", run, "missing.jpg", "--json")
    assert result.code == 3
    assert json.loads(result.out) == []


def test_paths_from_stdin(zoo: Zoo, run: Path, files: list[Path], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", io.StringIO(f"{files[2]}\n\n{files[1]}\r\n"))
    out = zoo("predict", run, "-").out
    assert [line.split("\t")[0] for line in out.splitlines()] == [str(files[2]), str(files[1])]


@pytest.mark.parametrize(
    ("arguments", "code", "expected"),
    [
        (["/no/such/run", "x.jpg"], 3, "no such run"),
        (["RUN", "x.jpg", "--json", "--csv"], 2, "exclude"),
        (["RUN", "x.jpg", "--top", "0"], 2, "--top 0"),
        (["RUN", "x.jpg", "--device", "cuda:99"], 2, "cuda:99"),
    ],
)
def test_bad_input(zoo: Zoo, run: Path, arguments: list[str], code: int, expected: str) -> None:
    result = zoo("predict", *(str(run) if a == "RUN" else a for a in arguments))
    assert result.code == code
    assert expected in result.err
    assert "Traceback" not in result.err


def test_no_image(zoo: Zoo, run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", io.StringIO(""))
    result = zoo("predict", run, "-")
    assert result.code == 3
    assert "no image" in result.err


def test_a_pipe_of_bytes_that_closes_early(run: Path, files: list[Path], tmp_path: Path) -> None:
    """File names are bytes: one that is no UTF-8 comes out as it went in. The reader leaves after one line of many."""
    odd = os.fsencode(tmp_path) + b"/\xff\xfe.jpg"
    with open(odd, "wb") as f:
        f.write(files[0].read_bytes())
    program = [sys.executable, "-m", "zoo", "predict", str(run), "-", "-b", "1"]
    with subprocess.Popen(program, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdin.write((odd + b"\n") * 300)
        process.stdin.close()
        first = process.stdout.readline()
        process.stdout.close()
        result = process.stderr.read()
    assert first.split(b"\t")[0] == odd
    assert b"Traceback" not in result
    assert process.returncode != 0
