"""The learning-rate finder: a range test with a few steps at increasing learning rates.

Smith 2017 ("Cyclical Learning Rates", 1506.01186, section 3.3) increases the learning rate linearly; here it grows by a
constant factor, as in fastai (`fastai.callback.schedule.LRFinder`), because useful values differ by orders of
magnitude.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from itertools import islice, pairwise

import torch
from torch import Tensor

from zoo.errors import TrainingError
from zoo.training.batches import Batches
from zoo.training.trainer import Trainer

# fastai's: `AvgSmoothLoss(beta=0.98)` and "smooth_loss > 4 * best_loss" in `LRFinder.after_batch`.
SMOOTHING = 0.98
DIVERGENCE_FACTOR = 4.0


@dataclass(frozen=True)
class RangeTest:
    """For each step: learning rate, loss, and smoothed loss.

    ended: "steps" (all learning rates were tried), "diverged" (the smoothed loss exceeded DIVERGENCE_FACTOR times its
    minimum) or "not finite" (the last loss is nan).
    """

    lrs: tuple[float, ...]
    losses: tuple[float, ...]
    smoothed: tuple[float, ...]
    ended: str


def lr_grid(low: float, high: float, steps: int) -> list[float]:
    """`steps` learning rates from `low` to `high`, with a constant factor."""
    return [low * (high / low) ** (k / (steps - 1)) for k in range(steps)]


def range_test(
    trainer: Trainer,
    batches: Batches,
    lrs: Sequence[float],
    *,
    base: float,
    watch: Callable[[range], Iterable[int]] = iter,
) -> RangeTest:
    """Train on `batches`, repeatedly, with one step at each of `lrs`.

    base: the learning rate that the optimizer's groups refer to. At r, each group uses its own times r / base.
    The trainer's accumulation, clipping and penalty apply; its schedule does not. watch: iterates over the step
    numbers, to show progress. The trainer and the CPU's random state are restored. Raises TrainingError if there are no
    images.
    """
    groups = trainer.optimizer.param_groups
    group_lrs = [float(group["lr"]) for group in groups]
    losses: list[float] = []
    smoothed: list[float] = []
    ended = "steps"
    with _preserve_trainer(trainer), closing(_cycle(batches)) as stream:
        for number in watch(range(len(lrs))):
            step_batches = _StepBatches(list(islice(stream, trainer.grad_accum_steps)))
            for group, lr in zip(groups, group_lrs, strict=True):
                group["lr"] = lr * lrs[number] / base
            try:
                # An epoch of one step; its number seeds dropout.
                losses.append(trainer.train_epoch(step_batches, number).loss)
            except TrainingError:  # the loss is not finite; no step was taken
                losses.append(math.nan)
                ended = "not finite"
            smoothed = smooth(losses)
            if ended == "steps" and smoothed[-1] > DIVERGENCE_FACTOR * min(smoothed) > 0:
                ended = "diverged"
            if ended != "steps":
                break
    return RangeTest(tuple(lrs[: len(losses)]), tuple(losses), tuple(smoothed), ended)


def smooth(losses: Sequence[float]) -> list[float]:
    """Exponential moving averages with bias correction (Kingma and Ba 2015, section 3), as fastai's AvgSmoothLoss."""
    found, mean = [], 0.0
    for n, loss in enumerate(losses, 1):
        mean = SMOOTHING * mean + (1 - SMOOTHING) * loss
        found.append(mean / (1 - SMOOTHING**n))
    return found


class _StepBatches(list[tuple[Tensor, Tensor]]):
    """The batches of one step."""

    def set_epoch(self, epoch: int) -> None:
        """The order is that of the endless stream."""


def _cycle(batches: Batches) -> Generator[tuple[Tensor, Tensor], None, None]:
    epoch = 0
    while True:
        batches.set_epoch(epoch)
        empty = True
        for batch in batches:
            empty = False
            yield batch
        if empty:
            raise TrainingError("an epoch without images", "check the data: no file could be read")
        epoch += 1


@contextmanager
def _preserve_trainer(trainer: Trainer) -> Iterator[None]:
    tensors = {name: tensor.detach().clone() for name, tensor in trainer.tensors().items()}
    values = trainer.values()
    lrs = [group["lr"] for group in trainer.optimizer.param_groups]
    with torch.random.fork_rng(devices=[]):
        try:
            yield
        finally:
            trainer.load(tensors, values)
            trainer.optimizer.zero_grad(set_to_none=True)
            for group, lr in zip(trainer.optimizer.param_groups, lrs, strict=True):
                group["lr"] = lr


# --- suggestion ------------------------------------------------------------------------------------------------------

# The decrease must exceed this many standard errors. Of 3,000 random curves of 30 to 200 points without a decrease, at
# most 0.7% (normal) and 0.2% (exponential, lognormal) pass; more than in one comparison, because the minimum is chosen.
_SIGNIFICANT = 3.5
_MIN_STEPS = 12  # fewer leave no start to compare the minimum with


@dataclass(frozen=True)
class Suggestion:
    """lr: the suggestion; None if there is none, for the `reason`. steepest: where the loss decreases fastest over
    the logarithm of the learning rate; lowest: its minimum; lowest / 10 and steepest are fastai's rules."""

    lr: float | None
    steepest: float | None
    lowest: float | None
    reason: str = ""


def suggest(test: RangeTest) -> Suggestion:
    """The learning rate that the curve of `test` suggests, or why there is none."""
    lrs, smoothed = test.lrs, test.smoothed
    finite = sum(map(math.isfinite, test.losses))
    if finite < _MIN_STEPS:
        return Suggestion(None, None, None, f"the loss diverged after {finite} steps: start at a lower learning rate")
    # The first averages are noise; fastai skips the same 10%.
    start = max(finite // 10, 5)
    lowest = min(range(start, finite), key=lambda i: smoothed[i])
    noise = _noise(test.losses[: max(lowest + 1, _MIN_STEPS)])
    # On the way to the minimum: the first half against the last quarter. A model that fits the data already, as after
    # LP-FT, improves late and by little, which a mean over the first few losses would miss.
    half, quarter = max((lowest + 1) // 2, start), max((lowest + 1) // 4, 5)
    before = sum(test.losses[:half]) / half
    fall = before - sum(test.losses[lowest + 1 - quarter : lowest + 1]) / quarter
    error = noise * math.sqrt(1 / half + 1 / quarter)
    if half + quarter > lowest + 1 or fall <= _SIGNIFICANT * error:
        return Suggestion(None, None, None, _no_suggestion_reason(test, before, fall, error))
    steepest = _steepest(lrs, test.losses, lowest, width=half)
    # With a small decrease, the steepest part may be anywhere in the flat start.
    floor = lrs[lowest] / 100 if fall <= 2 * _SIGNIFICANT * error else 0.0
    found = min(lrs[lowest] / 10, max(lrs[steepest], floor))
    return Suggestion(found, lrs[steepest], lrs[lowest])


def _no_suggestion_reason(test: RangeTest, before: float, fall: float, error: float) -> str:
    numbers = f"it decreased from {before:.2g} by {max(fall, 0.0):.2g}, with a standard error of {error:.2g}"
    if test.ended == "steps":
        return f"the curve is flat: {numbers}"
    return f"the loss diverged at a learning rate of {test.lrs[-1]:.1g} without a clear decrease before: {numbers}"


def _steepest(lrs: Sequence[float], losses: Sequence[float], last: int, *, width: int) -> int:
    """The middle of the `width` steps, up to `last`, with the steepest regression line over log(lr)."""

    def slope(begin: int) -> float:
        xs = [math.log(lr) for lr in lrs[begin : begin + width]]
        ys = losses[begin : begin + width]
        middle, mean = sum(xs) / width, sum(ys) / width
        return sum((x - middle) * (y - mean) for x, y in zip(xs, ys, strict=True)) / sum((x - middle) ** 2 for x in xs)

    return min(range(max(last + 2 - width, 1)), key=slope) + width // 2


def _noise(losses: Sequence[float]) -> float:
    """Standard deviation around the trend, from successive differences (von Neumann 1941)."""
    differences = [(b - a) ** 2 for a, b in pairwise(losses)]
    return math.sqrt(sum(differences) / (2 * len(differences)))
