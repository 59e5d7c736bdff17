"""What an epoch leaves in the run's files, written so often that the epochs do not wait for the disk."""

from __future__ import annotations

import json
import time
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from zoo import dist_env
from zoo.atomic_io import uninterrupted
from zoo.run import Run
from zoo.training.distributed import agree
from zoo.training.trainer import Trainer
from zoo.workflows.finetune.session import Prepared

__all__ = ["Saving"]

# Seconds of training for each second of writing. What a power cut or kill -9 takes is at most what lies in between.
_APART = 10.0


@dataclass(frozen=True)
class _Held:
    """An epoch that waits to be written. weights: of the best epoch, None if those in the run are still the best."""

    epoch: int
    rows: list[dict[str, Any]]
    best: dict[str, Any] | None
    weights: dict[str, Tensor] | None
    tensors: dict[str, Tensor]
    values: dict[str, str]


class Saving:
    """Writes weights, metrics and checkpoint behind an epoch, or holds them where epochs are shorter than writing them
    would take: then what is held is written as soon as ten times that long has gone by, or by `flush`.

    Files of several processes are the first one's; all of them are to call the same.
    """

    def __init__(self, run: Run, prepared: Prepared) -> None:
        self._run, self._trainer = run, prepared.trainer
        # While features are kept, what they come from cannot change.
        self._still = prepared.plan.frozen_modules if prepared.keeping is not None else ()
        self._held: _Held | None = None
        self._cost, self._written = 0.0, time.perf_counter()

    def start(self, best: dict[str, Any] | None, *, weights: bool, checkpoint: bool) -> None:
        """What there is before the first epoch. weights: whether a head that learned first is the best so far."""
        began = time.perf_counter()
        if weights:
            self._run.save_weights(self._trainer.weights())
            self._run.update(best=best)
        if checkpoint:
            self._run.save_checkpoint(self._trainer.tensors(), _values(self._trainer, 0, best))
        self._took(began)

    def epoch(self, epoch: int, rows: list[dict[str, Any]], best: dict[str, Any] | None, *, improved: bool) -> None:
        """Behind `epoch` finished epochs. rows: of all of them. improved: whether the last is the best."""
        waiting = None if self._held is None else self._held.weights
        now = agree(time.perf_counter() - self._written >= _APART * self._cost)
        weights = self._trainer.weights() if improved else None
        tensors = self._trainer.tensors()
        if not now:
            weights = None if weights is None else self._copies(weights)
            tensors = self._copies(tensors)
        values = _values(self._trainer, epoch, best)
        self._held = _Held(epoch, list(rows), best, weights or waiting, tensors, values)
        if now:
            self.flush()

    def flush(self) -> None:
        """Write what is held. Raises TrainingError if the disk refuses."""
        held, self._held = self._held, None
        if held is None:
            return
        began = time.perf_counter()
        with uninterrupted():
            if held.weights is not None:
                self._run.save_weights(held.weights)
            self._run.write_metrics(held.rows)
            self._run.save_checkpoint(held.tensors, held.values)
            self._run.update(epochs_done=held.epoch, best=held.best)
        self._took(began)

    def _took(self, began: float) -> None:
        self._written = time.perf_counter()
        self._cost = self._written - began

    def _copies(self, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
        """On the CPU, untouched by later epochs; nothing where another process writes."""
        if not dist_env.is_first():
            return {}
        still = tuple(f"{prefix}{path}." for path in self._still for prefix in ("", "model."))
        return {name: t if name.startswith(still) else t.detach().to("cpu", copy=True) for name, t in tensors.items()}


def _values(trainer: Trainer, epoch: int, best: dict[str, Any] | None) -> dict[str, str]:
    return {"zoo": json.dumps({"epoch": epoch, "best": best, "trainer": trainer.values()})}
