"""A run directory → the trained model, as evaluation, prediction and export need it."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Any

from zoo.errors import DataError, UsageError, WeightsError
from zoo.models import Model, load_strict, rebuild
from zoo.preprocess import Preprocess
from zoo.run import Run
from zoo.tasks import DEFAULT_TASK, TaskName, get_task

__all__ = ["LoadedRun", "load_run", "open_run"]

RunLike = str | os.PathLike[str] | Run


@dataclass(frozen=True)
class LoadedRun:
    """model.module holds the run's best weights: fp32, on the CPU, in eval mode.

    task: what its outputs mean. classes: names of the classes, labels or targets, in the order of the outputs.
    preprocess: what the run trained with (its size may differ from the model's own). record: model.json. note: a
    sentence if the run has not finished and these are the best weights so far, else "".
    """

    run: Run
    model: Model
    task: TaskName
    classes: tuple[str, ...]
    preprocess: Preprocess
    record: dict[str, Any]
    note: str


def open_run(run: RunLike) -> Run:
    """Raises DataError if `run` is not a run directory."""
    return run if isinstance(run, Run) else Run.open(run)


def load_run(run: RunLike) -> LoadedRun:
    """Rebuild the run's model around its best weights; every tensor must fit.

    Raises DataError if this is no run, or its files are missing or damaged; ModelError or WeightsError if they do not
    belong together.
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
        raise DataError(f"{opened.model_file} is damaged: {reason}", "make the run again from its recipe.yaml") from e
    if len(classes) != model.classes:
        raise WeightsError(
            f"{opened.model_file} names {len(classes)} classes, but its model has {model.classes}",
            "make the run again from its recipe.yaml",
        )
    try:
        load_strict(model.module, opened.weights())
    except WeightsError as e:
        raise WeightsError(f"{opened.weights_file}: {e.message}", "make the run again from its recipe.yaml") from e
    model.module.eval()
    return LoadedRun(opened, model, task, classes, preprocess, record, _note(opened))


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
