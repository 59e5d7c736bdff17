"""`zoo schedule`: the learning rates of a run, update by update, before it is trained."""

from __future__ import annotations

import math
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from typing_extensions import Unpack

from zoo.console import track
from zoo.optim import SCHEDULES
from zoo.optim.param_groups import NO_DECAY
from zoo.optim.schedule_validation import PLATEAUS, class_name, find_entry
from zoo.options import Options
from zoo.recipe import Recipe, build, load_values
from zoo.registry import resolve
from zoo.workflows.finetune.run import TrainingSession, build_session, resolve_options

__all__ = ["ScheduleCurves", "schedule"]

_DEFAULT_MODEL = "zoo_tiny"


@dataclass(frozen=True, eq=False)
class ScheduleCurves:
    """The learning rate of every update of a run.

    name: of the schedule. names: of the parameter groups, those with and without weight decay as one; parameters: how
    many learn in each. rates: (groups, epochs · updates) float64, in the order of the run. steps_per_epoch: in an
    epoch. warmup: updates of warm-up. notes: what a reader of the figures should know, a sentence each.
    """

    name: str
    names: tuple[str, ...]
    parameters: tuple[int, ...]
    rates: NDArray[np.float64]
    epochs: int
    steps_per_epoch: int
    warmup: int
    plot: Path | None
    notes: tuple[str, ...]

    def by_epoch(self) -> NDArray[np.float64]:
        """(epochs, groups): the rates with which each epoch begins, as metrics.jsonl has them."""
        found: NDArray[np.float64] = self.rates[:, :: self.steps_per_epoch].T
        return found

    def distinct_curves(self) -> list[tuple[str, NDArray[np.float64]]]:
        """The curves that differ, each under the name of its group or the first and last of those that share it."""
        curves: dict[bytes, list[int]] = {}
        for i, curve in enumerate(self.rates):
            curves.setdefault(curve.tobytes(), []).append(i)
        return [
            (self.names[of[0]] if len(of) == 1 else f"{self.names[of[0]]} … {self.names[of[-1]]}", self.rates[of[0]])
            for of in curves.values()
        ]

    def to_dict(self) -> dict[str, Any]:
        plot = str(self.plot) if self.plot is not None else None
        return {**vars(self), "rates": self.rates.tolist(), "plot": plot}


def schedule(
    recipe: str | Path | Recipe | None = None,
    /,
    *,
    model: str | None = None,
    plot: str | Path | None = None,
    progress: bool = True,
    **options: Unpack[Options],
) -> ScheduleCurves:
    """The learning rates that `finetune` would use with the same recipe and options; nothing is trained.

    The number of updates comes from the data, the groups from the model, whose weights are not needed. What follows the
    training itself cannot be known: a plateau schedule is drawn as if the metric never improved. model: if neither it
    nor the recipe names one, the built-in `zoo_tiny` stands in. plot: where to draw the curves, as PNG.

    Raises a ZooError for anything the caller can mend.
    """
    uses_default_model = False
    if not isinstance(recipe, Recipe):
        uses_default_model = model is None and not _names_a_model(recipe, options.get("settings") or {})
        given: Options = {**options, "recipe": recipe}
        recipe = resolve_options(_DEFAULT_MODEL if uses_default_model else model, **given)
    session = build_session(_without_weights(recipe))
    trainer = session.trainer
    names: dict[str, int] = {}
    for group in trainer.optimizer.param_groups:
        name = str(group["name"]).removesuffix(NO_DECAY)
        names[name] = names.get(name, 0) + sum(p.numel() for p in group["params"])
    found = ScheduleCurves(
        name=recipe.schedule.name,
        names=tuple(names),
        parameters=tuple(names.values()),
        rates=_simulate(session, progress),
        epochs=recipe.train.epochs,
        steps_per_epoch=_steps_per_epoch(session),
        warmup=trainer.schedule.warmup,
        plot=Path(plot) if plot is not None else None,
        notes=(
            *trainer.schedule.notes,
            *_notes(recipe, session),
            *(
                [f"the groups are those of {_DEFAULT_MODEL}: name your model with --model"]
                if uses_default_model
                else []
            ),
        ),
    )
    if found.plot is not None:
        from zoo.reports.schedule_plot import schedule_plot

        schedule_plot(found.distinct_curves(), found.plot, steps_per_epoch=found.steps_per_epoch, title=found.name)
    return found


def _names_a_model(recipe: str | Path | None, settings: Mapping[str, Any]) -> bool:
    section = load_values(recipe).get("model") if recipe is not None else None
    return "model.name" in settings or (isinstance(section, dict) and bool(section.get("name")))


def _without_weights(recipe: Recipe) -> Recipe:
    """The same groups, rates and updates, without what pretrained weights or a look at all pixels are needed for."""
    changes: dict[str, Any] = {
        "model.weights": "none",
        "data.norm": "model",
        "data.intensity_range": 255,
        "transfer.start": "plain",
        "transfer.wise_ft": False,
        "train.amp": False,
        "train.feature_cache": "off",
    }
    return build(recipe.model_dump(), changes)


def _steps_per_epoch(session: TrainingSession) -> int:
    return math.ceil(len(session.train) / session.recipe.train.grad_accum_steps)


def _simulate(session: TrainingSession, progress: bool) -> NDArray[np.float64]:
    """The rates of each update, (groups, updates), from the schedule itself, told of them as the loop tells it."""
    trainer, epochs, steps_per_epoch = session.trainer, session.recipe.train.epochs, _steps_per_epoch(session)
    found = np.empty((epochs * steps_per_epoch, len(trainer.rates())))
    numbers = range(epochs)
    with warnings.catch_warnings():
        # torch's schedulers miss the optimizer's steps, of which there are none here
        warnings.filterwarnings("ignore", "Detected call of `lr_scheduler.step", UserWarning)
        for epoch in track(numbers, "epochs") if progress else numbers:
            for step in range(steps_per_epoch):
                found[epoch * steps_per_epoch + step] = list(trainer.rates().values())
                trainer.schedule.after_step()
            trainer.schedule.after_epoch(0.0)  # the same value each time: no epoch is better than the first
    return np.ascontiguousarray(found.T)


def _notes(recipe: Recipe, session: TrainingSession) -> list[str]:
    transfer, name = recipe.transfer, recipe.schedule.name
    found = []
    if class_name(find_entry(name, resolve(name, SCHEDULES, "schedule"))) in PLATEAUS:
        found.append(
            "drawn as if the metric never improved after the first epoch: the earliest that the rates can fall"
        )
    if transfer.auto_rgn:
        found.append("transfer.auto_rgn multiplies each tensor's rate by a factor that only training shows")
    if transfer.unfreeze_every is not None:
        found.append(
            f"drawn from the first epoch on, but a group learns only once it is open (transfer.unfreeze_every): one "
            f"more, from the head, every {transfer.unfreeze_every} epochs"
        )
    if transfer.start != "plain" and recipe.model.weights != "none" and _backbone_is_trained(session):
        found.append(
            f"not drawn: where the head learns first (LP-FT), it does so before the first epoch, at "
            f"{transfer.probe_lr:g} for {transfer.probe_epochs} passes"
        )
    if recipe.train.patience is not None:
        found.append(f"train.patience={recipe.train.patience} may end the run before its last epoch")
    return found


def _backbone_is_trained(session: TrainingSession) -> bool:
    names = {name for name, _ in session.model.module.named_parameters()}
    return bool(names - session.plan.frozen - set(session.model.groups[-1].parameters))
