from __future__ import annotations

import io
import re
import sys

import pytest

from zoo.progress import TrainingProgress, duration

ROW = {"train_loss": 1.5, "train_top1": 0.25, "val_loss": 1.25, "val_top1": 0.5, "images_per_second": 120.0}


@pytest.mark.parametrize(
    ("seconds", "text"), [(0, "0.0s"), (3.21, "3.2s"), (59.4, "59s"), (65, "1m05s"), (3599.6, "1h00m"), (7380, "2h03m")]
)
def test_duration(seconds: float, text: str) -> None:
    assert duration(seconds) == text


def test_a_line_an_epoch_when_no_one_watches(capsys: pytest.CaptureFixture[str]) -> None:
    with TrainingProgress(2) as shown:
        for best in (True, False):
            for batch in range(1, 4):
                shown.batch(batch, 3, batch * 8, lambda: pytest.fail("no one watches: nothing to wait for"))
            shown.epoch(ROW, best=best)
    captured = capsys.readouterr()
    assert captured.out == ""
    lines = captured.err.splitlines()
    assert len(lines) == 2
    assert re.fullmatch(
        r"epoch 1/2  loss 1\.5000  top-1 25\.0%  val loss 1\.2500  val top-1 50\.00% \*  120 images/s  .* left",
        lines[0],
    )
    assert "*" not in lines[1]


def test_quiet_says_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    with TrainingProgress(1, quiet=True) as shown:
        shown.epoch(ROW, best=True)
    assert capsys.readouterr() == ("", "")


def test_a_terminal_sees_a_bar_with_loss_accuracy_speed_and_time_left(monkeypatch: pytest.MonkeyPatch) -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "140")
    with TrainingProgress(3, first=1) as shown:
        shown.batch(2, 4, 64, lambda: (0.75, 0.5))
        shown.epoch(ROW, best=False)
    text = terminal.getvalue()
    assert "epoch 2/3" in text
    assert "loss 0.7500  top-1 50.0%" in text
    assert "images/s" in text
    assert "left" in text
