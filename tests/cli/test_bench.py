from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

Zoo = Callable[..., Any]
ARGS = ("bench", "zoo_tiny", "--weights", "none", "--steps", 3, "--batch-size", 8)


def test_pipe_output_and_no_files(zoo: Zoo, tmp_path: Path) -> None:
    result = zoo(*ARGS)
    assert result.code == 0, result.err
    rows = dict(line.split("\t") for line in result.out.splitlines())
    assert list(rows)[:5] == ["data", "forward", "backward", "optimizer", "step"]
    assert all(float(value) > 0 for value in rows.values())
    assert list(tmp_path.iterdir()) == []


def test_json_is_in_seconds_and_bytes(zoo: Zoo) -> None:
    found = json.loads(zoo(*ARGS, "--json").out)
    assert found["images_per_second"] == pytest.approx(8 / found["real"])
    assert found["share_of_synthetic"] == pytest.approx(found["synthetic"] / found["real"])
    assert found["memory"] > 1 << 20
    assert found["precision"] in ("fp32", "bf16")


def test_terminal_table(zoo: Zoo, monkeypatch: pytest.MonkeyPatch) -> None:
    from zoo import console

    monkeypatch.setattr(console, "is_terminal", lambda stream: stream is sys.stdout)
    monkeypatch.setenv("COLUMNS", "120")
    result = zoo(*ARGS)
    assert "zoo_tiny on digits, cpu" in result.out
    assert "% of forward + backward + optimizer" in result.out


def test_bad_input_is_one_line(zoo: Zoo) -> None:
    result = zoo("bench", "zoo_tinny", "--steps", 3)
    assert result.code == 4
    assert "did you mean zoo_tiny" in result.err
