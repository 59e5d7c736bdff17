"""`zoo evaluate` in a pipe, as JSON and on a terminal."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

Zoo = Callable[..., Any]
MakeRun = Callable[..., Any]


@pytest.fixture
def run(make_run: MakeRun, photo_folder: Path) -> Any:
    return make_run("test_vit", ("china", "flower"), img_size=32, data={"source": str(photo_folder)})


@pytest.fixture
def held_out(photo_folder: Path) -> int:
    """Images of the validation part that the run's rule sets aside."""
    from zoo.data import open_data

    return len(open_data(str(photo_folder)).val)


def test_tab_separated_in_a_pipe(zoo: Zoo, run: Any, held_out: int) -> None:
    said = zoo("evaluate", run.path)
    assert said.code == 0
    rows = [line.split("\t") for line in said.out.splitlines()]
    summary = {row[0]: float(row[1]) for row in rows if len(row) == 2}
    assert list(summary) == ["images", "top1", "top5", "loss", "ece", "balanced_accuracy", "macro_f1"]
    classes = [row for row in rows if row[0] == "class"]
    assert [row[1] for row in classes] == ["china", "flower"]
    assert {len(row) for row in classes} == {6}
    assert sum(int(row[2]) for row in classes) == summary["images"] == held_out
    assert "confusion.png" in said.err
    assert "next: zoo export" in said.err


def test_json_alone_on_stdout(zoo: Zoo, run: Any, held_out: int) -> None:
    found = json.loads(zoo("evaluate", run.path, "--json").out)
    assert found == json.loads((run.path / "evaluation.json").read_text())
    assert found["images"] == held_out
    assert len(found["confusion"]) == 2


def test_a_table_for_a_person(zoo: Zoo, run: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    from zoo import output

    monkeypatch.setattr(output, "is_terminal", lambda stream: stream is sys.stdout)
    monkeypatch.setenv("COLUMNS", "100")
    said = zoo("evaluate", run.path)
    assert "most often taken for" in said.out
    assert "calibration error" in said.out
    lines = [line.split() for line in said.out.splitlines() if line.startswith((" china", " flower"))]
    f1 = [float(next(cell for cell in reversed(line[:5]) if cell.endswith("%")).rstrip("%")) for line in lines]
    assert len(f1) == 2
    assert f1 == sorted(f1, reverse=True), "the worst class comes last"


def test_other_data(zoo: Zoo, run: Any, photo_folder: Path) -> None:
    said = zoo("evaluate", run.path, "--data", photo_folder, "-b", 7, "-j", 0, "--device", "cpu")
    assert said.code == 0
    assert said.out.startswith("images\t24\n")
    assert list(run.path.glob("evaluation-*/evaluation.json"))


@pytest.mark.parametrize(
    ("arguments", "code", "says"),
    [
        (["/no/such/run"], 3, "no such run"),
        (["RUN", "--data", "/no/such/data"], 3, "/no/such/data"),
        (["RUN", "--workers", "many"], 2, "--workers 'many'"),
        (["RUN", "--batch-size", "0"], 2, "--batch-size 0"),
        (["RUN", "--device", "tpu"], 2, "tpu"),
    ],
)
def test_bad_input(zoo: Zoo, run: Any, arguments: list[str], code: int, says: str) -> None:
    said = zoo("evaluate", *(str(run.path) if a == "RUN" else a for a in arguments))
    assert said.code == code
    assert says in said.err
    assert "Traceback" not in said.err
    assert said.out == ""


def test_numbers_are_printed_even_if_they_cannot_be_saved(zoo: Zoo, run: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    import errno
    import os

    from zoo import run as run_module

    def full(source: object, target: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(run_module.os, "replace", full)
    said = zoo("evaluate", run.path)
    assert said.code == 5
    assert said.out.startswith("images\t")
    assert "class\tflower" in said.out
    assert "no space left" in said.err
