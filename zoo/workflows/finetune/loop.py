"""The epochs of a run: start, learn, validate, keep the best, write the state."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from zoo import metrics
from zoo.atomic_io import uninterrupted
from zoo.errors import Interrupted, TrainingError, ZooError
from zoo.progress import TrainingProgress, duration
from zoo.run import Run
from zoo.training.distributed import agree, gather_lists, translated
from zoo.training.trainer import EpochStats
from zoo.workflows.finetune import linear_probe, oom, record, transfer
from zoo.workflows.finetune.checkpoint import Saving
from zoo.workflows.finetune.feature_cache import keep
from zoo.workflows.finetune.image_cache import keep_images
from zoo.workflows.finetune.session import Prepared
from zoo.workflows.finetune.transfer import Outcome

__all__ = ["OnEpoch", "train", "when"]

OnEpoch = Callable[[dict[str, Any]], None]


@dataclass
class _Progress:
    """How far a run has come. known: files that proved unreadable while training."""

    best: dict[str, Any] | None
    rows: list[dict[str, Any]]
    outcome: Outcome | None = None
    known: set[str] = field(default_factory=set)


def train(
    run: Run,
    prepared: Prepared,
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
    recipe, trainer = prepared.recipe, prepared.trainer
    epochs, monitor = prepared.epochs, recipe.train.monitor
    state = _Progress(best, run.metrics())
    saving = Saving(run, prepared)
    start = time.perf_counter()
    try:
        with TrainingProgress(epochs, first=first or 0, quiet=not progress, monitor=monitor) as shown:
            oom.watch(run, prepared, shown.say)
            prepared = keep_images(prepared, shown.say)
            if first is None:
                _start(run, prepared, state, shown, saving)
            prepared = keep(prepared, shown.say)
            trainer.shard()
            try:
                for epoch in range(first or 0, epochs):
                    if _out_of_patience(epoch, state.best, recipe.train.patience):
                        shown.say(
                            f"no better {monitor} for {recipe.train.patience} epochs: stopped before epoch {epoch + 1}"
                        )
                        run.update(stopped_early=True)
                        break
                    row, improved = _epoch(run, prepared, epoch, state, shown, saving)
                    shown.epoch(row, best=improved)
                    _say_unreadable(run, prepared, state, shown)
                    if on_epoch is not None:
                        on_epoch(row)
            finally:
                saving.flush()
            if state.best is not None:
                state.best, state.outcome = transfer.finish(run, prepared, state.best, state.outcome, shown.say)
            seconds = time.perf_counter() - start
            record.draw(run, prepared, state.rows, state.outcome)
            record.finish(run, seconds=seconds)
            if state.best is not None:
                shown.say(f"best {monitor} {state.best['value']:.4g} {when(state.best)}, {duration(seconds)}")
    except KeyboardInterrupt:
        record.stop(run, prepared, "interrupted", state.rows, state.outcome)
        done = run.info()["epochs_done"]
        raise Interrupted(
            f"interrupted in epoch {min(done + 1, epochs)} of {epochs}; {run.path} keeps the {done} finished",
            f"continue with `zoo finetune --resume {run.path}`",
        ) from None
    except (RuntimeError, MemoryError) as e:
        known = oom.refused(e, prepared) or translated(e)
        if known is None:
            raise
        record.stop(run, prepared, "failed", state.rows, state.outcome, reason=known.message)
        raise known from e
    except ZooError as e:
        record.stop(run, prepared, "failed", state.rows, state.outcome, reason=e.message)
        raise
    return run


def _start(run: Run, prepared: Prepared, state: _Progress, shown: TrainingProgress, saving: Saving) -> None:
    """What comes before the first epoch. A head that learned first counts as epoch 0: later ones must be better."""
    outcome = transfer.begin(run, prepared, shown.say)
    if outcome is not None and math.isfinite(outcome.values["loss"]):
        row = {"epoch": 0, **{f"val_{name}": value for name, value in outcome.values.items()}}
        state.best = _entry(row, prepared.recipe.train.monitor, None)
        state.outcome = outcome
    # A head that is solved in a second is begun anew.
    saving.start(state.best, weights=state.best is not None, checkpoint=not prepared.solves)


def when(best: dict[str, Any]) -> str:
    """In which epoch the best weights came about, to follow their value in a sentence."""
    return f"in epoch {best['epoch']}" if best["epoch"] else "before the first epoch, when only the head had learned"


def _epoch(
    run: Run, prepared: Prepared, epoch: int, state: _Progress, shown: TrainingProgress, saving: Saving
) -> tuple[dict[str, Any], bool]:
    """Learn, validate and write; the row of metrics.jsonl, and whether the epoch is the best so far."""
    recipe, trainer = prepared.recipe, prepared.trainer
    monitor = recipe.train.monitor
    transfer.before_epoch(prepared)
    if prepared.solves:
        rates, stats = {}, linear_probe.solve(run, prepared, shown.say)
    else:
        rates, stats = trainer.rates(), trainer.train_epoch(prepared.train, epoch, shown.batch)
    outcome = transfer.measure(prepared, *trainer.evaluate(prepared.val))
    row = agree(_row(epoch, stats, outcome.values, rates))
    _check(row)
    trainer.schedule.after_epoch(row[f"val_{recipe.schedule.monitor or monitor}"])
    improved = _improved(row, monitor, state.best)
    state.rows.append(row)
    with uninterrupted():
        if improved:
            state.best = _entry(row, monitor, state.best)
            state.outcome = outcome
        saving.epoch(epoch + 1, state.rows, state.best, improved=improved)
    return row, improved


def _say_unreadable(run: Run, prepared: Prepared, state: _Progress, shown: TrainingProgress) -> None:
    skipped = gather_lists([*prepared.train.problems, *prepared.val.problems])
    for bad in skipped:
        if bad.path not in state.known:
            shown.say(f"  left out {bad}")
    if len(skipped) > len(state.known):
        record.left_out(run, prepared.data, skipped)
        state.known = {bad.path for bad in skipped}


def _entry(row: dict[str, Any], monitor: str, before: dict[str, Any] | None) -> dict[str, Any]:
    """What run.json says of the best epoch. reached: the first epoch with this value of the monitored metric."""
    value = row[f"val_{monitor}"]
    reached = before["reached"] if before is not None and before["value"] == value else row["epoch"]
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


def _check(row: dict[str, Any]) -> None:
    if not math.isfinite(row["val_loss"]):
        raise TrainingError(
            f"the validation loss became {row['val_loss']} in epoch {row['epoch']}",
            "the best weights so far are kept; try a lower --lr or --clip-grad 1",
        )


def _row(epoch: int, stats: EpochStats, measured: dict[str, float], rates: dict[str, float]) -> dict[str, Any]:
    """One line of metrics.jsonl; the learning rates are those with which the epoch began."""
    return {
        "epoch": epoch + 1,
        "train_loss": stats.loss,
        **({} if stats.top1 is None else {"train_top1": stats.top1}),
        **{f"val_{name}": value for name, value in measured.items()},
        "lr": list(rates.values()),
        "lr_names": list(rates),
        "images_per_second": stats.images / stats.seconds,
        "seconds": stats.seconds,
        "skipped_updates": stats.skipped_updates,
    }
