from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from zoo.atomic_io import atomic_write, read_json, write_json
from zoo.errors import DataError, TrainingError, UsageError
from zoo.run import Run


def test_default_folders_are_numbered() -> None:
    paths = [Run.create(None, default_name="resnet18-digits").path for _ in range(3)]
    assert paths == [Path("runs/resnet18-digits"), Path("runs/resnet18-digits-2"), Path("runs/resnet18-digits-3")]


def test_a_folder_in_use_is_refused(tmp_path: Path) -> None:
    full = tmp_path / "full"
    full.mkdir()
    (full / "thesis.txt").write_text("mine")
    with pytest.raises(UsageError, match="not empty"):
        Run.create(full, default_name="x")
    with pytest.raises(UsageError, match="is a file"):
        Run.create(full / "thesis.txt", default_name="x")
    assert (full / "thesis.txt").read_text() == "mine"


def test_a_finished_run_and_a_running_run_have_different_errors(tmp_path: Path) -> None:
    run = Run.create(tmp_path / "r", default_name="x")
    run.update(status="interrupted", pid=1, host="elsewhere")
    with pytest.raises(UsageError, match="already contains a run") as e:
        Run.create(tmp_path / "r", default_name="x")
    assert "--resume" in e.value.hint
    other = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    try:
        run.update(status="running", pid=other.pid, host=os.uname().nodename)
        with pytest.raises(UsageError, match=f"in use by a running zoo \\(process {other.pid}\\)"):
            Run.create(tmp_path / "r", default_name="x")
    finally:
        other.communicate(b"\n")
    assert not run.is_alive()


def test_a_failed_write_leaves_the_old_file(tmp_path: Path) -> None:
    file = tmp_path / "run.json"
    write_json(file, {"a": 1})

    def fail(path: Path) -> None:
        path.write_text("half")
        raise OSError(28, "No space left on device")

    with pytest.raises(TrainingError, match="no space left"):
        atomic_write(file, fail)
    assert read_json(file) == {"a": 1}
    assert os.listdir(tmp_path) == ["run.json"]


def test_a_full_disk_is_an_error(tmp_path: Path) -> None:
    code = (
        "import resource, sys, pathlib\n"
        "from zoo.atomic_io import write_json\n"
        "from zoo.errors import TrainingError\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))\n"
        "try: write_json(pathlib.Path(sys.argv[1]), 'x' * 5000)\n"
        "except TrainingError as e: print(e.message)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path / "f.json")], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == f"no space left to write {tmp_path / 'f.json'}"
    assert os.listdir(tmp_path) == []


def test_open_refuses_other_folders(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no such run"):
        Run.open(tmp_path / "none")
    with pytest.raises(DataError, match="is not a run"):
        Run.open(tmp_path)


def test_weights_round_trip_and_damage(tmp_path: Path) -> None:
    run = Run.create(tmp_path / "r", default_name="x")
    with pytest.raises(DataError, match="is missing"):
        run.weights()
    tensor = torch.randn(3, 4)
    run.save_weights({"a": tensor, "b": tensor[:, 1], "tied": tensor})
    again = run.weights()
    assert torch.equal(again["tied"], tensor)
    assert torch.equal(again["a"], tensor)
    assert torch.equal(again["b"], tensor[:, 1])
    run.weights_file.write_bytes(run.weights_file.read_bytes()[:-5])
    with pytest.raises(DataError, match="is damaged"):
        run.weights()


def test_metrics_round_trip(tmp_path: Path) -> None:
    run = Run.create(tmp_path / "r", default_name="x")
    assert run.metrics() == []
    run.write_metrics([{"epoch": 1, "val_top1": 0.5}, {"epoch": 2, "val_top1": 0.75}])
    assert [row["epoch"] for row in run.metrics()] == [1, 2]
    assert json.loads(run.metrics_file.read_text().splitlines()[1])["val_top1"] == 0.75


def test_nan_is_null_in_json(tmp_path: Path) -> None:
    run = Run(tmp_path)
    run.write_metrics([{"epoch": 1, "val_auroc": float("nan"), "lr": [float("inf"), 0.1]}])
    run.update(best={"value": float("nan")})
    assert run.metrics() == [{"epoch": 1, "val_auroc": None, "lr": [None, 0.1]}]
    assert run.info()["best"] == {"value": None}
    assert "NaN" not in run.metrics_file.read_text() + run.info_file.read_text()


def test_damaged_json_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "run.json").write_text("{")
    with pytest.raises(DataError, match="cannot be read"):
        Run.open(tmp_path).info()
