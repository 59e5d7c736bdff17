"""Apply the decision table in decisions.yaml: measurements → recipe."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cache
from importlib import resources
from typing import Any, Literal

from ruamel.yaml import YAML

from zoo.strategy.scores.flip_invariance import FlipInvariance
from zoo.strategy.scores.measure import HeadName
from zoo.strategy.scores.norm_shift import MILD, STRONG, NormShift
from zoo.strategy.scores.similarity import DISSIMILAR, SIMILAR, Similarity
from zoo.strategy.scores.size import FEW_SHOT_BELOW, LARGE_FROM, MEDIUM_FROM, DataSize

Architecture = Literal["cnn", "transformer"]
Values = dict[str, Any]

_BATCH_SIZE = 32  # of the recipes


@dataclass(frozen=True)
class Measurements:
    """The inputs of the decision table.

    Args:
        size: Size class of the training set.
        similarity: Similarity of the data to the pretraining data.
        shift: Batch-norm shift; None for a model without batch norm.
        architecture: "transformer" if the backbone has attention blocks, else "cnn".
        flip_invariance: Effect of horizontal flips on the accuracy; None if not measured.
        head: The head whose linear probe predicts held-out images better.
        parameters: Number of parameters of the model.
        fit: "squash" if squashed images are predicted better than those that the model's preprocessing crops.
    """

    size: DataSize
    similarity: Similarity
    shift: NormShift | None
    architecture: Architecture
    flip_invariance: FlipInvariance | None = None
    head: HeadName = "linear"
    parameters: int = 25_000_000
    fit: Literal["auto", "squash"] = "auto"

    def conditions(self) -> Values:
        return {
            "size": self.size.name,
            "similarity": self.similarity.verdict,
            "batch_norm_shift": "absent" if self.shift is None else self.shift.verdict,
            "architecture": self.architecture,
            "images": self.size.images,
            "images_per_class": self.size.images_per_class,
            "horizontal_flip": "unknown" if self.flip_invariance is None else self.flip_invariance.verdict,
            "head": self.head,
            "parameters": self.parameters,
            "fit": self.fit,
        }


@dataclass(frozen=True)
class Decision:
    """How to train a model.

    Args:
        rule: Name of the rule in decisions.yaml.
        recipe: Name of a recipe that zoo ships.
        advice: The rule in words, a clause without a full stop.
        changes: Recipe keys that the rule changes (dotted key → value).
        runner_up: The rule that would apply if the measurement nearest to a threshold were on the other side of it, and
            that condition, such as ("small and related", "similarity is medium"); None if no rule would change.
    """

    rule: str
    recipe: str
    advice: str
    changes: Values = field(default_factory=dict)
    runner_up: tuple[str, str] | None = None


@cache
def load_table() -> Values:
    """The parsed decisions.yaml."""
    text = resources.files("zoo.strategy").joinpath("decisions.yaml").read_text(encoding="utf-8")
    found: Values = YAML(typ="safe").load(text)
    return found


def decide(evidence: Measurements) -> Decision:
    """The first rule that matches `evidence`, with the runner-up."""
    conditions = evidence.conditions()
    found = _first_match(conditions)
    for condition, value in _near_misses(evidence):
        other = _first_match({**conditions, condition: value})
        if other.rule != found.rule:
            return replace(found, runner_up=(other.rule, f"{condition.replace('_', ' ')} is {value}"))
    return found


def _first_match(conditions: Mapping[str, Any]) -> Decision:
    rule = next(r for r in load_table()["rules"] if _matches(r["when"], conditions))
    changes = dict(rule.get("set", {}))
    if "steps" in rule:
        changes["train.epochs"] = epochs_for(rule["steps"], conditions["images"])
    for addition in load_table()["additions"]:
        if _matches(addition["when"], conditions):
            changes = {**addition["set"], **changes}
    return Decision(rule["name"], rule["recipe"], rule["advice"], changes)


def epochs_for(steps: int, images: int) -> int:
    """The number of epochs that make `steps` steps with a batch size of 32, at least 10 and at most 60.

    The limits are ours: with fewer epochs augmentation has no effect, and more of the same images do not help.
    """
    return min(max(math.ceil(steps * _BATCH_SIZE / images), 10), 60)


def _matches(when: Mapping[str, Any], conditions: Mapping[str, Any]) -> bool:
    for condition, wanted in when.items():
        value = conditions[condition]
        if isinstance(value, int | float):
            low, high = wanted
            if (low is not None and value < low) or (high is not None and value >= high):
                return False
        elif value not in wanted:
            return False
    return True


def _near_misses(evidence: Measurements) -> list[tuple[str, str]]:
    """(condition, value) on the other side of each threshold, the measurement nearest to its threshold first.

    Units of distance, chosen to be comparable (ours): 0.1 for the similarity, a factor of 2 for the others.
    """
    found: list[tuple[float, str, str]] = []
    s = evidence.similarity.value
    for cut, below, above in ((SIMILAR, "medium", "similar"), (DISSIMILAR, "dissimilar", "medium")):
        for side in (below, above):
            if side != evidence.similarity.verdict:
                found.append((abs(s - cut) / 0.1, "similarity", side))
    sizes = (
        (evidence.size.images_per_class, FEW_SHOT_BELOW, "few-shot", "small"),
        (evidence.size.images, MEDIUM_FROM, "small", "medium"),
        (evidence.size.images, LARGE_FROM, "medium", "large"),
    )
    for amount, cut, below, above in sizes:
        for side in (below, above):
            if side != evidence.size.name and evidence.size.name in (below, above):
                found.append((_doublings(amount, cut), "size", side))
    if evidence.shift is not None:
        for cut, below, above in ((MILD, "none", "mild"), (STRONG, "mild", "strong")):
            for side in (below, above):
                if side != evidence.shift.verdict:
                    found.append((_doublings(evidence.shift.value, cut), "batch_norm_shift", side))
    return [(condition, value) for _, condition, value in sorted(found)]


def _doublings(amount: float, cut: float) -> float:
    ratio = max(amount, 1e-9) / cut
    count = 0.0
    while ratio >= 2 or ratio <= 0.5:
        count, ratio = count + 1, ratio / 2 if ratio >= 2 else ratio * 2
    return count + abs(ratio - 1)
