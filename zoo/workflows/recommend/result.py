"""The result of `zoo recommend`: its values, summary and files."""

from __future__ import annotations

import re
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from zoo.atomic_io import write_json
from zoo.errors import translate_write_errors
from zoo.run import Run, create_unique_folder
from zoo.strategy.decision_table import Decision, Measurements
from zoo.strategy.scores import HoldoutScore, LearningCurve, RankedCandidate, Scores
from zoo.strategy.scores.similarity import DISSIMILAR, SIMILAR
from zoo.strategy.scores.size import LARGE_FROM, MEDIUM_FROM
from zoo.tasks import get_task
from zoo.workflows.recommend.candidates import CandidateModel
from zoo.workflows.recommend.sample import Sample


@dataclass(frozen=True)
class Pilot:
    """Result of a short training.

    Args:
        model: Name of the model.
        strategy: A key of STRATEGIES.
        epochs: Number of epochs trained; a head fitted in closed form counts as trained for all requested epochs.
        value: Best value of the monitored metric on the validation images.
        seconds: Training time.
    """

    model: str
    strategy: str
    epochs: int
    value: float
    seconds: float


@dataclass(frozen=True)
class Pilots:
    """Results of all short trainings.

    Args:
        tried: The trainings, best first.
        monitor: Name of the monitored metric.
        chosen: Model and decision that replace those of the decision table; None to keep these.
        reason: The outcome in a sentence.
    """

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
class ModelResult:
    """Measurements of one candidate model.

    Args:
        candidate: Model and weights.
        evidence: Inputs of the decision table.
        scores: Linear-probe, k-NN and LogME scores.
        holdout: Cross-validated linear-probe score; None with too few images.
        curve: Learning curve; None with too few images.
        prior: Published ImageNet-1k accuracy of these weights, from 0 to 1; None if unknown.
        params: Number of parameters.
        features: Number of features per image.
        gmacs: Multiply-accumulates of the catalog, in 10⁹; None if unknown.
        seconds: Time of a forward pass per image on this machine.
        computed: Number of images whose features were computed and not read from the cache, for both networks.
    """

    candidate: CandidateModel
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

    @property
    def name(self) -> str:
        """The candidate as the user wrote it."""
        return self.candidate.name

    def to_dict(self) -> dict[str, Any]:
        shift, flips = self.evidence.shift, self.evidence.flip_invariance
        return {
            "model": self.name,
            "catalog_name": self.candidate.model,
            "weights": self.candidate.weights,
            "linear_probe_score": self.scores.ridge.outcome.score,
            "multi_depth_score": None if self.scores.depths is None else self.scores.depths.outcome.score,
            "knn_score": self.scores.knn.outcome.score,
            "logme": self.scores.logme.value,
            "held_out": None
            if self.holdout is None
            else {"score": self.holdout.score, **asdict(self.holdout.interval)},
            "similarity": asdict(self.evidence.similarity),
            "batch_norm_shift": None if shift is None else {**asdict(shift), "layers": list(shift.layers)},
            "flip_invariance": None if flips is None else {**asdict(flips), "verdict": flips.verdict},
            "learning_curve": None if self.curve is None else asdict(self.curve),
            "size": asdict(self.evidence.size),
            "architecture": self.evidence.architecture,
            "imagenet_top1": self.prior,
            "params": self.params,
            "features": self.features,
            "gmacs": self.gmacs,
            "seconds_per_image": self.seconds,
            "images_computed": self.computed,
        }


@dataclass(frozen=True)
class SkippedModel:
    """A candidate that was not measured, with the reason."""

    name: str
    reason: str


@dataclass(frozen=True)
class Recommendation:
    """Result of `zoo.recommend`.

    Args:
        data: Name of the data set.
        images: Number of training images.
        validation: Number of validation images.
        classes: Number of classes, labels or target columns.
        task: Name of the task.
        sample: The training images that were used.
        results: Measured models, best first.
        ranked: Rank, score and interval of each model, in the same order.
        decisions: How to train each model, in the same order.
        skipped_models: Candidates that were not measured.
        warnings: Warnings about the data and the result, one sentence each.
        seconds: Time taken.
        pilots: Results of short trainings; None without `budget`.
        folder: Output folder; None if nothing was written.
    """

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
        """The recommended candidate and how to train it: the best pilot if it replaces the rule, else the rule."""
        if self.pilots is not None and self.pilots.chosen is not None:
            return self.pilots.chosen
        return self.best.name, self.decisions[0]

    @property
    def best(self) -> ModelResult:
        return self.results[0]

    def candidate(self, name: str) -> CandidateModel:
        """Model and weights of a measured candidate."""
        return next(m.candidate for m in self.results if m.name == name)

    def summary(self) -> list[str]:
        """Three sentences: the size of the data, the similarity to the pretraining data, the recommendation."""
        best, (_, decision) = self.best, self.choice
        size, similar = best.evidence.size, best.evidence.similarity
        task = get_task(self.task)
        score = "{:.0%}".format if task.has_classes else "R² {:.2f}".format
        baseline = "with random weights" if similar.baseline_kind == "random" else "of a constant prediction"
        interval = f"90% interval {similar.interval.low:.2f} to {similar.interval.high:.2f}"
        counted = f"{self.images:,} training images in {self.classes:,} {task.outputs}"
        return [
            f"You have {counted}: {size.name} ({size.reason}).",
            (
                f"A linear probe on {best.name} reaches {score(similar.pretrained)} (baseline {baseline}: "
                f"{score(similar.baseline)}): the data are {_SIMILARITY_TEXT[similar.verdict]} its pretraining data "
                f"(similarity {similar.value:.2f}, {interval})."
            ),
            f"Recommendation: {decision.advice}.",
        ]

    def to_dict(self) -> dict[str, Any]:
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
                    "rank": r.rank,
                    "tied": r.tied,
                    "score": r.score,
                    "score_interval": [r.interval.low, r.interval.high],
                    "decision": {**asdict(d), "runner_up": list(d.runner_up) if d.runner_up else None},
                }
                for m, r, d in zip(self.results, self.ranked, self.decisions, strict=True)
            ],
            "skipped_models": [asdict(m) for m in self.skipped_models],
            "warnings": list(self.warnings),
            "summary": self.summary(),
            "pilots": None if self.pilots is None else self.pilots.to_dict(),
            "seconds": self.seconds,
        }


_SIMILARITY_TEXT = {"similar": "similar to", "medium": "partly similar to", "dissimilar": "different from"}


def create_output_folder(recommendation: Recommendation, folder: Path | None) -> Path:
    """Create `folder`, or runs/recommend-DATA-N if it is None.

    Raises UsageError if the folder is in use, TrainingError if it cannot be written.
    """
    if folder is None:
        name = re.sub(r"[^\w.-]+", "_", f"recommend-{Path(recommendation.data).name}").strip("_")
        return create_unique_folder(Path("runs"), name)
    Run.check_free(folder)
    with translate_write_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)
    return folder


def save(recommendation: Recommendation, folder: Path) -> None:
    """Write recommend.json and recommend.png. Raises TrainingError if that fails."""
    from zoo.reports.quadrant_map import Point, quadrant_map

    write_json(folder / "recommend.json", recommendation.to_dict())
    points = [
        Point(
            m.name,
            m.evidence.similarity.value,
            (m.evidence.similarity.interval.low, m.evidence.similarity.interval.high),
            m.scores.ridge.outcome.score,
            _score_interval(m),
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


def _score_interval(m: ModelResult) -> tuple[float, float]:
    """The interval of the cross-validated score, moved to the leave-one-out score; empty without the former."""
    score = m.scores.ridge.outcome.score
    if m.holdout is None:
        return score, score
    return score - (m.holdout.score - m.holdout.interval.low), score + (m.holdout.interval.high - m.holdout.score)
