"""Pictures of learning rates: the loss by learning rate of a range test, and the schedule of a run."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib import colormaps
from numpy.typing import NDArray

from zoo.reports.canvas import BLUE, GREY, INK, ORANGE, new_figure, save, set_names, style_axes

# A longer legend would hide the curves: of more lines only some are named, from the highest to the lowest.
_MAX_LEGEND_LINES = 10
# The plot is 900 pixels wide.
_MAX_POINTS = 6000
# With a larger ratio of the peaks, the lowest line would look like zero on a linear axis.
_LOG_SPREAD = 30.0


def lr_curve(
    lrs: Sequence[float], losses: Sequence[float], smoothed: Sequence[float], path: Path, *, suggestion: float | None
) -> None:
    """Write a PNG: the loss of each step as a dot, the smoothed loss as a line, the suggestion as a vertical line.

    The loss axis is limited, so that the final divergence does not hide the descent. Values that are not finite are
    left out. Raises TrainingError if the file cannot be written.
    """
    figure = new_figure(7.5, 4.2)
    axes = figure.subplots()
    axes.plot(lrs, losses, ".", color=GREY, markersize=4, alpha=0.7, label="each step")
    axes.plot(lrs, smoothed, color=BLUE, linewidth=1.8, label="smoothed")
    axes.set_xscale("log")
    finite = [v for v in (*losses, *smoothed) if math.isfinite(v)]
    first_losses = [v for v in losses[: max(len(losses) // 10, 1)] if math.isfinite(v)]
    if first_losses:
        low, high = min(finite), max(first_losses)
        margin = 0.08 * (high - low or 1)
        axes.set_ylim(low - margin, min(max(finite), high + 0.5 * (high - low)) + margin)
    if suggestion is not None:
        axes.axvline(suggestion, color=ORANGE, linewidth=1.5, label="suggestion")
        axes.set_title(f"suggestion {suggestion:.2g}", loc="right", fontsize=9, color=ORANGE, pad=10)
    axes.set_title("loss", loc="left", color=INK, fontsize=11, pad=10)
    axes.set_xlabel("learning rate", color=INK)
    style_axes(axes, grid="y")
    axes.legend(frameon=False, labelcolor=INK, fontsize=9)
    save(figure, path)


def schedule_plot(
    curves: Sequence[tuple[str, NDArray[np.float64]]], path: Path, *, steps_per_epoch: int, title: str = ""
) -> None:
    """Write a PNG. curves: (name, learning rate of each step) of each group.

    Learning rates that are far apart are drawn on a logarithmic axis, down to a thousandth of the smallest peak. Raises
    TrainingError if the file cannot be written.
    """
    figure = new_figure(7.5, 4.2)
    axes = figure.subplots()
    shades = colormaps["viridis"]
    count = len(curves[0][1])
    sampled = np.unique(np.append(np.arange(0, count, math.ceil(count / _MAX_POINTS)), count - 1))
    order = sorted(range(len(curves)), key=lambda i: -curves[i][1].max())
    named = {order[round(k)] for k in np.linspace(0, len(order) - 1, min(_MAX_LEGEND_LINES, len(order)))}
    for i in order:
        name, curve = curves[i]
        color = BLUE if len(curves) == 1 else shades(0.9 * i / (len(curves) - 1))
        # a learning rate holds until the next step
        epochs, lrs = np.append(sampled, count) / steps_per_epoch, np.append(curve[sampled], curve[-1])
        label = name if i in named else "_"
        axes.plot(epochs, lrs, color=color, linewidth=1.8, drawstyle="steps-post", label=label)
    peaks = [float(curve.max()) for _, curve in curves if curve.max() > 0]
    if peaks and max(peaks) > _LOG_SPREAD * min(peaks):
        axes.set_yscale("log")
        axes.set_ylim(min(peaks) / 1000, 2 * max(peaks))
    else:
        axes.set_ylim(0, 1.05 * max(peaks, default=1.0))
        axes.ticklabel_format(axis="y", style="sci", scilimits=(-2, 3))
    axes.set_title("learning rate", loc="left", color=INK, fontsize=11, pad=10)
    set_names([axes.set_title(title, loc="right", color=INK, fontsize=9, pad=10)])
    axes.set_xlabel("epoch", color=INK)
    axes.set_xlim(0, count / steps_per_epoch)
    style_axes(axes, grid="y")
    legend = axes.legend(frameon=False, labelcolor=INK, fontsize=9, loc="upper left", bbox_to_anchor=(1.0, 1.0))
    set_names(legend.get_texts())
    save(figure, path)
