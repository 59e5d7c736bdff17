"""Load a run directory: the trained model for evaluation, prediction and export."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Any

from zoo.data.config import DataConfig
from zoo.errors import DataError, UsageError, WeightsError
from zoo.models import Model, load_strict, rebuild
from zoo.preprocess import Preprocess
from zoo.recipe import build, load_values
from zoo.run import Run
from zoo.tasks import DEFAULT_TASK, TaskName, get_task

RunLike = str | os.PathLike[str] | Run

_TRAIN_AGAIN = "train again with its recipe.yaml"


@dataclass(frozen=True)
class LoadedRun:
    """A run with its trained model.

    Attributes:
        run: the run directory.
        model: the model with the best weights: fp32, on the CPU, in eval mode.
        task: name of the task.
        classes: names of the classes, labels or targets, in the order of the outputs.
        preprocess: preprocessing of the training (its size may differ from the model's default).
        note: a sentence if the run has not finished, else "".
    """

    run: Run
    model: Model
    task: TaskName
    classes: tuple[str, ...]
    preprocess: Preprocess
    note: str


@dataclass(frozen=True)
class RunData:
    """The data of a run. config, seed: from recipe.yaml. fingerprint, rule, images: their hash, how they were split and
    their number when training began, from run.json; None, "" and 0 if it has no record."""

    config: DataConfig
    seed: int
    fingerprint: str | None
    rule: str
    images: int


def open_run(run: RunLike) -> Run:
    """Raises DataError if `run` is not a run directory."""
    return run if isinstance(run, Run) else Run.open(run)


def load_run(run: RunLike) -> LoadedRun:
    """Rebuild the run's model with its best weights; every tensor must fit.

    Raises:
        DataError: not a run directory, or its files are missing or damaged.
        ModelError, WeightsError: the files do not match each other.
    """
    opened = open_run(run)
    record = opened.model_record()
    try:
        task = get_task(record.get("task", DEFAULT_TASK.name)).name  # the first runs did not record it
        classes = tuple(str(name) for name in record["classes"])
        preprocess = Preprocess.from_dict(record["preprocess"])
        model = rebuild(record["model"])
    except (KeyError, TypeError, ValueError, AttributeError, UsageError) as e:
        reason = f"{e} is missing" if isinstance(e, KeyError) else str(e)
        raise DataError(f"{opened.model_file} is damaged: {reason}", _TRAIN_AGAIN) from e
    if len(classes) != model.classes:
        raise WeightsError(
            f"{opened.model_file} names {len(classes)} classes, but its model has {model.classes}", _TRAIN_AGAIN
        )
    try:
        load_strict(model.module, opened.weights())
    except WeightsError as e:
        raise WeightsError(f"{opened.weights_file}: {e.message}", _TRAIN_AGAIN) from e
    model.module.eval()
    return LoadedRun(opened, model, task, classes, preprocess, _note(opened))


def load_run_data(run: Run) -> RunData:
    """Raises DataError if the run has no recipe.yaml, RecipeError if that is not valid (a run of an older version)."""
    if not run.recipe_file.is_file():
        raise DataError(f"{run.recipe_file} is missing: it describes the data of the run", "restore it")
    recipe = build(load_values(run.path), where=str(run.recipe_file))
    recorded: dict[str, Any] = run.info().get("data") or {}
    images = int(recorded.get("train_images", 0)) + int(recorded.get("val_images", 0))
    return RunData(recipe.data, recipe.train.seed, recorded.get("fingerprint"), recorded.get("rule", ""), images)


def _note(run: Run) -> str:
    status = run.status
    if status == "finished":
        return ""
    info = run.info()
    best = info.get("best")
    epoch = f" (epoch {best['epoch']})" if isinstance(best, dict) and "epoch" in best else ""
    known = {"epochs", "epochs_done"} <= info.keys()
    done = f" after {info['epochs_done']} of {info['epochs']} epochs" if known else ""
    state = "is still running" if run.is_alive() else "has not finished" if status == "running" else f"was {status}"
    return f"{run.path} {state}{done}: using its best weights so far{epoch}"
