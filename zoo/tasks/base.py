"""The interface of a task, and of a prediction."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from zoo.errors import UsageError

if TYPE_CHECKING:
    from torch import Tensor

TaskName = Literal["single-label", "multi-label", "regression"]
TargetKind = Literal["class_index", "multi_hot", "values"]


@dataclass(frozen=True)
class Prediction(ABC):
    """The prediction for one image; each task has a subclass.

    Attributes:
        path: the image's path, or its index in a list of arrays.
        task: the task of the run.
        top: (class, probability) pairs, the most probable first; empty for regression.
        values: predicted values by target name, in the user's units; empty for the other tasks.
    """

    path: str
    task: ClassVar[TaskName]
    top: tuple[tuple[str, float], ...] = ()
    values: dict[str, float] = field(default_factory=dict)

    @property
    def label(self) -> str:
        """The most probable class or label. Raises IndexError if `top` is empty."""
        return self.top[0][0]

    @property
    def probability(self) -> float:
        """The probability of `label`. Raises IndexError if `top` is empty."""
        return self.top[0][1]

    @property
    def labels(self) -> tuple[str, ...]:
        """The names in `top`."""
        return tuple(label for label, _ in self.top)

    @abstractmethod
    def to_dict(self) -> dict[str, Any]:
        """The JSON object of the prediction."""

    @abstractmethod
    def csv_header(self) -> list[str]:
        """Column names of `csv_rows`."""

    @abstractmethod
    def csv_rows(self) -> list[list[str]]:
        """The prediction as rows of a CSV file."""

    @abstractmethod
    def cells(self) -> list[str]:
        """The prediction as the cells of one tab-separated line, rounded for reading."""


class RankedPrediction(Prediction):
    """A prediction of classes or labels with their probabilities."""

    def cells(self) -> list[str]:
        return [self.path, *(cell for label, p in self.top for cell in (label, f"{p:.4f}"))]

    def json_pairs(self) -> list[dict[str, Any]]:
        return [{"label": label, "probability": p} for label, p in self.top]


# (path, (K,) activated outputs) → prediction
MakePrediction = Callable[[str, "Tensor"], Prediction]


class Task(ABC):
    """Everything that depends on the kind of targets.

    Attributes:
        name: the name in recipes, options and records.
        targets: kind of the targets: "class_index" (N,) int64, "multi_hot" (N, K) 0 or 1, "values" (N, K) float32.
        output: the word for one of the K outputs: class, label or target.
        outputs: its plural.
        loss: default loss, a name of `zoo.losses`.
        metrics: metrics computed after every epoch, names of `zoo.metrics`.
        monitor: the one of them that chooses the best weights by default.
        metrics_module: module of the metric functions, with the class of evaluations as `EVALUATION`.
        collects_outputs: the outputs of a validation set fit in memory, so that metrics may use all of them at once.
        picture: file name of the picture of an evaluation.
        draw: import path of the function `(accumulator, classes, path)` that draws it.
        keeps_targets_under_geometry: flips and random crops do not change the targets.
        title, hub_pipeline, hub_tags: how an exported model card describes the model.
    """

    name: ClassVar[TaskName]
    targets: ClassVar[TargetKind]
    output: ClassVar[str]
    outputs: ClassVar[str]
    loss: ClassVar[str]
    metrics: ClassVar[tuple[str, ...]]
    monitor: ClassVar[str]
    metrics_module: ClassVar[str]
    collects_outputs: ClassVar[bool] = True
    picture: ClassVar[str]
    draw: ClassVar[str]
    keeps_targets_under_geometry: ClassVar[bool] = True
    title: ClassVar[str]
    hub_pipeline: ClassVar[str] = "image-classification"
    hub_tags: ClassVar[tuple[str, ...]]

    @property
    def has_classes(self) -> bool:
        """Targets name classes or labels: they can be counted, weighted and balanced."""
        return self.targets != "values"

    @property
    def has_one_class_per_image(self) -> bool:
        return self.targets == "class_index"

    @abstractmethod
    def activate(self, outputs: Tensor) -> Tensor:
        """A model's outputs (N, K) → probabilities or values (N, K) float32."""

    @abstractmethod
    def image_losses(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """The loss of each image (N,) float32: of outputs (N, K) and targets as the data have them."""

    @abstractmethod
    def target_text(self, target: Any, classes: Sequence[str]) -> str:
        """The target of one image, an index or a row (K,), as text."""

    @abstractmethod
    def prediction_maker(self, classes: Sequence[str], top: int | None, threshold: float | None) -> MakePrediction:
        """A function that turns a path and a row of activated outputs (K,) into a prediction.

        Args:
            classes: names of the K outputs.
            top: number of classes or labels per image.
            threshold: smallest probability of a label.

        Raises:
            UsageError: the task has no use for an option that was given.
        """

    @abstractmethod
    def output_code(self, names: str) -> str:
        """Python code of a model card that prints the tensor `outputs` (1, K); `names` is an expression for the names
        of the outputs."""


def ranked(
    row: Tensor, classes: Sequence[str], count: int, min_probability: float = 0.0
) -> tuple[tuple[str, float], ...]:
    """The `count` largest probabilities of a row (K,) with their classes, those below `min_probability` left out."""
    values, indices = row.topk(count)
    pairs: Iterable[tuple[int, float]] = zip(indices.tolist(), values.tolist(), strict=True)
    # NaN is not less than anything: the probabilities of a broken model stay visible.
    return tuple((classes[i], p) for i, p in pairs if not p < min_probability)


def reject_threshold(threshold: float | None, task: str) -> None:
    if threshold is not None:
        raise UsageError(f"--threshold is for multi-label runs; this is a {task} run", "leave it out")
