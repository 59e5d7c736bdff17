"""What was measured → how to train: the decision table in decisions.yaml, read and applied."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cache
from importlib import resources
from typing import Any, Literal

from ruamel.yaml import YAML

from zoo.strategy.scores.flip_invariance import Mirroring
from zoo.strategy.scores.norm_shift import MILD, STRONG, NormShift
from zoo.strategy.scores.similarity import DISSIMILAR, SIMILAR, Similarity
from zoo.strategy.scores.size import FEW_A_CLASS, LARGE_FROM, MEDIUM_FROM, DataSize

__all__ = ["Decision", "Evidence", "Kind", "decide", "epochs_of", "table"]

Kind = Literal["cnn", "transformer"]
Values = dict[str, Any]

# Images of an update, the usual batch of a recipe.
_BATCH = 32


@dataclass(frozen=True)
class Evidence:
    """All that the rules look at. shift: None where the model has no batch norm. mirroring: None if not looked at."""

    size: DataSize
    similarity: Similarity
    shift: NormShift | None
    kind: Kind
    mirroring: Mirroring | None = None

    def facts(self) -> Values:
        return {
            "size": self.size.name,
            "similarity": self.similarity.verdict,
            "shift": "absent" if self.shift is None else self.shift.verdict,
            "kind": self.kind,
            "images": self.size.images,
            "a_class": self.size.a_class,
            "mirrored": "unknown" if self.mirroring is None else self.mirroring.verdict,
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
def table() -> Values:
    """decisions.yaml as it is."""
    text = resources.files("zoo.strategy").joinpath("decisions.yaml").read_text(encoding="utf-8")
    found: Values = YAML(typ="safe").load(text)
    return found


def decide(evidence: Evidence) -> Decision:
    """The first rule that holds, and the one that nearly would have."""
    facts = evidence.facts()
    found = _first(facts)
    for what, value in _nearly(evidence):
        other = _first({**facts, what: value})
        if other.rule != found.rule:
            return replace(found, runner_up=(other.rule, f"{what} {value}"))
    return found


def _first(facts: Mapping[str, Any]) -> Decision:
    rule = next(r for r in table()["rules"] if _holds(r["when"], facts))
    changes = dict(rule.get("set", {}))
    if "updates" in rule:
        changes["train.epochs"] = epochs_of(rule["updates"], facts["images"])
    for more in table()["also"]:
        if _holds(more["when"], facts):
            changes = {**more["set"], **changes}
    return Decision(rule["name"], rule["recipe"], rule["so"], changes)


def epochs_of(updates: int, images: int) -> int:
    """As many as make so many updates of 32 images, 10 to 60 (ours): fewer never show an image often enough for
    augmentation to matter, more of the same few images teach nothing."""
    return min(max(math.ceil(updates * _BATCH / images), 10), 60)


def _holds(when: Mapping[str, Any], facts: Mapping[str, Any]) -> bool:
    for what, wanted in when.items():
        value = facts[what]
        if isinstance(value, int | float):
            low, high = wanted
            if (low is not None and value < low) or (high is not None and value >= high):
                return False
        elif value not in wanted:
            return False
    return True


def _nearly(evidence: Evidence) -> list[tuple[str, str]]:
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
        (evidence.size.a_class, FEW_A_CLASS, "few", "small"),
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
