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
    (row,) = [line.split("\t") for line in zoo("cache", "list", "features").out.splitlines()]
    assert row[0] == "features"
    assert row[3] == "zoo_tiny, fc, digits"
    assert Path(row[4]).is_dir()
    kinds = [line.split("\t") for line in zoo("cache", "list").out.splitlines()]
    assert kinds[0][:3] == ["features", "1", row[1]]
    stored = json.loads(zoo("cache", "--json").out)
    assert [(s["model"], s["bytes"]) for s in stored if s["kind"] == "features"] == [("zoo_tiny", int(row[1]))]
    assert {s["kind"] for s in stored} == {kind[0] for kind in kinds} >= {"features", "timings"}
    with monkeypatch.context() as m:
        m.setattr(console, "is_terminal", lambda stream: stream is sys.stdout)
        assert "outputs of the frozen layers" in zoo("cache").out
        assert "zoo_tiny" in zoo("cache", "list", "features").out
    assert zoo("cache", "clear", "--keep", 1).err.startswith("0.0 MiB freed")
    assert json.loads(zoo("cache", "clear", "features", "--json").out)["freed"] == int(row[1])
    assert not Path(row[4]).exists()
    assert zoo("cache", "list").out
    assert zoo("cache", "clear").code == 0
    assert list((tmp_path / "cache").iterdir()) == []


def test_files_that_stay_are_listed(zoo: Zoo, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ZOO_CACHE", str(tmp_path / "cache"))
    own, manual = tmp_path / "cache" / "letter.txt", tmp_path / "cache" / "torchvision" / "ImageNet"
    manual.mkdir(parents=True)
    own.write_text("mine")
    assert "unknown\t1\t4" in zoo("cache").out
    printed = zoo("cache", "clear").err
    assert f"not deleted: {own}, unknown to this version of zoo" in printed
    assert f"not deleted: {manual}, which cannot be downloaded again" in printed
    assert zoo("cache", "clear", "torchvision").code == 0
    assert own.exists()
    assert not manual.exists()


def test_wrong_arguments(zoo: Zoo) -> None:
    assert zoo("cache", "empty").code == 2
    assert "--keep goes with clear" in zoo("cache", "--keep", 1).err
    assert "did you mean features?" in zoo("cache", "clear", "feature").err
