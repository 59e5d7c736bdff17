"""`zoo tune` in a pipe, as JSON, on a terminal, and stopped by a signal."""

from __future__ import annotations

import json
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from zoo.run import Run
from zoo.workflows.tune import trials as trials_module

Zoo = Callable[..., Any]
SPACE = """\
optimizer.lr: {low: 1e-4, high: 1e-1, log: true}
loss: {choices: [{name: focal, params: {gamma: 3}}, {name: cross_entropy}]}
"""


@pytest.fixture
def command(photo_folder: Path) -> list[str]:
    """A search whose trials take one second."""
    Path("space.yaml").write_text(SPACE)
    return [
        *("tune", "head-only", "--model", "zoo_tiny", "--data", str(photo_folder), "--set", "model.img_size=32"),
        *(
            "--set",
            "train.epochs=1",
            "--set",
            "train.amp=false",
            "--set",
            "augment.name=none",
            "--search",
            "space.yaml",
        ),
    ]


@pytest.fixture
def fake_finetune(monkeypatch: pytest.MonkeyPatch) -> None:
    """Trials that train nothing and end in ever better values; the first is not better than its start."""
    values: Iterator[float] = iter([0.5, 0.6, 0.7, 0.8])

    def finetune(recipe: Any, *, output_dir: Path, on_epoch: Any, progress: bool) -> Run:
        output_dir.mkdir()
        run, value = Run(output_dir), next(values)
        run.write_recipe(f"model: {{name: zoo_tiny}}\nloss: {{name: {recipe.loss.name}}}\n")
        on_epoch({"epoch": 1, "val_top1": value})
        run.update(status="finished", best={"epoch": int(value > 0.5), "monitor": "top1", "value": value})
        return run

    monkeypatch.setattr(trials_module, "finetune", finetune)


def test_pipe_output_has_one_line_per_trial(zoo: Zoo, command: list[str], fake_finetune: None) -> None:
    result = zoo(*command, "--trials", 2, "-o", "my search")
    assert result.code == 0, result.err
    rows = [line.split("\t") for line in result.out.splitlines()]
    assert [row[:4] for row in rows] == [
        ["0", "finished", "0.5", "my search/trial-0000"],
        ["1", "finished", "0.6", "my search/trial-0001"],
    ]
    for row in rows:
        assert 1e-4 <= float(row[4]) <= 1e-1
        assert json.loads(row[5]) in ({"name": "focal", "params": {"gamma": 3}}, {"name": "cross_entropy"})
    assert "top1 0.5 after linear probing, before the first epoch" in result.err
    assert "loss name focal, params.gamma 3" in result.err or "loss name cross_entropy" in result.err
    last = result.err.splitlines()[-1]
    assert shlex.split(last.removeprefix("next: zoo ")) == ["finetune", "--recipe", "my search/best.yaml"]
    again = zoo(*command, "--trials", 2, "-o", "my search", "--json")
    assert "2 trials are already done" in again.err
    found = json.loads(again.out)
    assert (found["best"], found["best_recipe"], found["monitor"]) == (1, "my search/best.yaml", "top1")
    assert [trial["value"] for trial in found["trials"]] == [0.5, 0.6]


def test_terminal_output_lists_the_best_trial_first(
    zoo: Zoo, command: list[str], fake_finetune: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    from zoo import console

    monkeypatch.setattr(console, "is_terminal", lambda stream: stream is sys.stdout)
    monkeypatch.setenv("COLUMNS", "120")
    result = zoo(*command, "--trials", 3)
    rows = [line.split() for line in result.out.splitlines() if line.strip()]
    assert rows[0] == ["trial", "top1", "optimizer.lr", "loss"]
    assert [row[:2] for row in rows[2:5]] == [["2", "0.7"], ["1", "0.6"], ["0", "0.5"]]
    assert "3 trials: 3 finished" in result.out


@pytest.mark.parametrize(
    ("arguments", "says", "hints"),
    [
        (["--search", "none.yaml"], "search file none.yaml cannot be read", "optimizer.lr: {low"),
        (["--trials", "0"], "0 trials", "1 or more"),
        (["--set", "optimizer.lr=1"], "optimizer.lr: it is also given by --set", ""),
    ],
)
def test_bad_search_spaces(zoo: Zoo, command: list[str], arguments: list[str], says: str, hints: str) -> None:
    result = zoo(*command, "--trials", 2, *arguments)
    assert result.code == 2
    assert result.out == ""
    assert says in result.err
    assert hints in result.err
    assert not Path("runs").exists()


def test_without_a_model_the_flag_is_named(zoo: Zoo, command: list[str]) -> None:
    del command[2:4]
    result = zoo(*command, "--trials", 2)
    assert result.code == 2
    assert "no model named" in result.err
    assert "--model" in result.err


@pytest.mark.parametrize("stop", [signal.SIGINT, pytest.param(signal.SIGKILL, marks=pytest.mark.slow)])
def test_an_interrupted_search_continues(
    zoo: Zoo, command: list[str], fake_finetune: None, stop: signal.Signals
) -> None:
    long = [*command, "--set", "train.epochs=2000", "--trials", "1", "-o", "out"]
    process = subprocess.Popen([sys.executable, "-m", "zoo", *long], stderr=subprocess.PIPE, text=True)
    try:
        _wait_for(Path("out/trial-0000/metrics.jsonl"), process)
        process.send_signal(stop)
        result = process.communicate(timeout=60)[1]
    finally:
        process.kill()
    if stop == signal.SIGINT:
        assert process.returncode == 130
        assert result.splitlines()[-2:] == [
            "error: interrupted in trial 0; out has 0 of 1 trials",
            "hint: the same command continues the search",
        ]
        assert Run.open("out/trial-0000").status == "interrupted"
    again = zoo(*long)
    assert again.code == 0, again.err
    assert "trial 0 was interrupted: its values will be tried again" in again.err
    first, second = (line.split("\t") for line in again.out.splitlines())
    assert first[:4] == ["0", "interrupted", "", "out/trial-0000"]
    assert second[:4] == ["1", "finished", "0.5", "out/trial-0001"]
    assert first[4:] == second[4:]


def _wait_for(path: Path, process: subprocess.Popen[str]) -> None:
    until = time.monotonic() + 120
    while not path.exists():
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < until
        time.sleep(0.05)
