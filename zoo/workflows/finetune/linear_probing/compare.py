"""Whether fine-tuning was better than the linear probe that it started from, on the held-out images."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from zoo import metrics
from zoo.metrics.statistics import Collected
from zoo.run import Run
from zoo.training.distributed import broadcast_tensors
from zoo.workflows.finetune.evaluation import evaluate_weights
from zoo.workflows.finetune.session import TrainingSession, ValidationResult


def choose_probe_or_tuned(
    run: Run, session: TrainingSession, best: dict[str, Any], outcome: ValidationResult, log: Callable[[str], None]
) -> tuple[dict[str, Any], ValidationResult]:
    """The fine-tuned weights only if their loss per held-out image is lower by more than one standard error, otherwise
    the linear probe; and the validation result of the choice.

    With few held-out images the best of many epochs looks better than it is. The one-standard-error rule in favour of
    the smaller change: Breiman et al. 1984, Classification and Regression Trees, section 3.4.3. The losses are compared
    image by image: cross-entropy, binary cross-entropy or squared error.

    best: the entry of the best epoch. outcome: its validation result.
    """
    monitor, trainer, task = best["monitor"], session.trainer, session.task
    probe_weights = broadcast_tensors(run.start, trainer.weights())
    probe = evaluate_weights(session, probe_weights, collect=True)
    if best["epoch"]:
        tuned_weights = broadcast_tensors(run.weights, trainer.weights())
        tuned = evaluate_weights(session, tuned_weights, collect=True)
        before, after = (r.accumulator.statistic(Collected) for r in (probe, tuned))
        gain = task.image_losses(before.outputs, before.targets) - task.image_losses(after.outputs, after.targets)
        error = float(gain.std(correction=0)) / math.sqrt(len(gain))
        wins = float(gain.mean()) > error
        compared = {"images": len(gain), "gain": float(gain.mean()), "standard_error": error, "chosen": _NAMES[wins]}
        run.update(probe_comparison={**compared, "probe": probe.values, "fine_tuned": tuned.values})
    else:
        tuned, wins = None, False
    values = [_text(monitor, result) for result in (probe, tuned) if result is not None]
    verdict = f"{_NAMES[wins]} is used"
    if tuned is None:
        log(f"linear probe {values[0]} on held-out images, and no epoch of fine-tuning is better: {verdict}")
        return best, outcome
    log(f"linear probe {values[0]}, fine-tuning {values[1]} on held-out images: {verdict}")
    if wins:
        return best, outcome
    run.save_weights(probe_weights)
    best = {**best, "epoch": 0, "reached": 0, "value": probe.values[monitor], "val_loss": probe.values["loss"]}
    run.update(best=best)
    return best, probe


_NAMES = {False: "the linear probe", True: "the fine-tuned model"}


def _text(monitor: str, result: ValidationResult) -> str:
    """The metric; of a share of correct images with its standard error."""
    value = result.values[monitor]
    if not metrics.is_fraction(monitor):
        return f"{monitor} {value:.4g}"
    error = math.sqrt(max(value * (1 - value), 0.0) / max(result.accumulator.images, 1))
    return f"{value:.0%} ± {error:.0%}"
