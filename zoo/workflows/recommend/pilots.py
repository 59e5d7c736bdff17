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
from zoo.recipe import build, load_values
from zoo.run import Run
from zoo.strategy.decision_table import Decision, epochs_of
from zoo.workflows.finetune.options import Options
from zoo.workflows.finetune.run import finetune, resume
from zoo.workflows.recommend.result import Pilot, Pilots, Recommendation

__all__ = ["ARMS", "run_pilots"]

# What is tried of each model: a recipe and what is laid over it, beside what the rule says of rates and flips.
ARMS: dict[str, tuple[str, dict[str, Any]]] = {
    "head": ("small-similar", {}),
    "partial": ("full", {"freeze": "50%"}),
    "all": ("full", {}),
}
_MODELS = 2
_UPDATES = 500  # of an arm that goes to its end, as of the rules


class _Enough(TrainingError):
    """Raised into a run to end it at its rung."""


def run_pilots(
    found: Recommendation, options: Options, folder: Path, *, seconds: float, say: Callable[[str], None]
) -> Pilots | None:
    """Train the arms of the best two models in `folder` while `seconds` last; None if not two of them had an epoch.

    options: those of `recommend`. An arm that fails is out. Raises Interrupted on Ctrl-C.
    """
    begun = time.perf_counter()
    arms = [(m.name, arm) for m in found.measured[:_MODELS] for arm in ARMS]
    own = found.best.name, _arm_of(found.decisions[0])
    epochs = epochs_of(_UPDATES, found.images)
    done: dict[tuple[str, str], Pilot] = {}
    monitor = ""
    for rung in (1, epochs // 3, epochs):
        reached: dict[tuple[str, str], Pilot] = {}
        for model, arm in arms:
            left = seconds - (time.perf_counter() - begun)
            before = done.get((model, arm))
            # The next epochs cost what the last ones did.
            if left <= 0 or (before is not None and before.seconds / before.epochs * (rung - before.epochs) > left):
                break
            way = _way(found, model, arm)
            pilot, monitor = _train(model, arm, way, (rung, epochs), options, folder, monitor, before)
            if pilot is not None:
                reached[model, arm] = pilot
                say(f"pilot {model}, {arm}: {monitor} {pilot.value:.4g} after {pilot.epochs} epochs")
        done |= reached
        if len(reached) < len(arms):
            break  # the rest would be compared over different numbers of epochs
        order = sorted(reached, key=lambda key: reached[key].value, reverse=metrics.higher_is_better(monitor))
        arms = order[: max(math.ceil(len(order) / 2), 1)]
        if own in reached and own not in arms:
            arms.append(own)
        if arms == [own]:
            break
    if len(done) < 2:
        return None
    return _verdict(found, done, own, epochs, monitor)


def _way(found: Recommendation, model: str, arm: str) -> tuple[str, dict[str, Any]]:
    """The recipe of an arm and what is laid over it: flips as the model's rule has them, and rates if they are those of
    the arm's recipe."""
    decision = next(d for m, d in zip(found.measured, found.decisions, strict=True) if m.name == model)
    recipe, changes = ARMS[arm]
    same = decision.recipe == recipe and "transfer.lora" not in decision.changes
    prefixes = ("augment.flips", "optimizer.") if same else ("augment.flips",)
    return recipe, {**{k: v for k, v in decision.changes.items() if k.startswith(prefixes)}, **changes}


def _train(
    model: str,
    arm: str,
    way: tuple[str, dict[str, Any]],
    until: tuple[int, int],
    options: Options,
    folder: Path,
    monitor: str,
    before: Pilot | None,
) -> tuple[Pilot | None, str]:
    """The arm, trained until so many epochs of all that it would have; None if it failed."""
    path = folder / f"{model}-{arm}".replace("/", "_")
    (recipe, changes), (rung, end) = way, until
    if before is not None and Run(path).info()["status"] == "finished":
        return replace(before, epochs=rung), monitor
    epochs = [0]

    def stop(row: dict[str, Any]) -> None:
        epochs[0] = row["epoch"]
        if row["epoch"] >= rung and rung < end:
            raise _Enough("the pilot has its epochs")

    start = time.perf_counter()
    try:
        if (path / "run.json").is_file():
            run = resume(path, progress=False, on_epoch=stop)
        else:
            given = Options(**options)
            given["recipe"] = recipe
            if arm != "head":  # which is solved where it can be, without epochs
                given["epochs"] = end
            given["settings"] = {**changes, **(options.get("settings") or {}), **ARMS[arm][1]}
            run = finetune(model, output_dir=path, progress=False, on_epoch=stop, **given)
    except _Enough:
        run = Run(path)
    except ZooError as e:
        if isinstance(e.__cause__, OSError):
            raise
        return None, monitor
    best = run.info()["best"]
    if best is None or best["value"] is None:
        return None, monitor
    seconds = time.perf_counter() - start + (before.seconds if before is not None else 0.0)
    if run.info()["status"] == "finished":
        epochs[0] = rung
    return Pilot(model, arm, epochs[0], float(best["value"]), seconds), str(best["monitor"])


def _verdict(
    found: Recommendation, done: dict[tuple[str, str], Pilot], own: tuple[str, str], epochs: int, monitor: str
) -> Pilots:
    """The best arm of those that came furthest; the rule stays unless that one came to its end and is ahead of the
    rule's own arm by more than a standard error."""
    higher = metrics.higher_is_better(monitor)
    order = sorted(done.values(), key=lambda p: (p.epochs, p.value if higher else -p.value), reverse=True)
    best, rules = order[0], done.get(own)
    if rules is not None:
        noise = _noise(best.value, found.validation) if monitor.startswith("top") else 0.0
        behind = (best.value - rules.value) * (1 if higher else -1)
        said = ""
        if rules is best or (rules.epochs == best.epochs and behind <= noise):
            said = f"no other way is clearly better than the rule's ({rules.arm})"
        elif best.epochs < epochs:
            said = f"the budget ended after {best.epochs} of {epochs} epochs, too soon to overrule the rule"
        if said:
            return Pilots(tuple(order), monitor, None, f"pilots: {said}")
    recipe, changes = _way(found, best.model, best.arm)
    decision = Decision(
        rule=f"pilot: {best.arm}",
        recipe=recipe,
        so=f"take {best.model} and train {_SO[best.arm]}, which was best in short trainings",
        changes=changes,
    )
    return Pilots(
        tuple(order),
        monitor,
        (best.model, decision),
        f"pilots: {best.arm} of {best.model} is best, {monitor} {best.value:.4g}",
    )


_SO = {
    "head": "the head only",
    "partial": "the head and the second half of the layers",
    "all": "everything, the head first",
}


def _arm_of(decision: Decision) -> str:
    """The arm that is nearest to what the rule says."""
    plan = build(load_values(decision.recipe), decision.changes).freeze
    return {"backbone": "head", "none": "all"}.get(plan, "partial")


def _noise(share: float, images: int) -> float:
    """The standard error of a share of so many images."""
    return math.sqrt(max(share * (1 - share), 1e-12) / max(images, 1))
