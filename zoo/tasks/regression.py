"""Regression: each image has one or several values, in the user's units."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from zoo.errors import UsageError
from zoo.tasks.base import MakePrediction, Prediction, Task, reject_threshold

if TYPE_CHECKING:
    from torch import Tensor


class ValuePrediction(Prediction):
    """`values` holds one value per target."""

    task = "regression"

    def to_dict(self) -> dict[str, Any]:
        return {"path": self.path, "values": dict(self.values)}

    def csv_header(self) -> list[str]:
        return ["path", *self.values]

    def csv_rows(self) -> list[list[str]]:
        return [self.cells()]

    def cells(self) -> list[str]:
        return [self.path, *(f"{value:.6g}" for value in self.values.values())]


class Regression(Task):
    name = "regression"
    targets = "values"
    output, outputs = "target", "targets"
    loss = "mse"
    metrics = ("mae", "rmse", "r2")
    monitor = "rmse"
    metrics_module = "zoo.metrics.regression"
    picture = "scatter.png"
    draw = "zoo.reports.scatter_plot:draw"
    keeps_targets_under_geometry = False
    title = "A model that predicts values from images"
    hub_pipeline = "other"  # the hub has no pipeline for image regression
    hub_tags = ("image-regression",)

    def activate(self, outputs: Tensor) -> Tensor:
        return outputs.float()

    def image_losses(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Squared error in units of each target's variance, the mean over the targets."""
        variance = targets.var(0, correction=0).clamp_min(1e-12)
        return ((outputs.float() - targets).square() / variance).mean(1)

    def target_text(self, target: Any, classes: Sequence[str]) -> str:
        return ", ".join(f"{name} {value:g}" for name, value in zip(classes, target, strict=True))

    def prediction_maker(self, classes: Sequence[str], top: int | None, threshold: float | None) -> MakePrediction:
        reject_threshold(threshold, self.name)
        if top is not None:
            raise UsageError("--top is for classes and labels; this run predicts numbers", "leave it out")
        return lambda path, row: ValuePrediction(path, values=dict(zip(classes, row.tolist(), strict=True)))

    def output_code(self, names: str) -> str:
        return f"""for name, value in zip({names}, outputs[0].tolist()):
    print(name, value)"""
