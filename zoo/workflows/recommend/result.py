"""What `zoo recommend` has found: the values, the sentences that say them, the files that keep them."""

from __future__ import annotations

import json
import re
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from zoo.atomic_io import write_json
from zoo.errors import writing
from zoo.run import Run, fresh_folder
from zoo.strategy.decision_table import Decision, Evidence
from zoo.strategy.scores import HeldOut, LearningCurve, Place, Scores
from zoo.strategy.scores.similarity import DISSIMILAR, SIMILAR
from zoo.strategy.scores.size import LARGE_FROM, MEDIUM_FROM

__all__ = ["LeftOut", "Measured", "Pilot", "Pilots", "Recommendation", "Sample", "new_folder", "save", "settings_text"]


@dataclass(frozen=True)
class Pilot:
    """How an arm of a model went: `value` of `monitor` on the validation images, the best of `epochs`. A head that is
    solved has its end at once, and counts as far as it was asked to go."""

    model: str
    arm: str
    epochs: int
    value: float
    seconds: float


@dataclass(frozen=True)
class Pilots:
    """tried: best first. chosen: what to do instead of the rule, None if the rule's way is as good as the best."""

    tried: tuple[Pilot, ...]
    monitor: str
    chosen: tuple[str, Decision] | None
    reason: str

    def to_dict(self) -> dict[str, Any]:
        return {
            "tried": [asdict(p) for p in self.tried],
            "monitor": self.monitor,
            "chosen": None if self.chosen is None else {"model": self.chosen[0], "arm": self.chosen[1].rule},
            "reason": self.reason,
        }


@dataclass(frozen=True)
class Sample:
    """Training images that are looked at: places in the source; duplicates: images left out because another has the
    same contents; conflicting: of these, the ones with another target. counts: training images of each class or label,
    all of them for regression. width, height: medians over a few images, in pixels; colours: what these show."""

    places: NDArray[np.int64]
    duplicates: int
    conflicting: int
    counts: tuple[int, ...]
    width: int
    height: int
    colours: str


@dataclass(frozen=True)
class Measured:
    """What one candidate shows. features: numbers of each image; gmacs: of the catalog; seconds: of a forward pass of
    an image here; computed: images that went through a network, pretrained or random."""

    name: str
    evidence: Evidence
    scores: Scores
    held: HeldOut | None
    curve: LearningCurve | None
    prior: float | None
    params: int
    features: int
    gmacs: float | None
    seconds: float
    computed: int

    def to_dict(self) -> dict[str, Any]:
        similar, shift, mirrored = self.evidence.similarity, self.evidence.shift, self.evidence.mirroring
        return {
            "model": self.name,
            "accuracy_left_out": self.scores.ridge.outcome.score,
            "knn_left_out": self.scores.knn.outcome.score,
            "logme": self.scores.logme.value,
            "held_out": None if self.held is None else {"score": self.held.score, **asdict(self.held.interval)},
            "similarity": asdict(similar),
            "batch_norm_shift": None if shift is None else {**asdict(shift), "layers": list(shift.layers)},
            "mirroring": None if mirrored is None else {**asdict(mirrored), "verdict": mirrored.verdict},
            "learning_curve": None if self.curve is None else asdict(self.curve),
            "size": asdict(self.evidence.size),
            "kind": self.evidence.kind,
            "imagenet_top1": self.prior,
            "params": self.params,
            "features": self.features,
            "gmacs": self.gmacs,
            "seconds_an_image": self.seconds,
            "images_computed": self.computed,
        }


@dataclass(frozen=True)
class LeftOut:
    name: str
    reason: str


@dataclass(frozen=True)
class Recommendation:
    """best first. decisions: for each of `ranked`, in its order. warnings: sentences. seconds: that it took."""

    data: str
    images: int
    validation: int
    classes: int
    task: str
    sample: Sample
    measured: tuple[Measured, ...]
    ranked: tuple[Place, ...]
    decisions: tuple[Decision, ...]
    left_out: tuple[LeftOut, ...]
    warnings: tuple[str, ...]
    seconds: float
    pilots: Pilots | None = None
    folder: Path | None = None

    @property
    def choice(self) -> tuple[str, Decision]:
        """The model to take and how to train it: what the pilots say, else what the rules say of the best."""
        if self.pilots is not None and self.pilots.chosen is not None:
            return self.pilots.chosen
        return self.best.name, self.decisions[0]

    @property
    def best(self) -> Measured:
        return self.measured[0]

    def sentences(self) -> list[str]:
        """Three for a beginner: how much there is, what the features say, what to do."""
        best, (_, decision) = self.best, self.choice
        size, similar = best.evidence.size, best.evidence.similarity
        unit = {"single-label": "classes", "multi-label": "labels"}.get(self.task, "numbers")
        first = f"You have {self.images:,} training images in {self.classes:,} {unit}: {size.name} ({size.because})."
        known = f"{similar.pretrained:.0%}" if self.task != "regression" else f"R² {similar.pretrained:.2f}"
        base = f"{similar.baseline:.0%}" if self.task != "regression" else f"{similar.baseline:.2f}"
        by = "the same network with random weights" if similar.by == "random" else "always the same answer"
        second = (
            f"A head on the features of {best.name} gets {known} right, {by} {base}: the data are "
            f"{_SAID[similar.verdict]} what it was pretrained on (S = {similar.value:.2f}, 90 % interval "
            f"{similar.interval.low:.2f} to {similar.interval.high:.2f})."
        )
        return [first, second, f"So: {decision.so}."]

    def to_dict(self) -> dict[str, Any]:
        places = {r.index: r for r in self.ranked}
        return {
            "data": self.data,
            "task": self.task,
            "images": self.images,
            "validation_images": self.validation,
            "classes": self.classes,
            "looked_at": len(self.sample.places),
            "images_of_each": list(self.sample.counts),
            "width": self.sample.width,
            "height": self.sample.height,
            "colours": self.sample.colours,
            "duplicates": self.sample.duplicates,
            "conflicting_duplicates": self.sample.conflicting,
            "models": [
                {
                    **m.to_dict(),
                    "place": places[i].place,
                    "tied": places[i].tied,
                    "score": places[i].score,
                    "score_interval": [places[i].interval.low, places[i].interval.high],
                    "decision": {**asdict(d), "runner_up": list(d.runner_up) if d.runner_up else None},
                }
                for i, (m, d) in enumerate(zip(self.measured, self.decisions, strict=True))
            ],
            "left_out": [asdict(one) for one in self.left_out],
            "warnings": list(self.warnings),
            "sentences": self.sentences(),
            "pilots": None if self.pilots is None else self.pilots.to_dict(),
            "seconds": self.seconds,
        }


_SAID = {"similar": "like", "between": "partly like", "dissimilar": "unlike"}


def settings_text(changes: dict[str, Any]) -> list[str]:
    """Each change as `--set` takes it: key=value, the value as YAML of one line."""
    return [f"{key}={json.dumps(value)}" for key, value in changes.items()]


def new_folder(found: Recommendation, folder: Path | None) -> Path:
    """`folder`, made, or runs/recommend-DATA with a number behind it. Raises UsageError if it is in use, TrainingError
    if the disk refuses."""
    if folder is None:
        name = re.sub(r"[^\w.-]+", "_", f"recommend-{Path(found.data).name}").strip("_")
        return fresh_folder(Path("runs"), name)
    Run.check_free(folder)
    with writing(folder):
        folder.mkdir(parents=True, exist_ok=True)
    return folder


def save(found: Recommendation, folder: Path) -> None:
    """Write recommend.json and recommend.png. Raises TrainingError if the disk refuses."""
    from zoo.reports.quadrant_map import Point, quadrant_map

    write_json(folder / "recommend.json", found.to_dict())
    points = [
        Point(
            m.name,
            m.evidence.similarity.value,
            (m.evidence.similarity.interval.low, m.evidence.similarity.interval.high),
            m.scores.ridge.outcome.score,
            _around(m),
            m.seconds,
            chosen=i == 0,
        )
        for i, m in enumerate(found.measured)
    ]
    quadrant_map(
        points,
        folder / "recommend.png",
        images=found.images,
        size_cuts=(MEDIUM_FROM, LARGE_FROM),
        similarity_cuts=(DISSIMILAR, SIMILAR),
        score_name="R²" if found.task == "regression" else "accuracy",
    )


def _around(m: Measured) -> tuple[float, float]:
    """The interval of the held-out score, moved to the score left out; of that itself where nothing was held out."""
    score = m.scores.ridge.outcome.score
    if m.held is None:
        return score, score
    return score - (m.held.score - m.held.interval.low), score + (m.held.interval.high - m.held.score)
