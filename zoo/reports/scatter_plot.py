"""Predicted by true values, a panel for each target."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray
from torch import Tensor

from zoo.metrics.accumulator import MetricAccumulator
from zoo.metrics.statistics import Collected
from zoo.reports.canvas import BLUE, GREY, INK, drawable, new_figure, save, set_names, shorten, style_axes

_MAX_PANELS = 12  # a grid of 4 × 3 is readable on a screen
_MAX_NAME_LENGTH = 24


def scatter(outputs: Tensor, targets: Tensor, names: Sequence[str], path: Path) -> None:
    """Write a PNG: true values on the x axis, predicted values on the y axis, and the diagonal.

    outputs, targets: (N, K) floats on the CPU. Of more than 12 targets the first 12 are drawn. Values that are not
    finite are left out. Raises TrainingError if the file cannot be written.
    """
    predicted, true = (np.asarray(values.numpy(), dtype=np.float64) for values in (outputs, targets))
    num_panels = min(len(names), _MAX_PANELS)
    columns = min(num_panels, 4 if num_panels > 6 else 3)
    rows = math.ceil(num_panels / columns)
    # A single panel is larger: a long title would widen its figure.
    side = 4.2 if num_panels == 1 else 3.4
    figure = new_figure(max(side * columns, 4.6), side * rows)
    panels = figure.subplots(rows, columns, squeeze=False).flatten()
    for i, axes in enumerate(panels):
        if i < num_panels:
            _panel(axes, predicted[:, i], true[:, i], shorten(drawable(names[i], i), _MAX_NAME_LENGTH))
        else:
            axes.set_axis_off()
    if num_panels < len(names):
        figure.suptitle(f"the first {num_panels} of {len(names):,} targets", x=0.01, ha="left", fontsize=10, color=GREY)
    figure.supxlabel("true", color=INK, fontsize=10)
    figure.supylabel("predicted", color=INK, fontsize=10)
    save(figure, path)


def draw(accumulator: MetricAccumulator, classes: Sequence[str], path: Path) -> None:
    collected = accumulator.statistic(Collected)
    scatter(collected.outputs, collected.targets, classes, path)


def _panel(axes: Axes, predicted: NDArray[np.float64], true: NDArray[np.float64], name: str) -> None:
    known = np.isfinite(predicted) & np.isfinite(true)
    predicted, true = predicted[known], true[known]
    set_names([axes.set_title(name, loc="left", color=INK, fontsize=10, pad=8)])
    if len(true):
        low, high = min(predicted.min(), true.min()), max(predicted.max(), true.max())
        margin = 0.05 * (high - low) or abs(high) * 0.05 or 1.0
        ends = (low - margin, high + margin)
        axes.plot(ends, ends, color=GREY, linewidth=1, zorder=1)
        # The more points, the more transparent they are, so that dense regions show.
        strength = float(np.clip(800 / len(true), 0.03, 0.8))
        size = 18 if len(true) < 500 else 9
        axes.scatter(true, predicted, s=size, color=BLUE, alpha=strength, linewidths=0, zorder=2)
        axes.set_xlim(ends)
        axes.set_ylim(ends)
        rmse = float(np.sqrt(np.mean((predicted - true) ** 2)))
        axes.set_title(f"RMSE {rmse:.3g}", loc="right", fontsize=9, color=GREY, pad=8)
    else:
        axes.text(0.5, 0.5, "no finite values", transform=axes.transAxes, ha="center", va="center", color=GREY)
    axes.set_aspect("equal")
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_locator(MaxNLocator(nbins=5))
    style_axes(axes, labelsize=8)
