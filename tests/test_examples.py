"""The scripts in examples/ run without a network, from any folder."""

from __future__ import annotations

import runpy
import sys
from pathlib import Path

import pytest

SCRIPTS = sorted((Path(__file__).parents[1] / "examples").glob("*.py"))

# A part of what each script prints.
PRINTS = {
    "finetune_folder.py": ("no errors", "top-1 ", "00.png circle"),
    "own_parts.py": ("own_parts:poly", "own_parts:invert_some"),
    "resume_and_export.py": ("stopped after the first epoch", "2 epochs, top-1 ", "(1, 10)"),
    "table_targets.py": ("multi-label: average precision", "regression: mean absolute error"),
}


def test_every_example_is_tested() -> None:
    assert {script.name for script in SCRIPTS} == set(PRINTS)


@pytest.mark.parametrize("script", SCRIPTS, ids=[script.name for script in SCRIPTS])
def test_example_runs(script: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", [str(script)])
    monkeypatch.setattr(sys, "path", [*sys.path])
    runpy.run_path(str(script), run_name="__main__")
    printed = capsys.readouterr().out
    assert all(text in printed for text in PRINTS[script.name]), printed
