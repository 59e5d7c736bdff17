"""The confusion matrix as a picture: which classes are confused."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.colors import PowerNorm

from zoo.metrics.accumulator import MetricAccumulator
from zoo.metrics.statistics import ConfusionMatrix
from zoo.reports.canvas import GREY, INK, drawable, new_figure, save, set_names, shorten

_MAX_WITH_COUNTS = 30  # with more classes the cells are too small for numbers
_MAX_WITH_NAMES = 120  # more names do not fit next to 14 inches of cells at 5 points
_MAX_NAME_LENGTH = 24


def confusion(matrix: Sequence[Sequence[int]], classes: Sequence[str], path: Path) -> None:
    """Write a PNG: row = true class, column = predicted class, colour = fraction of the row, text = number of images.

    Numbers are written for up to 30 classes, all names for up to 120; with more than 30 classes the colour scale is
    the square root. A row without images is grey.
    matrix: (K, K) counts. Raises TrainingError if the file cannot be written.
    """
    counts = np.asarray(matrix, dtype=np.int64).reshape(len(classes), len(classes))
    number = len(classes)
    support = counts.sum(1, keepdims=True)
    share = np.ma.masked_array(counts / np.maximum(support, 1), mask=np.broadcast_to(support == 0, counts.shape))
    cell = 0.95 if number <= 4 else 0.58 if number <= 12 else 0.42 if number <= _MAX_WITH_COUNTS else 13.0 / number
    names = [shorten(drawable(name, i), _MAX_NAME_LENGTH) for i, name in enumerate(classes)]
    margin = 1.3 + 0.075 * max(len(n) for n in names) if number <= _MAX_WITH_NAMES else 1.6
    side = max(cell * number, 2.6)
    figure = new_figure(side + margin + 0.9, side + margin)
    axes = figure.subplots()
    # Without numbers, a square-root scale makes 1 % of a row visible.
    scale = PowerNorm(1.0 if number <= _MAX_WITH_COUNTS else 0.5, vmin=0, vmax=1)
    blues = colormaps["Blues"].with_extremes(bad="#eeeeee")
    colours = axes.imshow(share, cmap=blues, norm=scale, interpolation="nearest", aspect="equal")
    if number <= _MAX_WITH_COUNTS:
        _write_counts(axes, counts, share.filled(0), cell)
    _name_axes(axes, names)
    title = f"top-1 {100 * counts.trace() / max(counts.sum(), 1):.1f} % of {counts.sum():,} images"
    axes.set_title(title, color=INK, fontsize=11, loc="left", pad=10)
    bar = figure.colorbar(colours, ax=axes, fraction=0.04, pad=0.02, shrink=0.7, aspect=25)
    bar.set_ticks([0, 0.2, 0.4, 0.6, 0.8, 1] if number <= _MAX_WITH_COUNTS else [0, 0.01, 0.05, 0.2, 0.5, 1])
    bar.ax.yaxis.set_major_formatter(lambda y, _: f"{100 * y:.0f} %")
    bar.set_label("fraction of the true class", color=INK)
    bar.ax.tick_params(colors=INK, labelsize=8)
    bar.outline.set_visible(False)
    save(figure, path)


def draw(accumulator: MetricAccumulator, classes: Sequence[str], path: Path) -> None:
    confusion(accumulator.statistic(ConfusionMatrix).counts.tolist(), classes, path)


def _write_counts(axes: Axes, counts: np.ndarray, share: np.ndarray, cell: float) -> None:
    """Write the counts, zeros left blank so that errors are easy to see. cell: side of a cell in inches."""
    texts = {cell_index: f"{c}" if c < 10_000 else f"{c / 1000:.0f}k" for cell_index, c in np.ndenumerate(counts) if c}
    longest = max((len(t) for t in texts.values()), default=1)
    size = min(11.0, cell * 72 * 0.75 / (0.64 * longest), cell * 72 * 0.32)  # DejaVu digits are 0.64 of the size wide
    for (row, column), text in texts.items():
        colour = "white" if share[row, column] > 0.55 else INK
        axes.text(column, row, text, ha="center", va="center", fontsize=size, color=colour)


def _name_axes(axes: Axes, names: list[str]) -> None:
    number = len(names)
    step = 1 if number <= _MAX_WITH_NAMES else -(-number // 50)
    positions = list(range(0, number, step))
    size = 10 if number <= 12 else 8 if number <= _MAX_WITH_COUNTS else max(4.5, min(7.5, 13.0 * 72 / number * 0.75))
    labels = [names[i] for i in positions]
    flat = number <= 12 and max(len(n) for n in names) <= 4
    axes.set_xticks(positions, labels, rotation=0 if flat else 90, fontsize=size)
    axes.set_yticks(positions, labels, fontsize=size)
    set_names([*axes.get_xticklabels(), *axes.get_yticklabels()])
    axes.set_xlabel("predicted", color=INK)
    axes.set_ylabel("true", color=INK)
    axes.tick_params(colors=INK, length=0 if number <= _MAX_WITH_COUNTS else 2)
    axes.spines[:].set_color(GREY)
    axes.spines[:].set_linewidth(0.6)
    if number <= _MAX_WITH_NAMES:  # thin white lines between the cells
        axes.set_xticks(np.arange(0.5, number - 1), minor=True)
        axes.set_yticks(np.arange(0.5, number - 1), minor=True)
        axes.grid(which="minor", color="white", linewidth=1.2 if number <= _MAX_WITH_COUNTS else 0.3)
        axes.tick_params(which="minor", length=0)
