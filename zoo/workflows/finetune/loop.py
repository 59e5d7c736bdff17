"""The epochs of a run: start, learn, validate, keep the best, write the state."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from zoo import metrics
from zoo.atomic_io import defer_interrupts
from zoo.errors import Interrupted, TrainingError, ZooError
from zoo.progress import TrainingProgress, duration
from zoo.run import Run
from zoo.training.distributed import broadcast_object, gather_object, lost_process_error
from zoo.training.trainer import EpochStats
from zoo.workflows.finetune import linear_probe, oom, record, transfer
from zoo.workflows.finetune.checkpoint import CheckpointWriter
from zoo.workflows.finetune.feature_cache import apply_feature_cache
from zoo.workflows.finetune.image_cache import apply_image_cache
from zoo.workflows.finetune.session import TrainingSession
from zoo.workflows.finetune.transfer import ValidationResult

__all__ = ["OnEpoch", "best_epoch_text", "train"]

OnEpoch = Callable[[dict[str, Any]], None]


@dataclass
class _TrainingState:
    """How far a run has come. known: files that proved unreadable while training."""

    best: dict[str, Any] | None
    rows: list[dict[str, Any]]
    outcome: ValidationResult | None = None
    known: set[str] = field(default_factory=set)


def train(
    run: Run,
    session: TrainingSession,
    *,
    first: int | None,
    best: dict[str, Any] | None,
    progress: bool,
    on_epoch: OnEpoch | None = None,
) -> Run:
    """Train from epoch `first` (counted from 0) to the recipe's last, or until its patience ends.

    first: None for a new run, which then does what comes before the first epoch; else the trainer holds the state
    behind `first` epochs, and `best` is the best one's entry. on_epoch is given each row of metrics.jsonl when it is
    written; a ZooError that it raises ends the run.

    Raises TrainingError if a loss is not finite, the disk refuses or the device's memory is too small, Interrupted on
    Ctrl-C; in each case the run says so and keeps its best weights and its last checkpoint.
    """
    recipe, trainer = session.recipe, session.trainer
    epochs, monitor = session.epochs, recipe.train.monitor
    state = _TrainingState(best, run.metrics())
    checkpoints = CheckpointWriter(run, session)
    start = time.perf_counter()
    try:
        with TrainingProgress(epochs, first=first or 0, quiet=not progress, monitor=monitor) as display:
            oom.report_micro_batches(run, session, display.log)
            session = apply_image_cache(session, display.log)
            if first is None:
                _before_first_epoch(run, session, state, display, checkpoints)
            session = apply_feature_cache(session, display.log)
            trainer.shard()
            try:
                for epoch in range(first or 0, epochs):
                    if _out_of_patience(epoch, state.best, recipe.train.patience):
                        display.log(
                            f"no better {monitor} for {recipe.train.patience} epochs: stopped before epoch {epoch + 1}"
                        )
                        run.update(stopped_early=True)
                        break
                    row, improved = _run_epoch(run, session, epoch, state, display, checkpoints)
                    display.epoch(row, best=improved)
                    _log_unreadable(run, session, state, display)
                    if on_epoch is not None:
                        on_epoch(row)
            finally:
                checkpoints.flush()
            if state.best is not None:
                state.best, state.outcome = transfer.finish(run, session, state.best, state.outcome, display.log)
            seconds = time.perf_counter() - start
            record.draw(run, session, state.rows, state.outcome)
            record.finish(run, seconds=seconds)
            if state.best is not None:
                display.log(
                    f"best {monitor} {state.best['value']:.4g} {best_epoch_text(state.best)}, {duration(seconds)}"
                )
    except KeyboardInterrupt:
        record.stop(run, session, "interrupted", state.rows, state.outcome)
        done = run.info()["epochs_done"]
        raise Interrupted(
            f"interrupted in epoch {min(done + 1, epochs)} of {epochs}; {run.path} keeps the {done} finished",
            f"continue with `zoo finetune --resume {run.path}`",
        ) from None
    except (RuntimeError, MemoryError) as e:
        known = oom.out_of_memory_error(e, session) or lost_process_error(e)
        if known is None:
            raise
        record.stop(run, session, "failed", state.rows, state.outcome, reason=known.message)
        raise known from e
    except ZooError as e:
        record.stop(run, session, "failed", state.rows, state.outcome, reason=e.message)
        raise
    return run


def _before_first_epoch(
    run: Run, session: TrainingSession, state: _TrainingState, display: TrainingProgress, checkpoints: CheckpointWriter
) -> None:
    """What comes before the first epoch. A head that learned first counts as epoch 0: later ones must be better."""
    outcome = transfer.begin(run, session, display.log)
    if outcome is not None and math.isfinite(outcome.values["loss"]):
        row = {"epoch": 0, **{f"val_{name}": value for name, value in outcome.values.items()}}
        state.best = _best_entry(row, session.recipe.train.monitor, None)
        state.outcome = outcome
    # A head that is solved in a second is begun anew.
    checkpoints.start(state.best, weights=state.best is not None, checkpoint=not session.fits_linear_probe)


def best_epoch_text(best: dict[str, Any]) -> str:
    """In which epoch the best weights came about, to follow their value in a sentence."""
    return f"in epoch {best['epoch']}" if best["epoch"] else "before the first epoch, when only the head had learned"


def _run_epoch(
    run: Run,
    session: TrainingSession,
    epoch: int,
    state: _TrainingState,
    display: TrainingProgress,
    checkpoints: CheckpointWriter,
) -> tuple[dict[str, Any], bool]:
    """Learn, validate and write; the row of metrics.jsonl, and whether the epoch is the best so far."""
    recipe, trainer = session.recipe, session.trainer
    monitor = recipe.train.monitor
    transfer.before_epoch(session)
    if session.fits_linear_probe:
        rates, stats = {}, linear_probe.run_linear_probe(run, session, display.log)
    else:
        rates, stats = trainer.rates(), trainer.train_epoch(session.train, epoch, display.batch)
    outcome = transfer.compute_metrics(session, *trainer.evaluate(session.val))
    row = broadcast_object(_row(epoch, stats, outcome.values, rates))
    _check_finite(row)
    trainer.schedule.after_epoch(row[f"val_{recipe.schedule.monitor or monitor}"])
    improved = _improved(row, monitor, state.best)
    state.rows.append(row)
    with defer_interrupts():
        if improved:
            state.best = _best_entry(row, monitor, state.best)
            state.outcome = outcome
        checkpoints.epoch(epoch + 1, state.rows, state.best, improved=improved)
    return row, improved


def _log_unreadable(run: Run, session: TrainingSession, state: _TrainingState, display: TrainingProgress) -> None:
    skipped = gather_object([*session.train.problems, *session.val.problems])
    for bad in skipped:
        if bad.path not in state.known:
            display.log(f"  left out {bad}")
    if len(skipped) > len(state.known):
        record.skipped_files(run, session.data, skipped)
        state.known = {bad.path for bad in skipped}


def _best_entry(row: dict[str, Any], monitor: str, previous: dict[str, Any] | None) -> dict[str, Any]:
    """What run.json says of the best epoch. reached: the first epoch with this value of the monitored metric."""
    value = row[f"val_{monitor}"]
    reached = previous["reached"] if previous is not None and previous["value"] == value else row["epoch"]
    return {
        "epoch": row["epoch"],
        "monitor": monitor,
        "value": value,
        "val_loss": row["val_loss"],
        "reached": reached,
    }


def _out_of_patience(epoch: int, best: dict[str, Any] | None, patience: int | None) -> bool:
    """Whether the monitored metric has not improved for `patience` epochs; `epoch` counts those that are done.

    A lower loss at the same value makes an epoch the best one, but does not count here: at 100 % it falls for ever.
    """
    return patience is not None and best is not None and epoch - int(best["reached"]) >= patience


def _improved(row: dict[str, Any], monitor: str, best: dict[str, Any] | None) -> bool:
    """Whether the epoch is the best so far; of two with the same value the one with the lower validation loss.

    A small validation set has few different accuracies: the first of many equal epochs is rarely the best of them.
    """
    if best is None or row[f"val_{monitor}"] == best["value"]:
        return best is None or metrics.better("loss", row["val_loss"], best["val_loss"])
    return metrics.better(monitor, row[f"val_{monitor}"], best["value"])


def _check_finite(row: dict[str, Any]) -> None:
    if not math.isfinite(row["val_loss"]):
        raise TrainingError(
            f"the validation loss became {row['val_loss']} in epoch {row['epoch']}",
            "the best weights so far are kept; try a lower --lr or --clip-grad 1",
        )


def _row(epoch: int, stats: EpochStats, val_metrics: dict[str, float], rates: dict[str, float]) -> dict[str, Any]:
    """One line of metrics.jsonl; the learning rates are those with which the epoch began."""
    return {
        "epoch": epoch + 1,
        "train_loss": stats.loss,
        **({} if stats.top1 is None else {"train_top1": stats.top1}),
        **{f"val_{name}": value for name, value in val_metrics.items()},
        "lr": list(rates.values()),
        "lr_names": list(rates),
        "images_per_second": stats.images / stats.seconds,
        "seconds": stats.seconds,
        "skipped_steps": stats.skipped_steps,
    }
