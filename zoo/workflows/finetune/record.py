"""What a fine-tuning writes about itself into its run, and says on stderr."""

from __future__ import annotations

import os
import platform
import re
from collections.abc import Callable, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from zoo import dist_env, reports
from zoo.console import warn
from zoo.data import BadFile, Data
from zoo.data.check import PreflightReport
from zoo.data.split.file import split_text
from zoo.errors import DataError, TrainingError
from zoo.models import record
from zoo.optim.param_groups import describe_groups
from zoo.recipe import Recipe, dump
from zoo.run import InMemoryRun, Run, timestamp
from zoo.strategy.freeze import FreezePlan
from zoo.tasks import DEFAULT_TASK
from zoo.workflows.finetune.session import TrainingSession

if TYPE_CHECKING:
    from zoo.workflows.finetune.transfer import ValidationResult

__all__ = [
    "begin",
    "check_same_data",
    "default_name",
    "draw",
    "finish",
    "print_preflight",
    "print_summary",
    "resume",
    "skipped_files",
    "stop",
]

_PACKAGES = ("zoo", "torch", "torchvision", "timm", "numpy", "pillow", "imgaug", "accelerate", "safetensors")


def default_name(recipe: Recipe, data: Data) -> str:
    """MODEL-DATA, safe as a folder's name."""
    return re.sub(r"[^\w.-]+", "_", f"{recipe.model.name}-{Path(data.name).name}").strip("_")


def print_summary(session: TrainingSession, log: Callable[[str], None]) -> None:
    """What is about to happen: data, task, model, weights, groups with what learns, and how fast."""
    recipe, data, model, plan = session.recipe, session.data, session.model, session.plan
    log(
        f"data: {data.name}, {len(data.train):,} training and {len(data.val):,} validation images, "
        f"{len(data.classes):,} {session.task.outputs}"
        + (f", {session.task.name}" if session.task is not DEFAULT_TASK else "")
    )
    for sentence in data.notes:
        log(f"  {sentence}")
    for bad in data.problems:
        log(f"  left out {bad}")
    log(f"model: {model.name} ({model.source}), weights: {model.weights.source}")
    if model.weights.source != "none":
        log(f"  {model.weights.summary()}")
    if model.auxiliary is not None:
        log(f"  auxiliary heads learn too, their losses weighted {model.auxiliary:g}")
    trainable = sum(g.trainable for g in plan.groups)
    total = sum(g.parameters for g in plan.groups)
    log(f"freeze {plan.text}: {trainable:,} of {total:,} parameters learn")
    width = max(len(g.name) for g in plan.groups)
    for line in _group_lines(plan, width):
        log(line)
    for sentence in session.notes:
        log(sentence)
    if session.uses_lp_ft:
        log(
            f"start: the head first, {recipe.transfer.probe_epochs} passes over frozen features; "
            "--set transfer.start=plain leaves that out"
        )
    if session.fits_linear_probe:
        log(f"{recipe.loss.name}, augment {recipe.augment.name}")
        return
    log(
        f"{recipe.train.epochs} epochs, batch {recipe.data.batch_size}{_per_process_text(recipe)}, "
        f"{recipe.optimizer.name}, "
        f"{recipe.schedule.name}, {recipe.loss.name}, augment {recipe.augment.name}"
    )
    for line in _param_group_lines(session):
        log(line)


def _per_process_text(recipe: Recipe) -> str:
    if dist_env.world_size() == 1:
        return ""
    how = ", each a part of the model" if recipe.execution.parallel == "fsdp" else ""
    return f" in each of {dist_env.world_size()} processes{how}"


def print_preflight(preflight: PreflightReport, log: Callable[[str], None]) -> None:
    """What the quick look at the data found, and what it covered."""
    for line in preflight.lines():
        warn(line)
    log(preflight.coverage)
    if preflight.findings:
        log("see `zoo check DATA` for the whole of it")


def _param_group_lines(session: TrainingSession) -> list[str]:
    """The optimizer's groups as a table."""
    rows = [
        ("group", "tensors", "parameters", "rate", "decay"),
        *describe_groups(session.trainer.optimizer.param_groups),
    ]
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    return [
        f"  {row[0]:<{widths[0]}}  " + "  ".join(f"{cell:>{w}}" for cell, w in zip(row[1:], widths[1:], strict=True))
        for row in rows
    ]


def _group_lines(plan: FreezePlan, width: int) -> list[str]:
    """A line for each group; a long run of stages with the same state is folded into one line."""
    states = [
        "learns" if g.trainable == g.parameters else "frozen" if not g.trainable else "partly" for g in plan.groups
    ]
    lines, i = [], 0
    while i < len(states):
        j = i
        while (
            j + 1 < len(states) and states[j + 1] == states[i] and len(states) > 8 and plan.groups[j + 1].name != "head"
        ):
            j += 1
        span = plan.groups[i : j + 1]
        name = span[0].name if i == j else f"{span[0].name}-{span[-1].name}"
        modules = _module_names([m for g in span for m in g.modules])
        lines.append(f"  {name:<{width}}  {sum(g.parameters for g in span):>13,}  {states[i]:<6}  {modules}")
        i = j + 1
    return lines


def _module_names(modules: Sequence[str]) -> str:
    """All of a few module paths, the first and the last of many."""
    return ", ".join(modules) if len(modules) <= 4 else f"{modules[0]} … {modules[-1]}"


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
        device=_device_name(session.trainer.accelerator.device),
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
    """Add files that proved unreadable while training (`problems`, all so far) to those found before it."""
    run.update(skipped_files=_files_to_json([*data.problems, *problems]))


def _files_to_json(problems: Sequence[BadFile]) -> list[dict[str, str]]:
    return [{"path": bad.path, "reason": bad.reason} for bad in problems]


def resume(run: Run) -> None:
    run.update(
        status="running", pid=os.getpid(), host=platform.node(), resumed=[*run.info().get("resumed", []), timestamp()]
    )


def check_same_data(run: Run, data: Data) -> None:
    """Raises DataError if the images are not those that the run began with."""
    if run.info()["data"]["fingerprint"] != data.fingerprint():
        raise DataError(
            f"the images of {data.name} have changed since {run.path} began",
            f"start a new run with --recipe {run.path}",
        )


def draw(run: Run, session: TrainingSession, rows: list[dict[str, Any]], outcome: ValidationResult | None) -> None:
    """curves.png of the epochs, and a picture of what the best one says: confusion.png, scatter.png or labels.png."""
    if isinstance(run, InMemoryRun):
        return
    if rows:
        reports.curves(rows, run.path / "curves.png", monitor=session.recipe.train.monitor)
    if outcome is not None:
        reports.outcome(outcome.outputs, outcome.targets, list(session.data.classes), run.path, session.task.name)


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
    """Say in run.json how the run ended, and draw what there is, as far as the disk still lets us."""
    try:
        run.update(status=status, ended=timestamp(), **({"error": reason} if reason else {}))
        draw(run, session, rows, outcome)
    except TrainingError as e:
        warn(f"{run.path} could not be closed properly: {e}")


def _versions() -> dict[str, str]:
    versions = {"python": platform.python_version()}
    for package in _PACKAGES:
        try:
            versions[package] = version(package)
        except PackageNotFoundError:
            continue
    return versions


def _device_name(device: torch.device) -> str:
    if device.type == "cpu":
        return "cpu"
    if device.type == "cuda":
        return f"{device} ({torch.cuda.get_device_name(device)})"
    return str(device)
