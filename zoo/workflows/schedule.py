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
from zoo.optim.schedule_validation import PLATEAUS, entry_of, owned
from zoo.recipe import Recipe, build, load_values
from zoo.registry import resolve
from zoo.workflows.finetune.options import Options
from zoo.workflows.finetune.run import Prepared, prepare, settle

__all__ = ["ScheduleCurves", "schedule"]

_STAND_IN = "zoo_tiny"


@dataclass(frozen=True, eq=False)
class ScheduleCurves:
    """The learning rate of every update of a run.

    name: of the schedule. names: of the parameter groups, those with and without weight decay as one; parameters: how
    many learn in each. rates: (groups, epochs · updates) float64, in the order of the run. updates: in an epoch.
    warmup: updates of warm-up. notes: what a reader of the figures should know, a sentence each.
    """

    name: str
    names: tuple[str, ...]
    parameters: tuple[int, ...]
    rates: NDArray[np.float64]
    epochs: int
    updates: int
    warmup: int
    plot: Path | None
    notes: tuple[str, ...]

    def by_epoch(self) -> NDArray[np.float64]:
        """(epochs, groups): the rates with which each epoch begins, as metrics.jsonl has them."""
        found: NDArray[np.float64] = self.rates[:, :: self.updates].T
        return found

    def shared(self) -> list[tuple[str, NDArray[np.float64]]]:
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
    stands_in = False
    if not isinstance(recipe, Recipe):
        stands_in = model is None and not _names_a_model(recipe, options.get("settings") or {})
        given: Options = {**options, "recipe": recipe}
        recipe = settle(_STAND_IN if stands_in else model, **given)
    prepared = prepare(_without_weights(recipe))
    trainer = prepared.trainer
    names: dict[str, int] = {}
    for group in trainer.optimizer.param_groups:
        name = str(group["name"]).removesuffix(NO_DECAY)
        names[name] = names.get(name, 0) + sum(p.numel() for p in group["params"])
    found = ScheduleCurves(
        name=recipe.schedule.name,
        names=tuple(names),
        parameters=tuple(names.values()),
        rates=_drive(prepared, progress),
        epochs=recipe.train.epochs,
        updates=_updates(prepared),
        warmup=trainer.schedule.warmup,
        plot=Path(plot) if plot is not None else None,
        notes=(
            *trainer.schedule.notes,
            *_notes(recipe, prepared),
            *([f"the groups are those of {_STAND_IN}: name your model with --model"] if stands_in else []),
        ),
    )
    if found.plot is not None:
        from zoo.reports.schedule_plot import schedule_plot

        schedule_plot(found.shared(), found.plot, updates=found.updates, title=found.name)
    return found


def _names_a_model(recipe: str | Path | None, settings: Mapping[str, Any]) -> bool:
    section = load_values(recipe).get("model") if recipe is not None else None
    return "model.name" in settings or (isinstance(section, dict) and bool(section.get("name")))


def _without_weights(recipe: Recipe) -> Recipe:
    """The same groups, rates and updates, without what pretrained weights or a look at all pixels are needed for."""
    changes: dict[str, Any] = {
        "model.weights": "none",
        "data.norm": "model",
        "data.levels": 255,
        "transfer.start": "plain",
        "transfer.wise_ft": False,
        "train.amp": False,
        "train.features": "recompute",
    }
    return build(recipe.model_dump(), changes)


def _updates(prepared: Prepared) -> int:
    return math.ceil(len(prepared.train) / prepared.recipe.train.grad_accum_steps)


def _drive(prepared: Prepared, progress: bool) -> NDArray[np.float64]:
    """The rates of each update, (groups, updates), from the schedule itself, told of them as the loop tells it."""
    trainer, epochs, updates = prepared.trainer, prepared.recipe.train.epochs, _updates(prepared)
    found = np.empty((epochs * updates, len(trainer.rates())))
    numbers = range(epochs)
    with warnings.catch_warnings():
        # torch's schedulers miss the optimizer's steps, of which there are none here
        warnings.filterwarnings("ignore", "Detected call of `lr_scheduler.step", UserWarning)
        for epoch in track(numbers, "epochs") if progress else numbers:
            for update in range(updates):
                found[epoch * updates + update] = list(trainer.rates().values())
                trainer.schedule.after_update()
            trainer.schedule.after_epoch(0.0)  # the same value each time: no epoch is better than the first
    return np.ascontiguousarray(found.T)


def _notes(recipe: Recipe, prepared: Prepared) -> list[str]:
    transfer, name = recipe.transfer, recipe.schedule.name
    found = []
    if owned(entry_of(name, resolve(name, SCHEDULES, "schedule"))) in PLATEAUS:
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
    if transfer.start != "plain" and recipe.model.weights != "none" and _backbone_learns(prepared):
        found.append(
            f"not drawn: where the head learns first (LP-FT), it does so before the first epoch, at "
            f"{transfer.head_lr:g} for {transfer.head_epochs} passes"
        )
    if recipe.train.patience is not None:
        found.append(f"train.patience={recipe.train.patience} may end the run before its last epoch")
    return found


def _backbone_learns(prepared: Prepared) -> bool:
    names = {name for name, _ in prepared.model.module.named_parameters()}
    return bool(names - prepared.plan.frozen - set(prepared.model.groups[-1].parameters))
