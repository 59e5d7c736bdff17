"""Runs the trials of a search one after the other, each a fine-tuning whose result the study gets."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from zoo import metrics
from zoo.console import is_terminal
from zoo.errors import Interrupted, TrainingError, ZooError
from zoo.progress import duration
from zoo.recipe import Recipe
from zoo.workflows.finetune.early_stopping import best_epoch_text
from zoo.workflows.finetune.run import finetune
from zoo.workflows.tune.study import Study, Trial, TrialRecord


class _Pruned(TrainingError):
    """Raised inside a run to stop it."""


def trial_folder(parent: Path, number: int) -> Path:
    return parent / f"trial-{number:04d}"


def best_trial(records: Sequence[TrialRecord], monitor: str) -> TrialRecord | None:
    """The finished trial with the best value, the first of equal ones; None if none has finished."""
    best: TrialRecord | None = None
    for record in records:
        if record.state != "finished" or record.value is None or record.duplicate_of is not None:
            continue
        if best is None or best.value is None or metrics.better(monitor, record.value, best.value):
            best = record
    return best


@dataclass
class TrialRunner:
    """make: values by dotted key → recipe. trials: total number. log: prints a line on stderr."""

    study: Study
    folder: Path
    monitor: str
    make: Callable[[Mapping[str, Any]], Recipe]
    trials: int
    log: Callable[[str], None]
    quiet: bool

    def run(self, timeout: float | None) -> None:
        """Run trials until the study has enough; no trial starts after `timeout` seconds.

        Raises Interrupted on Ctrl-C, TrainingError if the disk refuses.
        """
        start = time.monotonic()
        count = self.study.enqueue_all(self.trials)
        if count is not None and count < self.trials:
            self.log(f"only {count} combinations exist: each is tried once")
        target = self.trials if count is None else count
        done = self._done()
        if done:
            self.log(f"{done} {'trial is' if done == 1 else 'trials are'} already done")
        while (done := self._done()) < target:
            if timeout is not None and time.monotonic() - start >= timeout:
                self.log(f"timeout of {duration(timeout)}: stopped after {done} of {target} trials")
                return
            trial = self.study.ask()
            label = f"trial {trial.number} ({done + 1} of {target})"
            try:
                outcome = self._try(trial, label)
            except (KeyboardInterrupt, Interrupted):
                raise Interrupted(
                    f"interrupted in trial {trial.number}; {self.folder} has {done} of {target} trials",
                    "the same command continues the search",
                ) from None
            values = "  ".join(f"{key} {format_value(value)}" for key, value in trial.values.items())
            self.log(f"{label}  {values}  {outcome}{self._best_so_far()}")

    def _done(self) -> int:
        return sum(r.state != "interrupted" for r in self.study.records())

    def _best_so_far(self) -> str:
        best = best_trial(self.study.records(), self.monitor)
        return "" if best is None else f"  best {best.value:.4g} (trial {best.number})"

    def _try(self, trial: Trial, label: str) -> str:
        """Train with the trial's values and report to the study; a short text about the result."""
        start = time.monotonic()
        for other in self.study.records():
            if other.values == trial.values and other.state == "finished" and other.value is not None:
                trial.finished(
                    other.value, 0.0, duplicate_of=other.number if other.duplicate_of is None else other.duplicate_of
                )
                return f"same values as trial {other.number}: {self.monitor} {other.value:.4g}"
        last = [0.0]
        with _status(label, self.quiet) as update_status:

            def on_epoch(row: dict[str, Any]) -> None:
                last[0] = row[f"val_{self.monitor}"]
                update_status(f"epoch {row['epoch']}, {self.monitor} {last[0]:.4g}")
                if trial.report_and_should_prune(last[0], row["epoch"]):
                    raise _Pruned(f"pruned after epoch {row['epoch']}: worse than the median of the other trials")

            try:
                recipe = self.make(trial.values)
                run = finetune(
                    recipe, output_dir=trial_folder(self.folder, trial.number), progress=False, on_epoch=on_epoch
                )
            except Interrupted:
                raise
            except _Pruned:
                trial.pruned(time.monotonic() - start)
                return f"pruned after epoch {trial.epochs} at {self.monitor} {last[0]:.4g}"
            except (ZooError, torch.OutOfMemoryError) as e:
                if isinstance(e.__cause__, OSError):
                    raise  # the disk would refuse the next trial too
                reason = " ".join((e.message if isinstance(e, ZooError) else "out of memory").split())
                trial.failed(reason, time.monotonic() - start)
                return f"failed: {reason}"
        seconds = time.monotonic() - start
        best = run.info()["best"]
        if best is None or best["value"] is None:
            trial.failed(reason := f"val_{self.monitor} is not a number", seconds)
            return f"failed: {reason}"
        trial.finished(best["value"], seconds)
        return f"{self.monitor} {best['value']:.4g} {best_epoch_text(best)}, {duration(seconds)}"


def format_value(value: Any) -> str:
    """A value of a trial, short; a section as `name focal, params.gamma 2`."""
    if isinstance(value, float):
        return f"{value:.4g}"
    if isinstance(value, Mapping):
        text = ", ".join(f"{key} {format_value(inner)}" for key, inner in flatten(value))
    else:
        text = value if isinstance(value, str) else json.dumps(value)
    return text if len(text) <= 40 else f"{text[:39]}…"


def flatten(values: Mapping[str, Any], before: str = "") -> Iterator[tuple[str, Any]]:
    """The leaves of nested sections by dotted key; an empty section is a leaf."""
    for key, value in values.items():
        if isinstance(value, Mapping) and value:
            yield from flatten(value, f"{before}{key}.")
        else:
            yield before + key, value


@contextmanager
def _status(label: str, quiet: bool) -> Iterator[Callable[[str], None]]:
    """A status line on a terminal, removed at the end."""
    if quiet or not is_terminal(sys.stderr):
        yield lambda text: None
        return
    from rich.console import Console

    with Console(stderr=True, highlight=False).status(f"{label}: preparing") as line:
        yield lambda text: line.update(f"{label}: {text}")
