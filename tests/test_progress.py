from __future__ import annotations

import io
import math
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


def test_one_line_per_epoch_without_a_terminal(capsys: pytest.CaptureFixture[str]) -> None:
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


@pytest.mark.parametrize(
    ("monitor", "row", "shown"),
    [
        ("top3", {"val_top3": 0.75}, "val loss 1.2500  val top-3 75.00% *  120"),
        ("macro_f1", {"val_macro_f1": 0.41239}, "val loss 1.2500  val macro_f1 0.4124 *  120"),
        ("rmse", {"val_rmse": 1234.5678}, "val loss 1.2500  val rmse 1235 *  120"),
        ("my_metrics:wrong", {"val_my_metrics:wrong": 0.5}, "val wrong 0.5 *"),
        ("loss", {}, "val loss 1.2500 *  120"),
        ("r2", {"val_r2": math.nan}, "val r2 nan *"),
    ],
)
def test_the_monitored_metric_is_shown_with_or_without_top1(
    capsys: pytest.CaptureFixture[str], monitor: str, row: dict[str, float], shown: str
) -> None:
    common = {"train_loss": 1.5, "val_loss": 1.25, "images_per_second": 120.0, "skipped_steps": 0}
    with TrainingProgress(1, monitor=monitor) as progress:
        progress.epoch({**common, **row}, best=True)
    line = capsys.readouterr().err
    assert line.startswith("epoch 1/1  loss 1.5000  val loss")
    assert shown in line
    assert "skipped" not in line


@pytest.mark.parametrize(("count", "text"), [(1, "1 step skipped (fp16"), (2, "2 steps skipped (fp16 overflow)")])
def test_skipped_steps_are_counted(capsys: pytest.CaptureFixture[str], count: int, text: str) -> None:
    with TrainingProgress(1) as progress:
        progress.epoch({**ROW, "skipped_steps": count}, best=False)
    assert text in capsys.readouterr().err


def test_quiet_prints_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    with TrainingProgress(1, quiet=True) as shown:
        shown.epoch(ROW, best=True)
    assert capsys.readouterr() == ("", "")


@pytest.mark.parametrize(
    ("top1", "text"), [(0.5, r"loss 0\.7500  top-1 50\.0%  \d+ images/s"), (None, r"loss 0\.7500  \d+ images/s")]
)
def test_a_terminal_shows_a_bar_with_loss_accuracy_speed_and_time_left(
    monkeypatch: pytest.MonkeyPatch, top1: float | None, text: str
) -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "140")
    with TrainingProgress(3, first=1) as shown:
        shown.batch(2, 4, 64, lambda: (0.75, top1))
        shown.epoch(ROW, best=False)
    result = terminal.getvalue()
    assert "epoch 2/3" in result
    assert re.search(text, result)
    assert "left" in result
