"""`zoo schedule`: the learning rates of a run, step by step, before it is trained."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from typing_extensions import Unpack

from zoo.optim.groups import NO_DECAY
from zoo.recipe import Recipe, build, load_values
from zoo.workflows.prepare import prepare
from zoo.workflows.prepared import Prepared
from zoo.workflows.settle import Options, make_recipe

__all__ = ["ScheduleCurves", "schedule"]

_STAND_IN = "zoo_tiny"
_PLATEAUS = ("plateau", "ReduceLROnPlateau", "PlateauLRScheduler")


@dataclass(frozen=True)
class ScheduleCurves:
    """The learning rate of every update of a run.

    names: of the parameter groups, those with and without weight decay as one. rates[i][u]: of group i at update u,
    counted from 0. updates: in an epoch. parameters: that learn, in each group. notes: what a reader should know.
    """

    name: str
    names: tuple[str, ...]
    parameters: tuple[int, ...]
    rates: tuple[tuple[float, ...], ...]
    epochs: int
    updates: int
    warmup: int
    plot: Path | None
    notes: tuple[str, ...]

    def by_epoch(self) -> list[tuple[float, ...]]:
        """The rates with which each epoch begins, as metrics.jsonl has them."""
        return [tuple(rates[epoch * self.updates] for rates in self.rates) for epoch in range(self.epochs)]

    def to_dict(self) -> dict[str, Any]:
        return {**asdict(self), "plot": str(self.plot) if self.plot is not None else None}


def schedule(
    recipe: str | Path | Recipe | None = None,
    /,
    *,
    model: str | None = None,
    plot: str | Path | None = None,
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
        recipe = make_recipe(_STAND_IN if stands_in else model, **given)
    prepared = prepare(_without_weights(recipe))
    rates = _drive(prepared, recipe)
    trainer = prepared.trainer
    names: dict[str, int] = {}
    for group in trainer.optimizer.param_groups:
        name = str(group["name"]).removesuffix(NO_DECAY)
        names[name] = names.get(name, 0) + sum(p.numel() for p in group["params"])
    found = ScheduleCurves(
        name=recipe.schedule.name,
        names=tuple(names),
        parameters=tuple(names.values()),
        rates=tuple(tuple(step[name] for step in rates) for name in names),
        epochs=recipe.train.epochs,
        updates=_updates(prepared, recipe),
        warmup=trainer.schedule.warmup,
        plot=Path(plot) if plot is not None else None,
        notes=(
            *trainer.schedule.notes,
            *_notes(recipe),
            *([f"the groups are those of {_STAND_IN}: name your model with --model"] if stands_in else []),
        ),
    )
    if found.plot is not None:
        from zoo.reports.schedule_plot import schedule_plot

        schedule_plot(found.names, found.rates, found.plot, updates=found.updates, title=found.name)
    return found


def _names_a_model(recipe: str | Path | None, settings: Mapping[str, Any]) -> bool:
    section = load_values(recipe).get("model") if recipe is not None else None
    return "model.name" in settings or (isinstance(section, dict) and bool(section.get("name")))


def _without_weights(recipe: Recipe) -> Recipe:
    """The same groups and rates, without what pretrained weights would be needed for."""
    changes = {"model.weights": "none", "transfer.start": "plain", "transfer.wise_ft": False, "train.amp": False}
    return build(recipe.model_dump(), changes)


def _updates(prepared: Prepared, recipe: Recipe) -> int:
    return math.ceil(len(prepared.train) / recipe.train.grad_accum_steps)


def _drive(prepared: Prepared, recipe: Recipe) -> list[dict[str, float]]:
    """The rates of each update, from the schedule itself, stepped as the loop steps it."""
    trainer = prepared.trainer
    trainer.optimizer.zero_grad(set_to_none=True)  # a step without gradients moves nothing
    found = []
    for _ in range(recipe.train.epochs):
        for _ in range(_updates(prepared, recipe)):
            found.append(trainer.rates())
            trainer.optimizer.step()
            trainer.schedule.after_update()
        trainer.schedule.after_epoch(0.0)  # the same value each time: no epoch is better than the first
    return found


def _notes(recipe: Recipe) -> list[str]:
    found = []
    if recipe.schedule.name in _PLATEAUS:
        found.append(
            "drawn as if the metric never improved after the first epoch: the earliest that the rates can fall"
        )
    if recipe.transfer.auto_rgn:
        found.append("transfer.auto_rgn multiplies each tensor's rate by a factor that only training shows")
    if recipe.transfer.unfreeze_every is not None:
        every = recipe.transfer.unfreeze_every
        found.append(f"a group learns only once it is open: one more, from the head, every {every} epochs")
    if recipe.transfer.start != "plain":
        found.append(
            f"where the head learns first (LP-FT), it does so before the first epoch, at {recipe.transfer.head_lr:g}"
        )
    return found
