"""`zoo lr-find`: the learning-rate range test with the model, data and recipe of a run; nothing is saved."""

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
from zoo.workflows.finetune import transfer
from zoo.workflows.finetune.build import build_session
from zoo.workflows.finetune.feature_cache import apply_feature_cache
from zoo.workflows.finetune.oom import translate_out_of_memory
from zoo.workflows.finetune.options import make_recipe

_MIN_STEPS = 20


@dataclass(frozen=True)
class LrFindResult:
    """The curve of a range test and the suggested learning rate.

    lrs: `optimizer.lr` at each step. losses: of the batches of that step. smoothed: their exponential moving average.
    suggestion: the learning rate to train with, None if the curve supports none; `reason` explains it. head_lr: the
    matching optimizer.head_lr if the recipe has one. steepest, lowest: the learning rates where the smoothed loss falls
    fastest and is lowest. ended: "steps", "diverged" or "not finite". notes: sentences for the reader.
    """

    lrs: tuple[float, ...]
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
    """Train for up to `steps` steps while `optimizer.lr` rises from `low` to `high` by a constant factor.

    The test starts where the epochs of the run would: after the linear-probing phase of LP-FT. Other learning rates
    (head_lr, layer_decay, optimizer.groups) keep their ratio to optimizer.lr. Schedule, EMA and gradual unfreezing are
    turned off. The data are repeated as often as needed. The test stops early when the smoothed loss exceeds 4 times
    its lowest value, or is not finite. Weights, files and runs are not changed.

    Args:
        model: a model name or a complete recipe.
        low: first learning rate.
        high: last learning rate.
        steps: number of optimizer steps.
        plot: a PNG file to draw the curve into.
        progress: whether to print on stderr.
        options: the options of `finetune`.

    Raises:
        ZooError: any problem that the caller can fix.
    """
    _check(low, high, steps)
    picture = None if plot is None else check_output_path(Path(plot), "lr.png")
    recipe = model if isinstance(model, Recipe) else make_recipe(model, **options)
    own_lrs = any(g.lr is not None for g in recipe.optimizer.groups)
    session = build_session(_range_test_recipe(recipe), progress=False)
    size, lr = int(session.recipe.data.batch_size), session.recipe.optimizer.lr
    trainer, data = session.trainer, session.data
    log = TrainingProgress(0, quiet=not progress).log
    trainable = sum(g.trainable for g in session.plan.groups)
    log(
        f"{session.model.name} on {data.name}: {trainable:,} trainable parameters, {recipe.optimizer.name}, "
        f"batch size {size}, {steps} steps at learning rates from {low:g} to {high:g}"
    )

    def watch(numbers: range) -> Iterable[int]:
        return track(numbers, "learning rates") if progress else numbers

    # The steps before the first epoch may save the initial weights in a run: here a temporary one.
    with translate_out_of_memory(session), tempfile.TemporaryDirectory(prefix="zoo-lr-find-") as folder:
        transfer.begin(Run(Path(folder)), session, log)
        session = apply_feature_cache(session, log)
        transfer.before_epoch(session)
        test = range_test(trainer, session.train, lr_grid(low, high, steps), base=lr, watch=watch)
    advice, head_lr = suggest(test), session.recipe.optimizer.head_lr
    if picture is not None:
        from zoo.reports.lr_pictures import lr_curve

        lr_curve(test.lrs, test.losses, test.smoothed, picture, suggestion=advice.lr)
    return LrFindResult(
        lrs=test.lrs,
        losses=test.losses,
        smoothed=test.smoothed,
        suggestion=advice.lr,
        head_lr=None if advice.lr is None or head_lr is None else advice.lr * head_lr / lr,
        steepest=advice.steepest,
        lowest=advice.lowest,
        reason=advice.reason,
        ended=test.ended,
        plot=picture,
        notes=tuple(_notes(recipe, test, advice, high, len(session.train), own_lrs)),
    )


def _check(low: float, high: float, steps: int) -> None:
    if not (0 < low < high and math.isfinite(high)):
        raise UsageError(f"learning rates from {low:g} to {high:g}", "give 0 < --min < --max")
    if steps < _MIN_STEPS:
        raise UsageError(f"--steps {steps} is too few for a curve", f"give {_MIN_STEPS} or more")


def _range_test_recipe(recipe: Recipe) -> Recipe:
    """The recipe without settings that change learning rates, or that have no effect in so few steps."""
    changes: dict[str, Any] = {
        "schedule": {"name": "constant"}, "train.model_ema": False, "train.linear_probe": "off",
        "transfer.unfreeze_every": None, "transfer.wise_ft": False,
    }  # fmt: skip
    return build(recipe.model_dump(), changes)


def _notes(recipe: Recipe, test: RangeTest, advice: Suggestion, high: float, batches: int, own_lrs: bool) -> list[str]:
    notes = []
    steps_per_epoch = math.ceil(batches / recipe.train.grad_accum_steps)
    if len(test.lrs) > 3 * steps_per_epoch:
        notes.append(
            f"the {len(test.lrs)} steps are {len(test.lrs) / steps_per_epoch:.0f} epochs: the loss falls in part "
            "because the model has seen the images before"
        )
    if advice.lr is not None and test.ended == "steps" and advice.lowest == test.lrs[-1]:
        notes.append(f"the loss was still falling at {high:g}: a higher --max may give a higher learning rate")
    if own_lrs:
        notes.append("optimizer.groups with their own lr were scaled in proportion: change them by the same factor")
    if recipe.transfer.unfreeze_every is not None:
        notes.append("transfer.unfreeze_every was turned off: all groups that are unfrozen at some time were trained")
    return notes
