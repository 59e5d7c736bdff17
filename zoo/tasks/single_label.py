"""Single-label classification: each image belongs to exactly one class."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from zoo.tasks.base import MakePrediction, RankedPrediction, Task, ranked, reject_threshold

if TYPE_CHECKING:
    from torch import Tensor


class ClassPrediction(RankedPrediction):
    """`top` holds the most probable classes; the probabilities of all classes sum to 1."""

    task = "single-label"

    def to_dict(self) -> dict[str, Any]:
        return {"path": self.path, "label": self.label, "probability": self.probability, "top": self.json_pairs()}

    def csv_header(self) -> list[str]:
        more = (f"{name}_{k}" for k in range(2, len(self.top) + 1) for name in ("label", "probability"))
        return ["path", "label", "probability", *more]

    def csv_rows(self) -> list[list[str]]:
        return [[self.path, *(cell for label, p in self.top for cell in (label, f"{p:.6g}"))]]


class SingleLabel(Task):
    name = "single-label"
    targets = "class_index"
    output, outputs = "class", "classes"
    loss = "cross_entropy"
    metrics = ("top1", "top5")
    monitor = "top1"
    metrics_module = "zoo.metrics.single_label"
    picture = "confusion.png"
    draw = "zoo.reports.confusion_matrix:draw"
    title = "An image classifier"
    hub_tags = ("image-classification",)

    def activate(self, outputs: Tensor) -> Tensor:
        return outputs.float().softmax(1)

    def image_losses(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Cross-entropy."""
        return -outputs.float().log_softmax(1).gather(1, targets[:, None])[:, 0]

    def target_text(self, target: Any, classes: Sequence[str]) -> str:
        return classes[int(target)]

    def prediction_maker(self, classes: Sequence[str], top: int | None, threshold: float | None) -> MakePrediction:
        reject_threshold(threshold, self.name)
        count = min(top or 1, len(classes))
        return lambda path, row: ClassPrediction(path, ranked(row, classes, count))

    def output_code(self, names: str) -> str:
        return f"""probabilities = outputs.softmax(1)[0]
number = int(probabilities.argmax())
print({names}[number], float(probabilities[number]))"""
