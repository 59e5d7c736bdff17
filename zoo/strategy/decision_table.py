"""What was measured → how to train: the decision table in decisions.yaml, read and applied."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cache
from importlib import resources
from typing import Any, Literal

from ruamel.yaml import YAML

from zoo.strategy.scores.flip_invariance import FlipInvariance
from zoo.strategy.scores.norm_shift import MILD, STRONG, NormShift
from zoo.strategy.scores.similarity import DISSIMILAR, SIMILAR, Similarity
from zoo.strategy.scores.size import FEW_PER_CLASS, LARGE_FROM, MEDIUM_FROM, DataSize

__all__ = ["Decision", "Measurements", "ModelKind", "decide", "epochs_for", "load_table"]

ModelKind = Literal["cnn", "transformer"]
Values = dict[str, Any]

# Images of an update, the usual batch of a recipe.
_BATCH_SIZE = 32


@dataclass(frozen=True)
class Measurements:
    """All that the rules look at. shift: None where the model has no batch norm. flip_invariance: None if not looked
    at."""

    size: DataSize
    similarity: Similarity
    shift: NormShift | None
    kind: ModelKind
    flip_invariance: FlipInvariance | None = None

    def conditions(self) -> Values:
        return {
            "size": self.size.name,
            "similarity": self.similarity.verdict,
            "shift": "absent" if self.shift is None else self.shift.verdict,
            "kind": self.kind,
            "images": self.size.images,
            "images_per_class": self.size.images_per_class,
            "mirrored": "unknown" if self.flip_invariance is None else self.flip_invariance.verdict,
        }


@dataclass(frozen=True)
class Decision:
    """rule: its name. recipe: of a shipped one, with `changes` (dotted key → value) laid over. so: what to do, in a
    clause. runner_up: the rule that would have been taken had the least certain measurement come out on the other side
    of its nearest cut, and which one that is; None if no such measurement changes the rule."""

    rule: str
    recipe: str
    so: str
    changes: Values = field(default_factory=dict)
    runner_up: tuple[str, str] | None = None


@cache
def load_table() -> Values:
    """decisions.yaml as it is."""
    text = resources.files("zoo.strategy").joinpath("decisions.yaml").read_text(encoding="utf-8")
    found: Values = YAML(typ="safe").load(text)
    return found


def decide(evidence: Measurements) -> Decision:
    """The first rule that holds, and the one that nearly would have."""
    conditions = evidence.conditions()
    found = _first_match(conditions)
    for what, value in _near_misses(evidence):
        other = _first_match({**conditions, what: value})
        if other.rule != found.rule:
            return replace(found, runner_up=(other.rule, f"{what} {value}"))
    return found


def _first_match(conditions: Mapping[str, Any]) -> Decision:
    rule = next(r for r in load_table()["rules"] if _matches(r["when"], conditions))
    changes = dict(rule.get("set", {}))
    if "updates" in rule:
        changes["train.epochs"] = epochs_for(rule["updates"], conditions["images"])
    for more in load_table()["also"]:
        if _matches(more["when"], conditions):
            changes = {**more["set"], **changes}
    return Decision(rule["name"], rule["recipe"], rule["so"], changes)


def epochs_for(updates: int, images: int) -> int:
    """As many as make so many updates of 32 images, 10 to 60 (ours): fewer never show an image often enough for
    augmentation to matter, more of the same few images teach nothing."""
    return min(max(math.ceil(updates * _BATCH_SIZE / images), 10), 60)


def _matches(when: Mapping[str, Any], conditions: Mapping[str, Any]) -> bool:
    for what, wanted in when.items():
        value = conditions[what]
        if isinstance(value, int | float):
            low, high = wanted
            if (low is not None and value < low) or (high is not None and value >= high):
                return False
        elif value not in wanted:
            return False
    return True


def _near_misses(evidence: Measurements) -> list[tuple[str, str]]:
    """What the measurements would say on the other side of the nearest cut, the nearest to its cut first.

    Distances are in units that a reader would call alike (ours): a tenth of similarity, a factor of two of the others.
    """
    found: list[tuple[float, str, str]] = []
    s = evidence.similarity.value
    for cut, below, above in ((SIMILAR, "between", "similar"), (DISSIMILAR, "dissimilar", "between")):
        for side in (below, above):
            if side != evidence.similarity.verdict:
                found.append((abs(s - cut) / 0.1, "similarity", side))
    sizes = (
        (evidence.size.images_per_class, FEW_PER_CLASS, "few", "small"),
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
                    found.append((_doublings(evidence.shift.value, cut), "shift", side))
    return [(what, value) for _, what, value in sorted(found)]


def _doublings(amount: float, cut: float) -> float:
    ratio = max(amount, 1e-9) / cut
    count = 0.0
    while ratio >= 2 or ratio <= 0.5:
        count, ratio = count + 1, ratio / 2 if ratio >= 2 else ratio * 2
    return count + abs(ratio - 1)
