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
    from zoo.data import data_config, open_data

    return len(open_data(data_config(str(photo_folder))).val)


def test_tab_separated_in_a_pipe(zoo: Zoo, run: Any, held_out: int) -> None:
    result = zoo("evaluate", run.path)
    assert result.code == 0
    rows = [line.split("\t") for line in result.out.splitlines()]
    summary = {row[0]: float(row[1]) for row in rows if len(row) == 2}
    assert list(summary) == ["images", "top1", "top5", "loss", "ece", "balanced_accuracy", "macro_f1"]
    classes = [row for row in rows if row[0] == "class"]
    assert [row[1] for row in classes] == ["china", "flower"]
    assert {len(row) for row in classes} == {6}
    assert sum(int(row[2]) for row in classes) == summary["images"] == held_out
    assert "confusion.png" in result.err
    assert "next: zoo export" in result.err


def test_json_is_the_only_output_on_stdout(zoo: Zoo, run: Any, held_out: int) -> None:
    found = json.loads(zoo("evaluate", run.path, "--json").out)
    assert found == json.loads((run.path / "evaluation.json").read_text())
    assert found["images"] == held_out
    assert len(found["confusion"]) == 2


def test_terminal_table(zoo: Zoo, run: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    from zoo import console

    monkeypatch.setattr(console, "is_terminal", lambda stream: stream is sys.stdout)
    monkeypatch.setenv("COLUMNS", "100")
    result = zoo("evaluate", run.path)
    assert "most often confused with" in result.out
    assert "calibration error" in result.out
    lines = [line.split() for line in result.out.splitlines() if line.startswith((" china", " flower"))]
    f1 = [float(next(cell for cell in reversed(line[:5]) if cell.endswith("%")).rstrip("%")) for line in lines]
    assert len(f1) == 2
    assert f1 == sorted(f1, reverse=True), "the worst class comes last"


@pytest.fixture
def labels_run(make_run: MakeRun) -> Any:
    return make_run("test_vit", tuple("0123456789"), task="multi-label", img_size=32)


@pytest.fixture
def numbers_run(make_run: MakeRun, photo_folder: Path, tmp_path: Path) -> Any:
    """Of two numbers, one of which is always the same in the table table.csv."""
    rows = [f"{path},{i},7" for i, path in enumerate(sorted(photo_folder.rglob("*.jpg")))]
    (tmp_path / "table.csv").write_text("\n".join(["image,count,still", *rows]) + "\n")
    return make_run("test_vit", ("count", "still"), task="regression", img_size=32)


def test_labels_in_a_pipe(zoo: Zoo, labels_run: Any) -> None:
    result = zoo("evaluate", labels_run.path)
    rows = [line.split("\t") for line in result.out.splitlines()]
    summary = {row[0]: float(row[1]) for row in rows if len(row) == 2}
    assert list(summary)[:4] == ["images", "average_precision", "auroc", "micro_f1"]
    labels = [row for row in rows if row[0] == "label"]
    assert [row[1] for row in labels] == list("0123456789")
    assert {len(row) for row in labels} == {8}
    assert summary["average_precision"] == pytest.approx(sum(float(row[6]) for row in labels) / 10, abs=1e-5)
    assert "per_label.csv, labels.png" in result.err


def test_numbers_in_a_pipe_and_as_json(zoo: Zoo, numbers_run: Any) -> None:
    result = zoo("evaluate", numbers_run.path, "--data", "table.csv")
    assert result.code == 0, result.err
    rows = [line.split("\t") for line in result.out.splitlines()]
    assert [row[0] for row in rows] == ["images", "mae", "rmse", "r2", "target", "target"]
    count, still = rows[4:]
    assert (still[1], float(still[2]), still[5]) == ("still", 7, "")
    assert float(rows[1][1]) == pytest.approx((float(count[3]) + float(still[3])) / 2, rel=1e-4)
    found = json.loads(zoo("evaluate", numbers_run.path, "--data", "table.csv", "--json").out)
    assert found["task"] == "regression"
    assert found["per_target"][1]["r2"] is None
    assert found == json.loads((numbers_run.path / "evaluation-table.csv" / "evaluation.json").read_text())


def test_terminal_output_of_labels_and_targets(
    zoo: Zoo, labels_run: Any, make_run: MakeRun, monkeypatch: pytest.MonkeyPatch
) -> None:
    from zoo import console

    monkeypatch.setattr(console, "is_terminal", lambda stream: stream is sys.stdout)
    monkeypatch.setenv("COLUMNS", "100")
    result = zoo("evaluate", labels_run.path).out
    lines = [line.split() for line in result.splitlines() if line.strip()[:1].isdigit()]
    precisions = [float(line[5].rstrip("%")) for line in lines]
    assert len(lines) == 10
    assert precisions == sorted(precisions, reverse=True), "the weakest label comes last"
    assert "mean AP" in result
    result = zoo("evaluate", make_run("test_vit", ("value",), task="regression", img_size=32, where="n").path).out
    assert "RMSE" in result
    assert "R²" in result
    assert "360 images" in result


def test_columns_of_another_table(zoo: Zoo, numbers_run: Any, tmp_path: Path) -> None:
    text = (tmp_path / "table.csv").read_text().replace("image,", "photo,", 1)
    (tmp_path / "other.csv").write_text(text.replace("count,still", "still,count", 1))
    result = zoo("evaluate", numbers_run.path, "--data", tmp_path / "other.csv", "--image-column", "photo")
    assert result.code == 0, result.err
    count = next(line for line in result.out.splitlines() if line.startswith("target\tcount"))
    assert count.split("\t")[2] == "7", "its values, found by its name"
    assert zoo("evaluate", numbers_run.path, "--split", "test").code == 2


def test_other_data(zoo: Zoo, run: Any, photo_folder: Path) -> None:
    result = zoo("evaluate", run.path, "--data", photo_folder, "-b", 7, "-j", 0, "--device", "cpu")
    assert result.code == 0
    assert result.out.startswith("images\t24\n")
    assert list(run.path.glob("evaluation-*/evaluation.json"))


@pytest.mark.parametrize(
    ("arguments", "code", "expected"),
    [
        (["/no/such/run"], 3, "no such run"),
        (["RUN", "--data", "/no/such/data"], 3, "/no/such/data"),
        (["RUN", "--workers", "many"], 2, "--workers 'many'"),
        (["RUN", "--batch-size", "0"], 2, "--batch-size 0"),
        (["RUN", "--device", "tpu"], 2, "tpu"),
    ],
)
def test_bad_input(zoo: Zoo, run: Any, arguments: list[str], code: int, expected: str) -> None:
    result = zoo("evaluate", *(str(run.path) if a == "RUN" else a for a in arguments))
    assert result.code == code
    assert expected in result.err
    assert "Traceback" not in result.err
    assert result.out == ""


def test_metrics_are_printed_even_if_they_cannot_be_saved(zoo: Zoo, run: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    import errno
    import os

    from zoo import run as run_module

    def full(source: object, target: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(run_module.os, "replace", full)
    result = zoo("evaluate", run.path)
    assert result.code == 5
    assert result.out.startswith("images\t")
    assert "class\tflower" in result.out
    assert "no space left" in result.err
