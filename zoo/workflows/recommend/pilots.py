"""Short trainings of the best candidates, which have the last word over the decision table.

Successive halving (Jamieson and Talwalkar 2016, 1502.07943): all arms get an epoch, the better half a third of all, of
these the better half the rest. The rule's own arm goes along to the end, and only an arm that got there, too, overrules
it: a head is at its best at once, while what learns everything has not begun to. An arm is one run, interrupted and
resumed, so that no epoch is trained twice.
"""

from __future__ import annotations

import math
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
from zoo.workflows.recommend.result import Pilot, Pilots, Recommendation

__all__ = ["STRATEGIES", "run_pilots"]

# What is tried of each model: a recipe and what is laid over it, beside what the rule says of rates and flips.
STRATEGIES: dict[str, tuple[str, dict[str, Any]]] = {
    "head": ("small-similar", {}),
    "partial": ("full", {"freeze": "50%"}),
    "all": ("full", {}),
}
_MODELS = 2
_STEPS = 500  # of an arm that goes to its end, as of the rules


class _StopPilot(TrainingError):
    """Raised into a run to end it at its rung."""


def run_pilots(
    recommendation: Recommendation, options: Options, folder: Path, *, seconds: float, log: Callable[[str], None]
) -> Pilots | None:
    """Train the arms of the best two models in `folder` while `seconds` last; None if not two of them had an epoch.

    options: those of `recommend`. An arm that fails is out. Raises Interrupted on Ctrl-C.
    """
    begun = time.perf_counter()
    candidates = [(m.name, strategy) for m in recommendation.results[:_MODELS] for strategy in STRATEGIES]
    default = recommendation.best.name, _closest_strategy(recommendation.decisions[0])
    epochs = epochs_for(_STEPS, recommendation.images)
    done: dict[tuple[str, str], Pilot] = {}
    monitor = ""
    for rung in (1, epochs // 3, epochs):
        completed: dict[tuple[str, str], Pilot] = {}
        for model, strategy in candidates:
            seconds_left = seconds - (time.perf_counter() - begun)
            previous = done.get((model, strategy))
            # The next epochs cost what the last ones did.
            if seconds_left <= 0 or (
                previous is not None and previous.seconds / previous.epochs * (rung - previous.epochs) > seconds_left
            ):
                break
            strategy_recipe = _strategy_recipe(recommendation, model, strategy)
            pilot, monitor = _train(
                model, strategy, strategy_recipe, (rung, epochs), options, folder, monitor, previous
            )
            if pilot is not None:
                completed[model, strategy] = pilot
                log(f"pilot {model}, {strategy}: {monitor} {pilot.value:.4g} after {pilot.epochs} epochs")
        done |= completed
        if len(completed) < len(candidates):
            break  # the rest would be compared over different numbers of epochs
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
    """The recipe of an arm and what is laid over it: flips as the model's rule has them, and rates if they are those of
    the arm's recipe."""
    decision = next(d for m, d in zip(recommendation.results, recommendation.decisions, strict=True) if m.name == model)
    recipe, changes = STRATEGIES[strategy]
    same = decision.recipe == recipe and "transfer.lora" not in decision.changes
    prefixes = ("augment.flips", "optimizer.") if same else ("augment.flips",)
    return recipe, {**{k: v for k, v in decision.changes.items() if k.startswith(prefixes)}, **changes}


def _train(
    model: str,
    strategy: str,
    strategy_recipe: tuple[str, dict[str, Any]],
    until: tuple[int, int],
    options: Options,
    folder: Path,
    monitor: str,
    previous: Pilot | None,
) -> tuple[Pilot | None, str]:
    """The arm, trained until so many epochs of all that it would have; None if it failed."""
    path = folder / f"{model}-{strategy}".replace("/", "_")
    (recipe, changes), (rung, end) = strategy_recipe, until
    if previous is not None and Run(path).info()["status"] == "finished":
        return replace(previous, epochs=rung), monitor
    epochs = [0]

    def stop(row: dict[str, Any]) -> None:
        epochs[0] = row["epoch"]
        if row["epoch"] >= rung and rung < end:
            raise _StopPilot("the pilot has its epochs")

    start = time.perf_counter()
    try:
        if (path / "run.json").is_file():
            run = resume(path, progress=False, on_epoch=stop)
        else:
            given = Options(**options)
            given["recipe"] = recipe
            if strategy != "head":  # which is solved where it can be, without epochs
                given["epochs"] = end
            given["settings"] = {**changes, **(options.get("settings") or {}), **STRATEGIES[strategy][1]}
            run = finetune(model, output_dir=path, progress=False, on_epoch=stop, **given)
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
        epochs[0] = rung
    return Pilot(model, strategy, epochs[0], float(best["value"]), seconds), str(best["monitor"])


def _verdict(
    recommendation: Recommendation,
    done: dict[tuple[str, str], Pilot],
    default: tuple[str, str],
    epochs: int,
    monitor: str,
) -> Pilots:
    """The best arm of those that came furthest; the rule stays unless that one came to its end and is ahead of the
    rule's own arm by more than a standard error."""
    higher = metrics.higher_is_better(monitor)
    order = sorted(done.values(), key=lambda p: (p.epochs, p.value if higher else -p.value), reverse=True)
    best, default_pilot = order[0], done.get(default)
    if default_pilot is not None:
        noise = _noise(best.value, recommendation.validation) if monitor.startswith("top") else 0.0
        gain = (best.value - default_pilot.value) * (1 if higher else -1)
        reason = ""
        if default_pilot is best or (default_pilot.epochs == best.epochs and gain <= noise):
            reason = f"no other way is clearly better than the rule's ({default_pilot.strategy})"
        elif best.epochs < epochs:
            reason = f"the budget ended after {best.epochs} of {epochs} epochs, too soon to overrule the rule"
        if reason:
            return Pilots(tuple(order), monitor, None, f"pilots: {reason}")
    recipe, changes = _strategy_recipe(recommendation, best.model, best.strategy)
    decision = Decision(
        rule=f"pilot: {best.strategy}",
        recipe=recipe,
        so=f"take {best.model} and train {_ADVICE[best.strategy]}, which was best in short trainings",
        changes=changes,
    )
    return Pilots(
        tuple(order),
        monitor,
        (best.model, decision),
        f"pilots: {best.strategy} of {best.model} is best, {monitor} {best.value:.4g}",
    )


_ADVICE = {
    "head": "the head only",
    "partial": "the head and the second half of the layers",
    "all": "everything, the head first",
}


def _closest_strategy(decision: Decision) -> str:
    """The arm that is nearest to what the rule says."""
    plan = build(load_values(decision.recipe), decision.changes).freeze
    return {"backbone": "head", "none": "all"}.get(plan, "partial")


def _noise(share: float, images: int) -> float:
    """The standard error of a share of so many images."""
    return math.sqrt(max(share * (1 - share), 1e-12) / max(images, 1))
