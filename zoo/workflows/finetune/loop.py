"""The epochs of a run: train, validate, save the best weights and the state."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from zoo.atomic_io import defer_interrupts
from zoo.errors import Interrupted, TrainingError, ZooError
from zoo.progress import TrainingProgress, duration
from zoo.run import Run
from zoo.training.distributed import broadcast_object, gather_object, lost_process_error
from zoo.training.trainer import EpochStats
from zoo.workflows.finetune import evaluation, oom, record, transfer
from zoo.workflows.finetune.checkpoint import CheckpointWriter
from zoo.workflows.finetune.early_stopping import best_entry, best_epoch_text, is_better, out_of_patience
from zoo.workflows.finetune.feature_cache import apply_feature_cache
from zoo.workflows.finetune.image_cache import apply_image_cache
from zoo.workflows.finetune.linear_probing import fit
from zoo.workflows.finetune.linear_probing.compare import choose_probe_or_tuned
from zoo.workflows.finetune.session import TrainingSession, ValidationResult

OnEpoch = Callable[[dict[str, Any]], None]


@dataclass
class _TrainingState:
    """The progress of a run. unreadable: files that proved unreadable during training."""

    best: dict[str, Any] | None
    rows: list[dict[str, Any]]
    outcome: ValidationResult | None = None
    unreadable: set[str] = field(default_factory=set)


def train(
    run: Run,
    session: TrainingSession,
    *,
    first: int | None,
    best: dict[str, Any] | None,
    progress: bool,
    on_epoch: OnEpoch | None = None,
) -> Run:
    """Train from epoch `first` (counted from 0) to the recipe's last, or until early stopping.

    Args:
        run: where everything is written.
        session: what `build_session` built.
        first: None for a new run; on resume the number of finished epochs, whose state the trainer holds.
        best: on resume the entry of the best epoch in run.json.
        progress: whether to print on stderr.
        on_epoch: called with each row of metrics.jsonl after it is written; a ZooError that it raises ends the run.

    Raises:
        TrainingError: a loss is not finite, the disk refuses, or the device has too little memory.
        Interrupted: Ctrl-C. In each case run.json has the reason, and the best weights and the last checkpoint stay.
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
                    if out_of_patience(epoch, state.best, recipe.train.patience):
                        display.log(
                            f"early stopping after epoch {epoch}: no better {monitor} in {recipe.train.patience} epochs"
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
            _after_last_epoch(run, session, state, display.log)
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
            f"interrupted in epoch {min(done + 1, epochs)} of {epochs}; {run.path} has the {done} finished epochs",
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
    """The steps before the first epoch. The result of the linear-probing phase counts as epoch 0."""
    outcome = transfer.begin(run, session, display.log)
    if outcome is not None and math.isfinite(outcome.values["loss"]):
        row = {"epoch": 0, **{f"val_{name}": value for name, value in outcome.values.items()}}
        state.best = best_entry(row, session.recipe.train.monitor, None)
        state.outcome = outcome
    # Fitting a linear probe takes seconds and is repeated after an interruption, so it needs no checkpoint.
    checkpoints.start(state.best, weights=state.best is not None, checkpoint=not session.fits_linear_probe)


def _after_last_epoch(run: Run, session: TrainingSession, state: _TrainingState, log: Callable[[str], None]) -> None:
    """Choose the final weights, and fit a linear probe again if the recipe asks for it."""
    if state.best is not None:
        state.best, state.outcome = transfer.finish(run, session, state.best, state.outcome, log)
        if session.recipe.transfer.compare_probe == "on":
            state.best, state.outcome = choose_probe_or_tuned(run, session, state.best, state.outcome, log)
    if session.recipe.train.refit == "on":
        fit.refit_linear_probe(run, session, log)


def _run_epoch(
    run: Run,
    session: TrainingSession,
    epoch: int,
    state: _TrainingState,
    display: TrainingProgress,
    checkpoints: CheckpointWriter,
) -> tuple[dict[str, Any], bool]:
    """Train, validate and write; the row of metrics.jsonl, and whether the epoch is the best so far."""
    recipe, trainer = session.recipe, session.trainer
    monitor = recipe.train.monitor
    transfer.before_epoch(session)
    if session.fits_linear_probe:
        lrs, stats = {}, fit.run_linear_probe(run, session, display.log)
    else:
        lrs, stats = trainer.learning_rates(), trainer.train_epoch(session.train, epoch, display.batch)
    accumulator = evaluation.validation_accumulator(session)
    outcome = evaluation.compute_metrics(accumulator, trainer.evaluate(session.val, accumulator))
    row = broadcast_object(_row(epoch, stats, outcome.values, lrs))
    _check_finite(row)
    trainer.schedule.after_epoch(row[f"val_{recipe.schedule.monitor or monitor}"])
    improved = is_better(row, monitor, state.best)
    state.rows.append(row)
    with defer_interrupts():
        if improved:
            state.best = best_entry(row, monitor, state.best)
            state.outcome = outcome
        checkpoints.epoch(epoch + 1, state.rows, state.best, improved=improved)
    return row, improved


def _log_unreadable(run: Run, session: TrainingSession, state: _TrainingState, display: TrainingProgress) -> None:
    skipped = gather_object([*session.train.problems, *session.val.problems])
    for bad in skipped:
        if bad.path not in state.unreadable:
            display.log(f"  skipped {bad}")
    if len(skipped) > len(state.unreadable):
        record.skipped_files(run, session.data, skipped)
        state.unreadable = {bad.path for bad in skipped}


def _check_finite(row: dict[str, Any]) -> None:
    if not math.isfinite(row["val_loss"]):
        raise TrainingError(
            f"the validation loss became {row['val_loss']} in epoch {row['epoch']}",
            "the best weights so far are saved; try a lower --lr or --clip-grad 1",
        )


def _row(epoch: int, stats: EpochStats, val_metrics: dict[str, float], lrs: dict[str, float]) -> dict[str, Any]:
    """One line of metrics.jsonl; the learning rates are those at the start of the epoch."""
    return {
        "epoch": epoch + 1,
        "train_loss": stats.loss,
        **({} if stats.top1 is None else {"train_top1": stats.top1}),
        **{f"val_{name}": value for name, value in val_metrics.items()},
        "lr": list(lrs.values()),
        "lr_names": list(lrs),
        "images_per_second": stats.images / stats.seconds,
        "seconds": stats.seconds,
        "skipped_steps": stats.skipped_steps,
    }
