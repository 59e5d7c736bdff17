"""Progress of a training on stderr: a bar on a terminal, and one line per epoch."""

from __future__ import annotations

import re
import sys
import time
from collections.abc import Callable
from types import TracebackType
from typing import TYPE_CHECKING, Any

from zoo.console import is_terminal, note

if TYPE_CHECKING:
    from rich.progress import Progress

_REFRESH_SECONDS = 0.25


def duration(seconds: float) -> str:
    """3.2s, 1m05s, 2h03m."""
    if seconds < 60:
        return f"{seconds:.1f}s" if seconds < 10 else f"{seconds:.0f}s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes}m{rest:02d}s"
    return f"{minutes // 60}h{minutes % 60:02d}m"


def _train_metrics(loss: float, top1: float | None) -> str:
    return f"loss {loss:.4f}" + ("" if top1 is None else f"  top-1 {top1:.1%}")


class TrainingProgress:
    """Context manager around the epochs: call `batch` after each batch and `epoch` after each epoch.

    first: number of epochs that were finished before this process (on resume). monitor: validation metric that is
    printed in addition to the loss.
    """

    def __init__(self, epochs: int, *, first: int = 0, quiet: bool = False, monitor: str = "top1") -> None:
        self.epochs = epochs
        self.first = first
        self.quiet = quiet
        self.monitor = monitor
        self._bar: Progress | None = None
        self._task: Any = None
        self._epoch = first
        self._start_time = time.perf_counter()
        self._epoch_start_time = self._start_time
        self._last_refresh = 0.0

    def __enter__(self) -> TrainingProgress:
        if not self.quiet and is_terminal(sys.stderr):
            from rich.console import Console
            from rich.progress import BarColumn, Progress, TextColumn

            self._bar = Progress(
                TextColumn("{task.description}"),
                BarColumn(bar_width=20),
                TextColumn("{task.fields[status]}"),
                console=Console(stderr=True, highlight=False),
                transient=True,
                refresh_per_second=4,
            )
            self._bar.start()
            self._task = self._bar.add_task("", total=1, status="")
        self._start_time = self._epoch_start_time = time.perf_counter()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._bar is not None:
            self._bar.stop()

    def batch(self, batch: int, batches: int, images: int, read: Callable[[], tuple[float, float | None]]) -> None:
        """A `zoo.training.trainer.OnBatch`. read: returns mean loss and top-1 accuracy (None without classes)."""
        now = time.perf_counter()
        if self._bar is None or (now - self._last_refresh < _REFRESH_SECONDS and batch < batches):
            return
        self._last_refresh = now
        loss, top1 = read()
        rate = images / max(now - self._epoch_start_time, 1e-9)
        share = (self._epoch - self.first + batch / batches) / max(self.epochs - self.first, 1)
        remaining = (now - self._start_time) * (1 - share) / max(share, 1e-9)
        self._bar.update(
            self._task,
            total=batches,
            completed=batch,
            description=f"epoch {self._epoch + 1}/{self.epochs}",
            status=f"{_train_metrics(loss, top1)}  {rate:.0f} images/s  {duration(remaining)} left",
        )

    def epoch(self, row: dict[str, Any], *, best: bool) -> None:
        """Print the line of a finished epoch. row: its line of metrics.jsonl."""
        self._epoch += 1
        now = time.perf_counter()
        done = self._epoch - self.first
        remaining = (now - self._start_time) / done * (self.epochs - self._epoch)
        self._epoch_start_time = now
        skipped = row.get("skipped_steps") or 0
        parts = [
            f"epoch {self._epoch}/{self.epochs}",
            _train_metrics(row["train_loss"], row.get("train_top1")),
            f"val loss {row['val_loss']:.4f}"
            + ("" if self.monitor == "loss" else f"  val {self._format_monitor(row)}"),
        ]
        parts[-1] += " *" if best else "  "
        parts += [f"{row['images_per_second']:.0f} images/s", f"{duration(remaining)} left"]
        if skipped:
            parts.append(f"{skipped} step{'s' * (skipped > 1)} skipped (fp16 overflow)")
        self.log("  ".join(parts))

    def _format_monitor(self, row: dict[str, Any]) -> str:
        value = row[f"val_{self.monitor}"]
        if found := re.fullmatch(r"top(\d+)", self.monitor):
            return f"top-{found[1]} {value:.2%}"
        return f"{self.monitor.rpartition(':')[2]} {value:.4g}"  # the attribute of "module:attribute"

    def log(self, line: str) -> None:
        if self.quiet:
            return
        if self._bar is not None:
            self._bar.console.print(line, markup=False, highlight=False, soft_wrap=True)
        else:
            note(line)
