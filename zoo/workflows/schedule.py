"""`zoo schedule`: the learning rates of a run, step by step, without training."""

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
from zoo.workflows.finetune.build import build_session
from zoo.workflows.finetune.run import resolve_options
from zoo.workflows.finetune.session import TrainingSession

_DEFAULT_MODEL = "zoo_tiny"


@dataclass(frozen=True, eq=False)
class ScheduleCurves:
    """The learning rate of every step of a run.

    name: of the schedule. names: of the parameter groups, those with and without weight decay merged. parameters:
    number of trainable parameters per group. lrs: (groups, steps). warmup: number of warm-up steps. notes: sentences
    for the user.
    """

    name: str
    names: tuple[str, ...]
    parameters: tuple[int, ...]
    lrs: NDArray[np.float64]
    epochs: int
    steps_per_epoch: int
    warmup: int
    plot: Path | None
    notes: tuple[str, ...]

    def by_epoch(self) -> NDArray[np.float64]:
        """(epochs, groups): the learning rates at the start of each epoch, as in metrics.jsonl."""
        found: NDArray[np.float64] = self.lrs[:, :: self.steps_per_epoch].T
        return found

    def distinct_curves(self) -> list[tuple[str, NDArray[np.float64]]]:
        """Each distinct curve with the name of its group, or of the first and last group that share it."""
        curves: dict[bytes, list[int]] = {}
        for i, curve in enumerate(self.lrs):
            curves.setdefault(curve.tobytes(), []).append(i)
        return [
            (self.names[of[0]] if len(of) == 1 else f"{self.names[of[0]]} … {self.names[of[-1]]}", self.lrs[of[0]])
            for of in curves.values()
        ]

    def to_dict(self) -> dict[str, Any]:
        return {**vars(self), "lrs": self.lrs.tolist(), "plot": None if self.plot is None else str(self.plot)}


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

    The number of steps comes from the data, the groups from the model; no weights are loaded. A plateau schedule, which
    depends on the training, is drawn as if the metric never improved.

    Args:
        recipe: a shipped name, a file, a run directory, or a Recipe.
        model: model name; default: the recipe's, or else the built-in `zoo_tiny`.
        plot: a PNG file to draw the curves into.
        progress: whether to print on stderr.
        options: the options of `finetune`.

    Raises:
        ZooError: any problem that the caller can fix.
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
    notes = [*trainer.schedule.notes, *_notes(recipe, session)]
    if uses_default_model:
        notes.append(f"the groups are those of {_DEFAULT_MODEL}; name your model with --model")
    found = ScheduleCurves(
        name=recipe.schedule.name,
        names=tuple(names),
        parameters=tuple(names.values()),
        lrs=_simulate(session, progress),
        epochs=recipe.train.epochs,
        steps_per_epoch=_steps_per_epoch(session),
        warmup=trainer.schedule.warmup,
        plot=Path(plot) if plot is not None else None,
        notes=tuple(notes),
    )
    if found.plot is not None:
        from zoo.reports.lr_pictures import schedule_plot

        schedule_plot(found.distinct_curves(), found.plot, steps_per_epoch=found.steps_per_epoch, title=found.name)
    return found


def _names_a_model(recipe: str | Path | None, settings: Mapping[str, Any]) -> bool:
    section = load_values(recipe).get("model") if recipe is not None else None
    return "model.name" in settings or (isinstance(section, dict) and bool(section.get("name")))


def _without_weights(recipe: Recipe) -> Recipe:
    """The same groups, learning rates and steps, without settings that need pretrained weights or all pixels."""
    changes: dict[str, Any] = {
        "model.weights": "none", "data.norm": "model", "data.intensity_range": 255, "transfer.start": "plain",
        "transfer.wise_ft": False, "train.amp": False, "train.feature_cache": "off",
    }  # fmt: skip
    return build(recipe.model_dump(), changes)


def _steps_per_epoch(session: TrainingSession) -> int:
    return math.ceil(len(session.train) / session.recipe.train.grad_accum_steps)


def _simulate(session: TrainingSession, progress: bool) -> NDArray[np.float64]:
    """(groups, steps): the learning rates of the schedule, stepped as in training."""
    trainer, epochs, steps_per_epoch = session.trainer, session.recipe.train.epochs, _steps_per_epoch(session)
    found = np.empty((epochs * steps_per_epoch, len(trainer.learning_rates())))
    numbers = range(epochs)
    with warnings.catch_warnings():
        # torch's schedulers warn because the optimizer takes no steps here
        warnings.filterwarnings("ignore", "Detected call of `lr_scheduler.step", UserWarning)
        for epoch in track(numbers, "epochs") if progress else numbers:
            for step in range(steps_per_epoch):
                found[epoch * steps_per_epoch + step] = list(trainer.learning_rates().values())
                trainer.schedule.after_step()
            trainer.schedule.after_epoch(0.0)  # a constant metric: no epoch is better than the first
    return np.ascontiguousarray(found.T)


def _notes(recipe: Recipe, session: TrainingSession) -> list[str]:
    transfer, name = recipe.transfer, recipe.schedule.name
    found = []
    if class_name(find_entry(name, resolve(name, SCHEDULES, "schedule"))) in PLATEAUS:
        found.append("drawn as if the metric never improved after the first epoch, when learning rates fall earliest")
    if transfer.auto_rgn:
        found.append("transfer.auto_rgn multiplies each tensor's learning rate by a factor that only training shows")
    if transfer.unfreeze_every is not None:
        found.append(
            "drawn from the first epoch, but a group is trained only after it is unfrozen: one more group, from the "
            f"head down, every {transfer.unfreeze_every} epochs (transfer.unfreeze_every)"
        )
    if transfer.start != "plain" and recipe.model.weights != "none" and _backbone_is_trained(session):
        found.append(
            "not drawn: the linear-probing phase of LP-FT before the first epoch, if the run has one and its head is "
            f"not linear: {transfer.probe_epochs} epochs at learning rate {transfer.probe_lr:g}"
        )
    if recipe.train.patience is not None:
        found.append(f"train.patience={recipe.train.patience} may stop the run before its last epoch")
    return found


def _backbone_is_trained(session: TrainingSession) -> bool:
    names = {name for name, _ in session.model.module.named_parameters()}
    return bool(names - session.plan.frozen - set(session.model.groups[-1].parameters))
