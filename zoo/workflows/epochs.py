"""The epochs of a run: learn, validate, keep the best, write the state."""

from __future__ import annotations

import json
import math
import time
from typing import Any

import torch
from torch import Tensor

from zoo import metrics
from zoo.errors import Interrupted, TrainingError, ZooError
from zoo.files import uninterrupted
from zoo.progress import TrainingProgress, duration
from zoo.run import Run
from zoo.training.trainer import EpochStats, Trainer
from zoo.workflows import journal
from zoo.workflows.prepared import Prepared

__all__ = ["save_checkpoint", "train"]


def train(run: Run, prepared: Prepared, *, first: int, best: dict[str, Any] | None, progress: bool) -> Run:
    """Train from epoch `first` (counted from 0) to the recipe's last; `best` is the best epoch's entry so far.

    Raises TrainingError if a loss is not finite, the disk refuses or the device's memory is too small, Interrupted on
    Ctrl-C; in each case the run says so and keeps its best weights and its last checkpoint.
    """
    recipe, trainer = prepared.recipe, prepared.trainer
    monitor = recipe.train.monitor
    rows = run.metrics()
    best_outcome: tuple[Tensor, Tensor] | None = None
    known: set[str] = set()  # files that proved unreadable while training
    start = time.perf_counter()
    try:
        with TrainingProgress(recipe.train.epochs, first=first, quiet=not progress) as shown:
            for epoch in range(first, recipe.train.epochs):
                rates = trainer.rates()
                stats = trainer.train_epoch(prepared.train, epoch, shown.batch)
                outcome = trainer.evaluate(prepared.val)
                measured = metrics.compute(["loss", "top1", "top5", monitor], *outcome)
                row = _row(epoch, stats, measured, rates)
                value = row[f"val_{monitor}"]
                _check(row)
                trainer.schedule.after_epoch(value)
                improved = _improved(row, monitor, best)
                rows.append(row)
                with uninterrupted():
                    if improved:
                        best = {"epoch": epoch + 1, "monitor": monitor, "value": value, "val_loss": row["val_loss"]}
                        best_outcome = outcome
                        run.save_weights(trainer.module.state_dict())
                    run.write_metrics(rows)
                    save_checkpoint(run, trainer, epoch=epoch + 1, best=best)
                    run.update(epochs_done=epoch + 1, best=best)
                shown.epoch(row, best=improved)
                skipped = [*prepared.train.problems, *prepared.val.problems]
                for bad in skipped:
                    if bad.path not in known:
                        shown.say(f"  left out {bad}")
                if len(skipped) > len(known):
                    journal.left_out(run, prepared.data, skipped)
                    known = {bad.path for bad in skipped}
            seconds = time.perf_counter() - start
            if best_outcome is None:  # the best epoch came before this process
                trainer.module.load_state_dict(run.weights())
                best_outcome = trainer.evaluate(prepared.val)
            journal.draw(run, rows, best_outcome, prepared.data.classes)
            journal.finish(run, seconds=seconds)
            if best is not None:
                shown.say(f"best {monitor} {best['value']:.4g} in epoch {best['epoch']}, {duration(seconds)}")
    except KeyboardInterrupt:
        journal.stop(run, "interrupted", rows, best_outcome, prepared.data.classes)
        done = run.info()["epochs_done"]
        raise Interrupted(
            f"interrupted in epoch {min(done + 1, recipe.train.epochs)} of {recipe.train.epochs}; "
            f"{run.path} keeps the {done} finished",
            f"continue with `zoo finetune --resume {run.path}`",
        ) from None
    except torch.OutOfMemoryError as e:
        reason = f"out of memory on {trainer.engine.device} with batches of {recipe.data.batch_size}"
        journal.stop(run, "failed", rows, best_outcome, prepared.data.classes, reason=reason)
        half = max(recipe.data.batch_size // 2, 1)
        raise TrainingError(
            reason,
            f"start anew with --batch-size {half} --set train.grad_accum_steps={recipe.train.grad_accum_steps * 2}",
        ) from e
    except ZooError as e:
        journal.stop(run, "failed", rows, best_outcome, prepared.data.classes, reason=e.message)
        raise
    return run


def _improved(row: dict[str, Any], monitor: str, best: dict[str, Any] | None) -> bool:
    """Whether the epoch is the best so far; of two with the same value the one with the lower validation loss.

    A small validation set has few different accuracies: the first of many equal epochs is rarely the best of them.
    """
    if best is None or row[f"val_{monitor}"] == best["value"]:
        return best is None or metrics.better("loss", row["val_loss"], best["val_loss"])
    return metrics.better(monitor, row[f"val_{monitor}"], best["value"])


def _check(row: dict[str, Any]) -> None:
    if not math.isfinite(row["val_loss"]):
        raise TrainingError(
            f"the validation loss became {row['val_loss']} in epoch {row['epoch']}",
            "the best weights so far are kept; try a lower --lr or --set train.clip_grad=1",
        )


def _row(epoch: int, stats: EpochStats, measured: dict[str, float], rates: dict[str, float]) -> dict[str, Any]:
    """One line of metrics.jsonl; the learning rates are those with which the epoch began."""
    return {
        "epoch": epoch + 1,
        "train_loss": stats.loss,
        "train_top1": stats.top1,
        **{f"val_{name}": value for name, value in measured.items()},
        "lr": list(rates.values()),
        "lr_names": list(rates),
        "images_per_second": stats.images / stats.seconds,
        "seconds": stats.seconds,
        "skipped_updates": stats.skipped_updates,
    }


def save_checkpoint(run: Run, trainer: Trainer, *, epoch: int, best: dict[str, Any] | None) -> None:
    """Everything that resuming needs, behind `epoch` finished epochs."""
    state = {"epoch": epoch, "best": best, "trainer": trainer.values()}
    run.save_checkpoint(trainer.tensors(), {"zoo": json.dumps(state)})
