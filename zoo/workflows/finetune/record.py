"""What a fine-tuning writes into its run directory besides weights and checkpoints."""

from __future__ import annotations

import os
import platform
import re
from collections.abc import Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch

from zoo import dist_env, reports
from zoo.console import warn
from zoo.data import BadFile, Data
from zoo.data.split.file import split_text
from zoo.errors import DataError, TrainingError
from zoo.models import record
from zoo.recipe import Recipe, dump
from zoo.run import InMemoryRun, Run, timestamp
from zoo.training.device import device_name
from zoo.workflows.finetune.session import TrainingSession, ValidationResult

_PACKAGES = ("zoo", "torch", "torchvision", "timm", "numpy", "pillow", "imgaug", "accelerate", "safetensors")


def default_name(recipe: Recipe, data: Data) -> str:
    """MODEL-DATA, without characters that a folder name should not have."""
    return re.sub(r"[^\w.-]+", "_", f"{recipe.model.name}-{Path(data.name).name}").strip("_")


def begin(run: Run, session: TrainingSession) -> None:
    """The files that exist before the first step."""
    recipe, model, data = session.recipe, session.model, session.data
    run.write_recipe(dump(recipe))
    if data.was_split:
        run.write_split(split_text(data))
    run.write_model(
        {
            "format": 1,
            "model": record(model),
            "task": data.task,
            "classes": list(data.classes),
            "preprocess": session.preprocess.to_dict(),
        }
    )
    run.update(
        status="running",
        model=model.name,
        weights=model.weights.to_dict(),
        data={
            "fingerprint": data.fingerprint(),
            "train_images": len(data.train),
            "val_images": len(data.val),
            "rule": data.rule,
        },
        seed=recipe.train.seed,
        device=device_name(session.trainer.accelerator.device),
        processes=dist_env.world_size(),
        precision=recipe.train.amp_dtype,
        threads=torch.get_num_threads(),
        execution=session.execution.to_dict(),
        versions=_versions(),
        skipped_files=_files_to_json(data.problems),
        started=timestamp(),
        host=platform.node(),
        pid=os.getpid(),
        epochs=session.epochs,
        epochs_done=0,
        best=None,
    )


def skipped_files(run: Run, data: Data, problems: Sequence[BadFile]) -> None:
    """Record the files that proved unreadable during training (`problems`, all so far) and before it."""
    run.update(skipped_files=_files_to_json([*data.problems, *problems]))


def _files_to_json(problems: Sequence[BadFile]) -> list[dict[str, str]]:
    return [{"path": bad.path, "reason": bad.reason} for bad in problems]


def resume(run: Run) -> None:
    run.update(
        status="running", pid=os.getpid(), host=platform.node(), resumed=[*run.info().get("resumed", []), timestamp()]
    )


def check_same_data(run: Run, data: Data) -> None:
    """Raises DataError if the images are not those of the start of the run."""
    if run.info()["data"]["fingerprint"] != data.fingerprint():
        raise DataError(
            f"the images of {data.name} have changed since {run.path} started",
            f"start a new run with --recipe {run.path}",
        )


def draw(run: Run, session: TrainingSession, rows: list[dict[str, Any]], outcome: ValidationResult | None) -> None:
    """curves.png of the epochs, and a picture of the best epoch: confusion.png, scatter.png or labels.png."""
    if isinstance(run, InMemoryRun):
        return
    if rows:
        reports.curves(rows, run.path / "curves.png", monitor=session.recipe.train.monitor)
    if outcome is not None:
        reports.draw_evaluation(outcome.accumulator, session.data.classes, run.path, session.task)


def finish(run: Run, *, seconds: float) -> None:
    run.update(status="finished", ended=timestamp(), seconds=round(seconds, 3))


def stop(
    run: Run,
    session: TrainingSession,
    status: str,
    rows: list[dict[str, Any]],
    outcome: ValidationResult | None,
    *,
    reason: str | None = None,
) -> None:
    """Record in run.json how the run ended, and draw its pictures; a warning if the disk refuses."""
    try:
        run.update(status=status, ended=timestamp(), **({"error": reason} if reason else {}))
        draw(run, session, rows, outcome)
    except TrainingError as e:
        warn(f"cannot write the last state of {run.path}: {e}")


def _versions() -> dict[str, str]:
    versions = {"python": platform.python_version()}
    for package in _PACKAGES:
        try:
            versions[package] = version(package)
        except PackageNotFoundError:
            continue
    return versions
