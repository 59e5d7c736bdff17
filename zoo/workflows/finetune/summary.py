"""What a fine-tuning prints on stderr before it starts."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from zoo import dist_env
from zoo.console import warn
from zoo.data.check import PreflightReport
from zoo.optim.param_groups import describe_groups
from zoo.recipe import Recipe
from zoo.strategy.freeze import FreezePlan
from zoo.tasks import DEFAULT_TASK
from zoo.workflows.finetune.session import TrainingSession


def print_summary(session: TrainingSession, log: Callable[[str], None]) -> None:
    """Print what the run will do: data, task, model, weights, layer groups, settings."""
    recipe, data, model, plan = session.recipe, session.data, session.model, session.plan
    log(
        f"data: {data.name}, {len(data.train):,} training and {len(data.val):,} validation images, "
        f"{len(data.classes):,} {session.task.outputs}"
        + (f", {session.task.name}" if session.task is not DEFAULT_TASK else "")
    )
    for text in data.notes:
        log(f"  {text}")
    for bad in data.problems:
        log(f"  skipped {bad}")
    log(f"model: {model.name} ({model.source}), weights: {model.weights.source}")
    if model.weights.source != "none":
        log(f"  {model.weights.summary()}")
    if model.auxiliary is not None:
        log(f"  auxiliary heads are trained too, with loss weight {model.auxiliary:g}")
    trainable = sum(g.trainable for g in plan.groups)
    total = sum(g.parameters for g in plan.groups)
    log(f"freeze {plan.text}: {trainable:,} of {total:,} parameters trainable")
    width = max(len(g.name) for g in plan.groups)
    for line in _group_lines(plan, width):
        log(line)
    for text in session.notes:
        log(text)
    if session.uses_lp_ft:
        log("start: linear probing on frozen features (LP-FT); --set transfer.start=plain turns it off")
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
    how = ", model sharded (FSDP)" if recipe.execution.parallel == "fsdp" else ""
    return f" in each of {dist_env.world_size()} processes{how}"


def print_preflight(preflight: PreflightReport, log: Callable[[str], None]) -> None:
    """Print what the quick check of the data found and covered."""
    for line in preflight.lines():
        warn(line)
    log(preflight.coverage)
    if preflight.findings:
        log("run `zoo check DATA` for the full report")


def _param_group_lines(session: TrainingSession) -> list[str]:
    """The optimizer's groups as a table."""
    rows = [
        ("group", "tensors", "parameters", "lr", "weight decay"),
        *describe_groups(session.trainer.optimizer.param_groups),
    ]
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    return [
        f"  {row[0]:<{widths[0]}}  " + "  ".join(f"{cell:>{w}}" for cell, w in zip(row[1:], widths[1:], strict=True))
        for row in rows
    ]


def _group_lines(plan: FreezePlan, width: int) -> list[str]:
    """A line per layer group; many stages in a row with the same state share one line."""
    states = [
        "trainable" if g.trainable == g.parameters else "frozen" if not g.trainable else "partly" for g in plan.groups
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
        lines.append(f"  {name:<{width}}  {sum(g.parameters for g in span):>13,}  {states[i]:<9}  {modules}")
        i = j + 1
    return lines


def _module_names(modules: Sequence[str]) -> str:
    """Up to four module paths, or the first and the last of more."""
    return ", ".join(modules) if len(modules) <= 4 else f"{modules[0]} … {modules[-1]}"
