"""`zoo lr-find` in a pipe, as JSON and on a terminal."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

Zoo = Callable[..., Any]
FEW = ("zoo_tiny", "--weights", "none", "--steps", "40", "--batch-size", "16", "--set", "augment.name=none")


def test_pipe_output_has_one_line_per_step(zoo: Zoo, photo_folder: Path, tmp_path: Path) -> None:
    result = zoo("lr-find", *FEW, "--data", photo_folder, "--img-size", 32, "--min", 1e-6, "--max", 0.1)
    assert result.code == 0, result.err
    rows = [[float(cell) for cell in line.split("\t")] for line in result.out.splitlines()]
    assert [len(row) for row in rows] == [3] * len(rows)
    assert rows[0][0] == pytest.approx(1e-6)
    assert all(a[0] < b[0] for a, b in pairwise(rows))
    assert list(tmp_path.iterdir()) == []


def test_the_next_command_repeats_the_options(zoo: Zoo) -> None:
    result = zoo("lr-find", *FEW, "--opt", "sgd", "--json", "--plot", "c.png")
    found = json.loads(result.out)
    assert set(found) >= {"lrs", "losses", "smoothed", "suggestion", "steepest", "lowest", "reason", "ended"}
    assert found["plot"] == "c.png"
    assert Path("c.png").is_file()
    if found["suggestion"] is None:
        assert "no learning rate suggested: " in result.err
    else:
        command = f"--batch-size 16 --opt sgd --set augment.name=none --lr {found['suggestion']:.2g}"
        assert command in result.err.splitlines()[-1]


def test_terminal_output_draws_the_curve_with_bars(zoo: Zoo, monkeypatch: pytest.MonkeyPatch) -> None:
    from zoo import console

    monkeypatch.setattr(console, "is_terminal", lambda stream: stream is sys.stdout)
    monkeypatch.setenv("COLUMNS", "100")
    result = zoo("lr-find", "zoo_tiny", "--freeze", "backbone", "--set", "augment.name=none", "--steps", 60)
    bars = [line for line in result.out.splitlines() if "█" in line]
    assert 15 <= len(bars) <= 24
    assert bars[0].count("█") > bars[-4].count("█")
    assert sum("← suggested" in line for line in bars) == 1
    assert "next: zoo finetune zoo_tiny --freeze backbone --set augment.name=none --lr" in result.err
