"""`zoo lr-find`: the learning-rate range test on a run's own model, data and recipe; nothing is kept of it."""

from __future__ import annotations

import math
import tempfile
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from typing_extensions import Unpack

from zoo.atomic_io import check_output_path
from zoo.console import track
from zoo.errors import UsageError
from zoo.options import Options
from zoo.progress import TrainingProgress
from zoo.recipe import Recipe, build
from zoo.run import Run
from zoo.training.lr_finder import RangeTest, Suggestion, lr_grid, range_test, suggest
from zoo.workflows.finetune import oom, transfer
from zoo.workflows.finetune.feature_cache import apply_feature_cache
from zoo.workflows.finetune.options import make_recipe
from zoo.workflows.finetune.run import build_session

__all__ = ["LrFindResult", "lr_find"]

_MIN_STEPS = 20


@dataclass(frozen=True)
class LrFindResult:
    """The curve of a range test and what it recommends.

    rates: of `optimizer.lr` at each update; losses: of that update's batches; smoothed: their weighted mean so far.
    suggestion: the rate to train with; None if the curve supports none, for the `reason` given. head_lr: what belongs
    to it if the recipe has an optimizer.head_lr. steepest, lowest: where the smoothed loss falls fastest and is lowest.
    ended: "steps", "diverged" or "not finite". notes: what a reader of the figures should know, a sentence each.
    """

    rates: tuple[float, ...]
    losses: tuple[float, ...]
    smoothed: tuple[float, ...]
    suggestion: float | None
    head_lr: float | None
    steepest: float | None
    lowest: float | None
    reason: str
    ended: str
    plot: Path | None
    notes: tuple[str, ...]

    def to_dict(self) -> dict[str, Any]:
        return {**asdict(self), "plot": str(self.plot) if self.plot is not None else None}


def lr_find(
    model: str | Recipe | None = None,
    *,
    low: float = 1e-7,
    high: float = 10.0,
    steps: int = 100,
    plot: str | Path | None = None,
    progress: bool = True,
    **options: Unpack[Options],
) -> LrFindResult:
    """Train for up to `steps` updates while `optimizer.lr` rises from `low` to `high`, each time by the same factor.

    model and options are those of `finetune`. The test begins where the run's epochs would: behind the head's own start
    (LP-FT). Rates of other groups (head_lr, layer_decay, optimizer.groups) keep their ratio to optimizer.lr. Schedule,
    moving average and gradual unfreezing are left out. Data that end are begun again. It stops early when the smoothed
    loss exceeds 4 times its lowest, or is not finite. Weights, files and runs stay as they are; plot: where to draw the
    curve, as PNG.

    Raises a ZooError for anything the caller can mend.
    """
    _check(low, high, steps)
    picture = None if plot is None else check_output_path(Path(plot), "lr.png")
    recipe = model if isinstance(model, Recipe) else make_recipe(model, **options)
    own_rates = any(g.lr is not None for g in recipe.optimizer.groups)
    session = build_session(_range_test_recipe(recipe), progress=False)
    size, rate = int(session.recipe.data.batch_size), session.recipe.optimizer.lr
    trainer, data = session.trainer, session.data
    log = TrainingProgress(0, quiet=not progress).log
    trainable = sum(g.trainable for g in session.plan.groups)
    log(
        f"{session.model.name} on {data.name}: {trainable:,} parameters learn, {recipe.optimizer.name}, "
        f"batches of {size}, {steps} updates at rates from {low:g} to {high:g}"
    )

    def watch(numbers: range) -> Iterable[int]:
        return track(numbers, "rates") if progress else numbers

    # What comes before a run's first epoch may want a run to keep its start in; this one lasts as long as the test.
    try:
        with tempfile.TemporaryDirectory(prefix="zoo-lr-find-") as folder:
            transfer.begin(Run(Path(folder)), session, log)
            session = apply_feature_cache(session, log)
            transfer.before_epoch(session)
            test = range_test(trainer, session.train, lr_grid(low, high, steps), base=rate, watch=watch)
    except (RuntimeError, MemoryError) as e:
        known = oom.out_of_memory_error(e, session)
        if known is None:
            raise
        raise known from e
    advice = suggest(test)
    head_lr = None
    own_head_lr = session.recipe.optimizer.head_lr
    if advice.rate is not None and own_head_lr is not None:
        head_lr = advice.rate * own_head_lr / rate
    if picture is not None:
        from zoo.reports.lr_curve import lr_curve

        lr_curve(test.rates, test.losses, test.smoothed, picture, suggestion=advice.rate)
    return LrFindResult(
        rates=test.rates,
        losses=test.losses,
        smoothed=test.smoothed,
        suggestion=advice.rate,
        head_lr=head_lr,
        steepest=advice.steepest,
        lowest=advice.lowest,
        reason=advice.reason,
        ended=test.ended,
        plot=picture,
        notes=tuple(_notes(recipe, test, advice, high, len(session.train), own_rates)),
    )


def _check(low: float, high: float, steps: int) -> None:
    if not (0 < low < high and math.isfinite(high)):
        raise UsageError(f"rates from {low:g} to {high:g}", "give 0 < --min < --max")
    if steps < _MIN_STEPS:
        raise UsageError(f"--steps {steps} are too few to see a curve", f"give {_MIN_STEPS} or more")


def _range_test_recipe(recipe: Recipe) -> Recipe:
    """Without what would change the rates, and what could not show in so few updates."""
    return build(
        recipe.model_dump(),
        {
            "schedule": {"name": "constant"},
            "train.model_ema": False,
            "train.linear_probe": "off",
            "transfer.unfreeze_every": None,
            "transfer.wise_ft": False,
        },
    )


def _notes(
    recipe: Recipe, test: RangeTest, advice: Suggestion, high: float, batches: int, own_rates: bool
) -> list[str]:
    notes = []
    steps_per_epoch = math.ceil(batches / recipe.train.grad_accum_steps)
    if len(test.rates) > 3 * steps_per_epoch:
        notes.append(
            f"the {len(test.rates)} updates went {len(test.rates) / steps_per_epoch:.0f} times over the data: "
            "part of the fall "
            "is images learned by heart"
        )
    if advice.rate is not None and test.ended == "steps" and advice.lowest == test.rates[-1]:
        notes.append(f"the loss was still falling at {high:g}: a higher --max may show a higher rate")
    if own_rates:
        notes.append(
            "optimizer.groups with an lr of their own were raised in proportion: change them by the same factor"
        )
    if recipe.transfer.unfreeze_every is not None:
        notes.append("transfer.unfreeze_every was left out: everything that will learn learned at once")
    return notes
