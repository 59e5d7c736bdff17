"""Short trainings ("pilots") of the best models, whose result can replace that of the decision table.

Successive halving (Jamieson and Talwalkar 2016, arXiv 1502.07943): all candidates train for one epoch, the better half
for a third of the epochs, the better half of these for all epochs. The default strategy always continues to the end,
and only a candidate that also reached the end can replace it: a linear probe is at its best immediately, while
training all layers takes time. Each candidate is one run, interrupted and resumed, so no epoch is trained twice.
"""

from __future__ import annotations

import math
import re
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from zoo import metrics
from zoo.errors import TrainingError, ZooError
from zoo.options import Options
from zoo.recipe import build, load_values
from zoo.run import Run
from zoo.strategy.decision_table import Decision, epochs_for
from zoo.workflows.finetune.run import finetune, resume
from zoo.workflows.recommend.candidates import CandidateModel
from zoo.workflows.recommend.result import Pilot, Pilots, Recommendation

# Strategy → recipe and changed keys; learning rates and flips come from the rule (see `_strategy_recipe`).
STRATEGIES: dict[str, tuple[str, dict[str, Any]]] = {
    "head": ("small-similar", {}),
    "partial": ("full", {"freeze": "50%"}),
    "all": ("full", {}),
}
_MODELS = 2
_STEPS = 500  # of a complete pilot, as in decisions.yaml


class _StopPilot(TrainingError):
    """Ends a run at the last epoch of its rung."""


def run_pilots(
    recommendation: Recommendation, options: Options, folder: Path, *, seconds: float, log: Callable[[str], None]
) -> Pilots | None:
    """Train the strategies of the best two models; None if fewer than two were trained for an epoch.

    Args:
        recommendation: Result of the measurements.
        options: Options of `recommend`.
        folder: Folder for the runs.
        seconds: Time limit; a candidate whose training fails is dropped.
        log: Prints a message.

    Raises:
        Interrupted: The user pressed Ctrl-C.
    """
    start = time.perf_counter()
    candidates = [(m.name, strategy) for m in recommendation.results[:_MODELS] for strategy in STRATEGIES]
    default = recommendation.best.name, _closest_strategy(recommendation.decisions[0])
    epochs = epochs_for(_STEPS, recommendation.images)
    done: dict[tuple[str, str], Pilot] = {}
    monitor = ""
    for rung in (1, epochs // 3, epochs):
        completed: dict[tuple[str, str], Pilot] = {}
        for model, strategy in candidates:
            seconds_left = seconds - (time.perf_counter() - start)
            previous = done.get((model, strategy))
            if seconds_left <= 0 or (
                previous is not None and previous.seconds / previous.epochs * (rung - previous.epochs) > seconds_left
            ):
                break
            strategy_recipe = _strategy_recipe(recommendation, model, strategy)
            pilot, monitor = _train(
                recommendation.candidate(model),
                strategy,
                strategy_recipe,
                (rung, epochs),
                options,
                folder,
                monitor,
                previous,
            )
            if pilot is not None:
                completed[model, strategy] = pilot
                log(f"pilot {model} ({strategy}): {monitor} {pilot.value:.4g}, epoch {pilot.epochs} of {epochs}")
        done |= completed
        if len(completed) < len(candidates):
            break  # candidates with different numbers of epochs cannot be compared
        order = sorted(completed, key=lambda key: completed[key].value, reverse=metrics.higher_is_better(monitor))
        candidates = order[: max(math.ceil(len(order) / 2), 1)]
        if default in completed and default not in candidates:
            candidates.append(default)
        if candidates == [default]:
            break
    if len(done) < 2:
        return None
    return _verdict(recommendation, done, default, epochs, monitor)


def _strategy_recipe(recommendation: Recommendation, model: str, strategy: str) -> tuple[str, dict[str, Any]]:
    """Recipe and changed keys of a strategy: flips from the model's rule, and learning rates if the rule has the same
    recipe."""
    decision = next(d for m, d in zip(recommendation.results, recommendation.decisions, strict=True) if m.name == model)
    recipe, changes = STRATEGIES[strategy]
    same = decision.recipe == recipe and "transfer.lora" not in decision.changes
    prefixes = ("augment.flips", "data.fit", "model.head", *(["optimizer."] if same else []))
    return recipe, {**{k: v for k, v in decision.changes.items() if k.startswith(prefixes)}, **changes}


def _train(
    candidate: CandidateModel,
    strategy: str,
    strategy_recipe: tuple[str, dict[str, Any]],
    until: tuple[int, int],
    options: Options,
    folder: Path,
    monitor: str,
    previous: Pilot | None,
) -> tuple[Pilot | None, str]:
    """(Result, metric name) of training a strategy to epoch `until[0]` of `until[1]`; None if the training fails."""
    path = folder / re.sub(r"[^\w.-]", "_", f"{candidate.name}-{strategy}")
    (recipe, changes), (rung, end) = strategy_recipe, until
    if previous is not None and Run(path).info()["status"] == "finished":
        return replace(previous, epochs=rung), monitor
    last_epoch = 0

    def stop(row: dict[str, Any]) -> None:
        nonlocal last_epoch
        last_epoch = row["epoch"]
        if last_epoch >= rung and rung < end:
            raise _StopPilot("the rung is complete")

    start = time.perf_counter()
    try:
        if (path / "run.json").is_file():
            run = resume(path, progress=False, on_epoch=stop)
        else:
            given = Options(**options)
            given["recipe"] = recipe
            if strategy != "head":  # the head is fitted in closed form if possible
                given["epochs"] = end
            given["settings"] = {**changes, **(options.get("settings") or {}), **STRATEGIES[strategy][1]}
            if candidate.weights is not None:
                given["weights"] = candidate.weights
            run = finetune(candidate.model, output_dir=path, progress=False, on_epoch=stop, **given)
    except _StopPilot:
        run = Run(path)
    except ZooError as e:
        if isinstance(e.__cause__, OSError):
            raise
        return None, monitor
    best = run.info()["best"]
    if best is None or best["value"] is None:
        return None, monitor
    seconds = time.perf_counter() - start + (previous.seconds if previous is not None else 0.0)
    if run.info()["status"] == "finished":
        last_epoch = rung
    return Pilot(candidate.name, strategy, last_epoch, float(best["value"]), seconds), str(best["monitor"])


def _verdict(
    recommendation: Recommendation,
    done: dict[tuple[str, str], Pilot],
    default: tuple[str, str],
    epochs: int,
    monitor: str,
) -> Pilots:
    """The best of the candidates trained longest. It replaces the rule only if it was trained to the end and is better
    than the default strategy by more than a standard error."""
    higher = metrics.higher_is_better(monitor)
    order = sorted(done.values(), key=lambda p: (p.epochs, p.value if higher else -p.value), reverse=True)
    best, default_pilot = order[0], done.get(default)
    if default_pilot is not None:
        noise = _standard_error(best.value, recommendation.validation) if monitor.startswith("top") else 0.0
        gain = (best.value - default_pilot.value) * (1 if higher else -1)
        reason = ""
        if default_pilot is best or (default_pilot.epochs == best.epochs and gain <= noise):
            reason = f"no strategy is clearly better than the default ({default_pilot.strategy})"
        elif best.epochs < epochs:
            reason = f"the budget ended after {best.epochs} of {epochs} epochs, too early to replace the default"
        if reason:
            return Pilots(tuple(order), monitor, None, f"pilots: {reason}")
    recipe, changes = _strategy_recipe(recommendation, best.model, best.strategy)
    decision = Decision(
        rule=f"pilot: {best.strategy}",
        recipe=recipe,
        advice=f"use {best.model} and train {_ADVICE[best.strategy]}, which was best in short trainings",
        changes=changes,
    )
    return Pilots(
        tuple(order),
        monitor,
        (best.model, decision),
        f"pilots: {best.model} ({best.strategy}) is best, {monitor} {best.value:.4g}",
    )


_ADVICE = {
    "head": "the head only",
    "partial": "the head and the second half of the layers",
    "all": "the head first, then all layers",
}


def _closest_strategy(decision: Decision) -> str:
    """The strategy closest to the decision."""
    plan = build(load_values(decision.recipe), decision.changes).freeze
    return {"backbone": "head", "none": "all"}.get(plan, "partial")


def _standard_error(share: float, images: int) -> float:
    """The standard error of a share over `images` images."""
    return math.sqrt(max(share * (1 - share), 1e-12) / max(images, 1))
