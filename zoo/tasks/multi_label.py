"""Multi-label classification: an image has any number of the labels."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from zoo.errors import UsageError
from zoo.tasks.base import MakePrediction, RankedPrediction, Task, ranked

if TYPE_CHECKING:
    from torch import Tensor

_THRESHOLD = 0.5


class LabelPrediction(RankedPrediction):
    """`top` holds the predicted labels of the image, possibly none."""

    task = "multi-label"

    def to_dict(self) -> dict[str, Any]:
        return {"path": self.path, "labels": self.json_pairs()}

    def csv_header(self) -> list[str]:
        return ["path", "label", "probability"]

    def csv_rows(self) -> list[list[str]]:
        """One row per label, because a CSV file has fixed columns; one row with an empty label if there is none."""
        return [[self.path, label, f"{p:.6g}"] for label, p in self.top] or [[self.path, "", ""]]


class MultiLabel(Task):
    name = "multi-label"
    targets = "multi_hot"
    output, outputs = "label", "labels"
    loss = "bce_with_logits"
    metrics = ("average_precision", "micro_f1")
    monitor = "average_precision"
    metrics_module = "zoo.metrics.multi_label"
    picture = "labels.png"
    draw = "zoo.reports.label_chart:draw"
    title = "A multi-label classifier"
    hub_tags = ("image-classification", "multi-label")

    def activate(self, outputs: Tensor) -> Tensor:
        return outputs.float().sigmoid()

    def image_losses(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Binary cross-entropy, the mean over the labels."""
        from torch.nn.functional import binary_cross_entropy_with_logits

        return binary_cross_entropy_with_logits(outputs.float(), targets, reduction="none").mean(1)

    def target_text(self, target: Any, classes: Sequence[str]) -> str:
        return ", ".join(name for name, value in zip(classes, target, strict=True) if value) or "no label"

    def prediction_maker(self, classes: Sequence[str], top: int | None, threshold: float | None) -> MakePrediction:
        if threshold is not None and top is not None:
            raise UsageError("--top and --threshold exclude each other", "choose one")
        count = len(classes) if top is None else min(top, len(classes))
        lowest = 0.0 if top is not None else _THRESHOLD if threshold is None else threshold
        return lambda path, row: LabelPrediction(path, ranked(row, classes, count, lowest))

    def output_code(self, names: str) -> str:
        return f"""for name, probability in zip({names}, outputs.sigmoid()[0].tolist()):
    if probability >= 0.5:
        print(name, probability)"""
