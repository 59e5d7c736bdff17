"""Writes weights, metrics and checkpoints after epochs, but not so often that it slows down training."""

from __future__ import annotations

import json
import time
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from zoo import dist_env
from zoo.atomic_io import defer_interrupts
from zoo.run import Run
from zoo.training.distributed import broadcast_object
from zoo.training.trainer import Trainer
from zoo.workflows.finetune.session import TrainingSession

# Seconds of training per second of writing. A power cut or kill -9 loses at most the training between two writes.
_TRAIN_TO_WRITE_RATIO = 10.0


@dataclass(frozen=True)
class _PendingEpoch:
    """An epoch that is not written yet. weights: of the best epoch, None if those in the run are still the best."""

    epoch: int
    rows: list[dict[str, Any]]
    best: dict[str, Any] | None
    weights: dict[str, Tensor] | None
    tensors: dict[str, Tensor]
    values: dict[str, str]


class CheckpointWriter:
    """Writes weights, metrics and checkpoint after an epoch. If that takes more than a tenth of the training time, they
    are held in memory, and written when ten times the time of writing has passed, or by `flush`.

    The first of several processes writes; all of them must call the same methods.
    """

    def __init__(self, run: Run, session: TrainingSession) -> None:
        self._run, self._trainer = run, session.trainer
        # With cached features, the frozen layers cannot change.
        self._frozen_paths = session.plan.frozen_modules if session.feature_cache is not None else ()
        self._pending: _PendingEpoch | None = None
        self._write_seconds, self._last_write = 0.0, time.perf_counter()

    def start(self, best: dict[str, Any] | None, *, weights: bool, checkpoint: bool) -> None:
        """Write the state before the first epoch. weights: whether the result of linear probing is the best so far."""
        start = time.perf_counter()
        if weights:
            self._run.save_weights(self._trainer.weights())
            self._run.update(best=best)
        if checkpoint:
            self._run.save_checkpoint(self._trainer.tensors(), _values(self._trainer, 0, best))
        self._record_write_time(start)

    def epoch(self, epoch: int, rows: list[dict[str, Any]], best: dict[str, Any] | None, *, improved: bool) -> None:
        """After `epoch` finished epochs. rows: of all epochs. improved: whether the last one is the best."""
        pending_weights = None if self._pending is None else self._pending.weights
        write_now = broadcast_object(
            time.perf_counter() - self._last_write >= _TRAIN_TO_WRITE_RATIO * self._write_seconds
        )
        weights = self._trainer.weights() if improved else None
        tensors = self._trainer.tensors()
        if not write_now:
            weights = None if weights is None else self._copy_to_cpu(weights)
            tensors = self._copy_to_cpu(tensors)
        values = _values(self._trainer, epoch, best)
        self._pending = _PendingEpoch(epoch, list(rows), best, weights or pending_weights, tensors, values)
        if write_now:
            self.flush()

    def flush(self) -> None:
        """Write what is not written yet. Raises TrainingError if the disk refuses."""
        pending, self._pending = self._pending, None
        if pending is None:
            return
        start = time.perf_counter()
        with defer_interrupts():
            if pending.weights is not None:
                self._run.save_weights(pending.weights)
            self._run.write_metrics(pending.rows)
            self._run.save_checkpoint(pending.tensors, pending.values)
            self._run.update(epochs_done=pending.epoch, best=pending.best)
        self._record_write_time(start)

    def _record_write_time(self, start: float) -> None:
        self._last_write = time.perf_counter()
        self._write_seconds = self._last_write - start

    def _copy_to_cpu(self, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
        """Copies that later epochs do not change; empty if another process writes."""
        if not dist_env.is_main_process():
            return {}
        frozen_prefixes = tuple(f"{prefix}{path}." for path in self._frozen_paths for prefix in ("", "model."))
        return {
            name: t if name.startswith(frozen_prefixes) else t.detach().to("cpu", copy=True)
            for name, t in tensors.items()
        }


def _values(trainer: Trainer, epoch: int, best: dict[str, Any] | None) -> dict[str, str]:
    return {"zoo": json.dumps({"epoch": epoch, "best": best, "trainer": trainer.values()})}
