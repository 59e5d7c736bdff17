"""What `zoo recommend` has found: the values, the sentences that say them, the files that keep them."""

from __future__ import annotations

import re
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from zoo.atomic_io import write_json
from zoo.errors import translate_write_errors
from zoo.run import Run, create_unique_folder
from zoo.strategy.decision_table import Decision, Measurements
from zoo.strategy.scores import HoldoutScore, LearningCurve, RankedCandidate, Scores
from zoo.strategy.scores.similarity import DISSIMILAR, SIMILAR
from zoo.strategy.scores.size import LARGE_FROM, MEDIUM_FROM
from zoo.tasks import get_task

__all__ = [
    "ModelResult",
    "Pilot",
    "Pilots",
    "Recommendation",
    "Sample",
    "SkippedModel",
    "create_output_folder",
    "save",
]


@dataclass(frozen=True)
class Pilot:
    """How an arm of a model went: `value` of `monitor` on the validation images, the best of `epochs`. A head that is
    solved has its end at once, and counts as far as it was asked to go."""

    model: str
    strategy: str
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
            "chosen": None if self.chosen is None else {"model": self.chosen[0], "strategy": self.chosen[1].rule},
            "reason": self.reason,
        }


@dataclass(frozen=True)
class Sample:
    """Training images that are looked at: places in the source; duplicates: images left out because another has the
    same contents; conflicting: of these, the ones with another target. counts: training images of each class or label,
    all of them for regression. width, height: medians over a few images, in pixels; colours: what these show."""

    indices: NDArray[np.int64]
    duplicates: int
    conflicting: int
    counts: tuple[int, ...]
    width: int
    height: int
    colours: str


@dataclass(frozen=True)
class ModelResult:
    """What one candidate shows. features: numbers of each image; gmacs: of the catalog; seconds: of a forward pass of
    an image here; computed: images that went through a network, pretrained or random."""

    name: str
    evidence: Measurements
    scores: Scores
    holdout: HoldoutScore | None
    curve: LearningCurve | None
    prior: float | None
    params: int
    features: int
    gmacs: float | None
    seconds: float
    computed: int

    def to_dict(self) -> dict[str, Any]:
        similar, shift, mirrored = self.evidence.similarity, self.evidence.shift, self.evidence.flip_invariance
        return {
            "model": self.name,
            "linear_probe_score": self.scores.ridge.outcome.score,
            "knn_score": self.scores.knn.outcome.score,
            "logme": self.scores.logme.value,
            "held_out": None
            if self.holdout is None
            else {"score": self.holdout.score, **asdict(self.holdout.interval)},
            "similarity": asdict(similar),
            "batch_norm_shift": None if shift is None else {**asdict(shift), "layers": list(shift.layers)},
            "flip_invariance": None if mirrored is None else {**asdict(mirrored), "verdict": mirrored.verdict},
            "learning_curve": None if self.curve is None else asdict(self.curve),
            "size": asdict(self.evidence.size),
            "kind": self.evidence.kind,
            "imagenet_top1": self.prior,
            "params": self.params,
            "features": self.features,
            "gmacs": self.gmacs,
            "seconds_per_image": self.seconds,
            "images_computed": self.computed,
        }


@dataclass(frozen=True)
class SkippedModel:
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
    results: tuple[ModelResult, ...]
    ranked: tuple[RankedCandidate, ...]
    decisions: tuple[Decision, ...]
    skipped_models: tuple[SkippedModel, ...]
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
    def best(self) -> ModelResult:
        return self.results[0]

    def summary(self) -> list[str]:
        """Three for a beginner: how much there is, what the features say, what to do."""
        best, (_, decision) = self.best, self.choice
        size, similar = best.evidence.size, best.evidence.similarity
        task = get_task(self.task)
        first = (
            f"You have {self.images:,} training images in {self.classes:,} {task.outputs}: {size.name} ({size.reason})."
        )
        known = f"{similar.pretrained:.0%}" if task.has_classes else f"R² {similar.pretrained:.2f}"
        base = f"{similar.baseline:.0%}" if task.has_classes else f"{similar.baseline:.2f}"
        by = "the same network with random weights" if similar.by == "random" else "always the same answer"
        second = (
            f"A head on the features of {best.name} gets {known} right, {by} {base}: the data are "
            f"{_SIMILARITY_TEXT[similar.verdict]} what it was pretrained on (S = {similar.value:.2f}, 90 % interval "
            f"{similar.interval.low:.2f} to {similar.interval.high:.2f})."
        )
        return [first, second, f"So: {decision.so}."]

    def to_dict(self) -> dict[str, Any]:
        indices = {r.index: r for r in self.ranked}
        return {
            "data": self.data,
            "task": self.task,
            "images": self.images,
            "validation_images": self.validation,
            "classes": self.classes,
            "sampled_images": len(self.sample.indices),
            "images_per_class": list(self.sample.counts),
            "width": self.sample.width,
            "height": self.sample.height,
            "colours": self.sample.colours,
            "duplicates": self.sample.duplicates,
            "conflicting_duplicates": self.sample.conflicting,
            "models": [
                {
                    **m.to_dict(),
                    "rank": indices[i].place,
                    "tied": indices[i].tied,
                    "score": indices[i].score,
                    "score_interval": [indices[i].interval.low, indices[i].interval.high],
                    "decision": {**asdict(d), "runner_up": list(d.runner_up) if d.runner_up else None},
                }
                for i, (m, d) in enumerate(zip(self.results, self.decisions, strict=True))
            ],
            "skipped_models": [asdict(one) for one in self.skipped_models],
            "warnings": list(self.warnings),
            "summary": self.summary(),
            "pilots": None if self.pilots is None else self.pilots.to_dict(),
            "seconds": self.seconds,
        }


_SIMILARITY_TEXT = {"similar": "like", "between": "partly like", "dissimilar": "unlike"}


def create_output_folder(recommendation: Recommendation, folder: Path | None) -> Path:
    """`folder`, made, or runs/recommend-DATA with a number behind it. Raises UsageError if it is in use, TrainingError
    if the disk refuses."""
    if folder is None:
        name = re.sub(r"[^\w.-]+", "_", f"recommend-{Path(recommendation.data).name}").strip("_")
        return create_unique_folder(Path("runs"), name)
    Run.check_free(folder)
    with translate_write_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)
    return folder


def save(recommendation: Recommendation, folder: Path) -> None:
    """Write recommend.json and recommend.png. Raises TrainingError if the disk refuses."""
    from zoo.reports.quadrant_map import Point, quadrant_map

    write_json(folder / "recommend.json", recommendation.to_dict())
    points = [
        Point(
            m.name,
            m.evidence.similarity.value,
            (m.evidence.similarity.interval.low, m.evidence.similarity.interval.high),
            m.scores.ridge.outcome.score,
            _shifted_interval(m),
            m.seconds,
            chosen=i == 0,
        )
        for i, m in enumerate(recommendation.results)
    ]
    quadrant_map(
        points,
        folder / "recommend.png",
        images=recommendation.images,
        size_cuts=(MEDIUM_FROM, LARGE_FROM),
        similarity_cuts=(DISSIMILAR, SIMILAR),
        score_name="accuracy" if get_task(recommendation.task).has_classes else "R²",
    )


def _shifted_interval(m: ModelResult) -> tuple[float, float]:
    """The interval of the held-out score, moved to the score left out; of that itself where nothing was held out."""
    score = m.scores.ridge.outcome.score
    if m.holdout is None:
        return score, score
    return score - (m.holdout.score - m.holdout.interval.low), score + (m.holdout.interval.high - m.holdout.score)
