from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

Zoo = Callable[..., Any]


def test_list_and_clear(zoo: Zoo, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from zoo import console

    monkeypatch.setenv("ZOO_CACHE", str(tmp_path / "cache"))
    assert zoo("cache").out == ""
    args = ("finetune", "zoo_tiny", "--freeze", "backbone", "--epochs", 1, "--no-amp")
    assert zoo(*args).code == 0
    (row,) = [line.split("\t") for line in zoo("cache", "list").out.splitlines()]
    assert row[2:5] == ["zoo_tiny", "fc", "digits"]
    assert Path(row[5]).is_dir()
    (stored,) = json.loads(zoo("cache", "--json").out)
    assert stored["bytes"] == int(row[0])
    with monkeypatch.context() as m:
        m.setattr(console, "is_terminal", lambda stream: stream is sys.stdout)
        assert "zoo_tiny" in zoo("cache").out
    assert zoo("cache", "clear", "--keep", 1).err.startswith("0.0 MiB freed")
    assert json.loads(zoo("cache", "clear", "--json").out)["freed"] == int(row[0])
    assert not Path(row[5]).exists()


def test_what_is_wrong(zoo: Zoo) -> None:
    assert zoo("cache", "empty").code == 2
    assert "--keep goes with clear" in zoo("cache", "--keep", 1).err
