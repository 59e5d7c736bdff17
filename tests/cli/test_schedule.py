from __future__ import annotations

import json
import sys
from collections.abc import Callable
from typing import Any

import pytest

Zoo = Callable[..., Any]


def test_pipe_output_has_one_line_per_epoch(zoo: Zoo) -> None:
    result = zoo("schedule", "full", "--epochs", 4, "--head-lr", 0.01, "--warmup-epochs", 0)
    assert result.code == 0, result.err
    names, *rows = [line.split("\t") for line in result.out.splitlines()]
    assert names == ["epoch", "stem", "stage1", "stage2", "stage3", "stage4", "head"]
    assert [row[0] for row in rows] == ["1", "2", "3", "4"]
    assert float(rows[0][-1]) == pytest.approx(0.01)
    assert "zoo_tiny; name your model" in result.err


def test_groups_with_the_same_rates_share_a_column_on_a_terminal(zoo: Zoo, monkeypatch: pytest.MonkeyPatch) -> None:
    from zoo import console

    monkeypatch.setattr(console, "is_terminal", lambda stream: stream is sys.stdout)
    monkeypatch.setenv("COLUMNS", "100")
    result = zoo("schedule", "full", "--model", "test_vit", "--epochs", 2, "--warmup-epochs", 1, "--plot", "rates.png")
    assert result.code == 0, result.err
    assert "stem … stage6" in result.out
    assert "warm-up steps" in result.out
    assert "wrote rates.png" in result.err


def test_a_long_table_is_shortened(zoo: Zoo, monkeypatch: pytest.MonkeyPatch) -> None:
    from zoo import console

    monkeypatch.setattr(console, "is_terminal", lambda stream: stream is sys.stdout)
    monkeypatch.setenv("COLUMNS", "140")
    result = zoo("schedule", "full", "--model", "resnet18", "--img-size", 32, "--layer-decay", 0.7, "--epochs", 100)
    assert result.code == 0, result.err
    head, *rows = [line.split() for line in result.out.splitlines() if line.split()[:1] and "epochs of" not in line]
    assert head[:1] == ["epoch"]
    assert [row[0] for row in rows if row[0].isdigit()] == [*map(str, range(1, 100, 5)), "100"]
    assert "--plot FILE" in result.err


def test_json_has_every_step(zoo: Zoo) -> None:
    found = json.loads(zoo("schedule", "full", "--epochs", 2, "--json").out)
    assert len(found["lrs"][0]) == 2 * found["steps_per_epoch"]
