"""The curve of a learning-rate range test: loss by learning rate."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

from zoo.reports.canvas import BLUE, GREY, INK, ORANGE, new_figure, save, style_axes

__all__ = ["lr_curve"]


def lr_curve(
    lrs: Sequence[float],
    losses: Sequence[float],
    smoothed: Sequence[float],
    path: Path,
    *,
    suggestion: float | None = None,
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
        axes.set_ylim(
            low - 0.08 * (high - low or 1), min(max(finite), high + 0.5 * (high - low)) + 0.08 * (high - low or 1)
        )
    if suggestion is not None:
        axes.axvline(suggestion, color=ORANGE, linewidth=1.5, label="suggestion")
        axes.set_title(f"suggestion {suggestion:.2g}", loc="right", fontsize=9, color=ORANGE, pad=10)
    axes.set_title("loss", loc="left", color=INK, fontsize=11, pad=10)
    axes.set_xlabel("learning rate", color=INK)
    style_axes(axes, grid="y")
    axes.legend(frameon=False, labelcolor=INK, fontsize=9)
    save(figure, path)
