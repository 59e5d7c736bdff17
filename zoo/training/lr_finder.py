"""The learning-rate range test: a few updates at ever higher rates show which rates a training can use.

Smith 2017 ("Cyclical Learning Rates", 1506.01186, section 3.3) raises the rate in a straight line; Howard and Gugger's
fastai (2018; `fastai.callback.schedule.LRFinder`, `learn.lr_find`) raises it by a constant factor, as here, since
useful rates lie orders of magnitude apart.
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
from zoo.training.trainer import Batches, Trainer

__all__ = ["DIVERGENCE_FACTOR", "SMOOTHING", "RangeTest", "Suggestion", "lr_grid", "range_test", "smooth", "suggest"]

# fastai's: `AvgSmoothLoss(beta=0.98)` and "smooth_loss > 4 * best_loss" in `LRFinder.after_batch`.
SMOOTHING = 0.98
DIVERGENCE_FACTOR = 4.0


@dataclass(frozen=True)
class RangeTest:
    """What each update met: its rate, the loss of its batches before it, and the mean of the losses so far.

    ended: "steps" (all rates were tried), "diverged" (the mean exceeded DIVERGED times its lowest) or "not finite" (the
    last loss is then nan, and no update followed it).
    """

    rates: tuple[float, ...]
    losses: tuple[float, ...]
    smoothed: tuple[float, ...]
    ended: str


def lr_grid(low: float, high: float, steps: int) -> list[float]:
    """`steps` rates from `low` to `high`, each the same factor above the one before."""
    return [low * (high / low) ** (k / (steps - 1)) for k in range(steps)]


def range_test(
    trainer: Trainer,
    batches: Batches,
    rates: Sequence[float],
    *,
    base: float,
    watch: Callable[[range], Iterable[int]] = iter,
) -> RangeTest:
    """Train on `batches`, over and over, with one update at each of `rates`.

    base: the rate that the trainer's optimizer groups refer to; at a rate r each group learns at its own, times
    r / base. An update is the trainer's own, with its accumulation, clipping and penalty; the schedule is overruled.
    watch goes through the numbers of the updates, for whoever wants to show progress.

    The trainer comes out as it went in: weights, statistics, optimizer, schedule, averages; the CPU's random state too.
    Raises TrainingError if the batches hold no image.
    """
    groups = trainer.optimizer.param_groups
    group_lrs = [float(group["lr"]) for group in groups]
    losses: list[float] = []
    smoothed: list[float] = []
    ended = "steps"
    with _preserve_trainer(trainer), closing(_cycle(batches)) as stream:
        for number in watch(range(len(rates))):
            step_batches = _StepBatches(list(islice(stream, trainer.grad_accum_steps)))
            for group, lr in zip(groups, group_lrs, strict=True):
                group["lr"] = lr * rates[number] / base
            try:
                # An "epoch" of one update; its number seeds dropout.
                losses.append(trainer.train_epoch(step_batches, number).loss)
            except TrainingError:  # raised by a loss that is not finite, before it could be learned from
                losses.append(math.nan)
                ended = "not finite"
            smoothed = smooth(losses)
            if ended == "steps" and smoothed[-1] > DIVERGENCE_FACTOR * min(smoothed) > 0:
                ended = "diverged"
            if ended != "steps":
                break
    return RangeTest(tuple(rates[: len(losses)]), tuple(losses), tuple(smoothed), ended)


def smooth(losses: Sequence[float]) -> list[float]:
    """Exponentially weighted means with weight BETA on the past, divided by 1 - BETA^n, so that the first few are means
    as well (the bias correction of Kingma and Ba 2015, section 3; so does fastai's AvgSmoothLoss)."""
    found, mean = [], 0.0
    for n, loss in enumerate(losses, 1):
        mean = SMOOTHING * mean + (1 - SMOOTHING) * loss
        found.append(mean / (1 - SMOOTHING**n))
    return found


class _StepBatches:
    """The batches of one update."""

    def __init__(self, batches: list[tuple[Tensor, Tensor]]) -> None:
        self.batches = batches

    def __len__(self) -> int:
        return len(self.batches)

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        return iter(self.batches)

    def set_epoch(self, epoch: int) -> None:
        """The order is the endless stream's."""


def _cycle(batches: Batches) -> Generator[tuple[Tensor, Tensor], None, None]:
    epoch = 0
    while True:
        batches.set_epoch(epoch)
        empty = True
        for batch in batches:
            empty = False
            yield batch
        if empty:
            raise TrainingError("an epoch without a single image", "check the data: every file proved unreadable")
        epoch += 1


@contextmanager
def _preserve_trainer(trainer: Trainer) -> Iterator[None]:
    tensors = {name: tensor.detach().clone() for name, tensor in trainer.tensors().items()}
    values = trainer.values()
    rates = [group["lr"] for group in trainer.optimizer.param_groups]
    with torch.random.fork_rng(devices=[]):
        try:
            yield
        finally:
            trainer.load(tensors, values)
            trainer.optimizer.zero_grad(set_to_none=True)
            for group, lr in zip(trainer.optimizer.param_groups, rates, strict=True):
                group["lr"] = lr


# --- what the curve says ---------------------------------------------------------------------------------------------

# The fall must exceed this many standard errors of the means that are compared. Of 3,000 curves of 30, 60, 100 or 200
# independent draws without any fall at most 0.7 % (normal) and 0.2 % (exponential, lognormal) pass; so many more than
# of one comparison, because the lowest point is chosen. tests/training/test_lr_finder.py draws some.
_SIGNIFICANT = 3.5
_MIN_STEPS = 12  # updates; fewer leave no start to compare the lowest point with


@dataclass(frozen=True)
class Suggestion:
    """rate: the one to train with, None if the curve supports none, for the `reason` given (else it is empty).

    steepest: where the loss falls fastest in the logarithm of the rate; lowest: where it is lowest, and
    lowest / 10: fastai's two classical rules ("steep", "minimum"). None where no fall was found.
    """

    rate: float | None
    steepest: float | None
    lowest: float | None
    reason: str = ""


def suggest(test: RangeTest) -> Suggestion:
    """Which rate the curve of `test` recommends, or why it recommends none."""
    rates, smoothed = test.rates, test.smoothed
    finite = sum(map(math.isfinite, test.losses))
    if finite < _MIN_STEPS:
        return Suggestion(None, None, None, f"the loss broke after {finite} updates: begin at a lower rate")
    # The first means are of so few losses that they are noise; fastai leaves the same tenth out.
    start = max(finite // 10, 5)
    lowest = min(range(start, finite), key=lambda i: smoothed[i])
    noise = _noise(test.losses[: max(lowest + 1, _MIN_STEPS)])
    # On the way to the lowest point: the first half against the last quarter. A start that fits the data already, as
    # LP-FT's, falls late and by little, which a mean over a few first losses would miss.
    half, quarter = max((lowest + 1) // 2, start), max((lowest + 1) // 4, 5)
    before = sum(test.losses[:half]) / half
    fall = before - sum(test.losses[lowest + 1 - quarter : lowest + 1]) / quarter
    error = noise * math.sqrt(1 / half + 1 / quarter)
    if half + quarter > lowest + 1 or fall <= _SIGNIFICANT * error:
        return Suggestion(None, None, None, _no_suggestion_reason(test, before, fall, error))
    steepest = _steepest(rates, test.losses, lowest, width=half)
    # Where the fall is faint, the steepest stretch may lie anywhere in the flat part before it.
    floor = rates[lowest] / 100 if fall <= 2 * _SIGNIFICANT * error else 0.0
    found = min(rates[lowest] / 10, max(rates[steepest], floor))
    return Suggestion(found, rates[steepest], rates[lowest])


def _no_suggestion_reason(test: RangeTest, before: float, fall: float, error: float) -> str:
    numbers = f"from {before:.2g} it fell by {max(fall, 0.0):.2g}, and its noise is {error:.2g}"
    if test.ended == "steps":
        return f"the curve is flat: {numbers}"
    return f"the loss broke at a rate of {test.rates[-1]:.1g} without a clear fall before: {numbers}"


def _steepest(rates: Sequence[float], losses: Sequence[float], last: int, *, width: int) -> int:
    """The middle of the `width` updates, none behind `last`, over which the losses fall fastest in the logarithm of the
    rate, by a straight line through them: the slope from one update to the next is noise."""

    def slope(begin: int) -> float:
        xs = [math.log(rate) for rate in rates[begin : begin + width]]
        ys = losses[begin : begin + width]
        middle, mean = sum(xs) / width, sum(ys) / width
        return sum((x - middle) * (y - mean) for x, y in zip(xs, ys, strict=True)) / sum((x - middle) ** 2 for x in xs)

    return min(range(max(last + 2 - width, 1)), key=slope) + width // 2


def _noise(losses: Sequence[float]) -> float:
    """Standard deviation of the losses about their trend, from successive differences (von Neumann 1941)."""
    differences = [(b - a) ** 2 for a, b in pairwise(losses)]
    return math.sqrt(sum(differences) / (2 * len(differences)))
