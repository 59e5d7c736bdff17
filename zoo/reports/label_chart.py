"""Average precision of each label, the lowest last."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes

from zoo.metrics.accumulator import MetricAccumulator
from zoo.metrics.multi_label import LabelScore, label_scores
from zoo.reports.canvas import BLUE, GREY, INK, ORANGE, drawable, new_figure, save, set_names, shorten, style_axes

_MAX_NAMED = 40  # readable on a screen; of more labels the lowest are named, and a curve shows all
_MAX_NAME_LENGTH = 28


def labels(scores: Sequence[LabelScore], images: int, path: Path) -> None:
    """Write a PNG: a dot for each label's average precision, and a tick for that of random scores.

    Of more than 40 labels the 40 lowest are named, and a second panel ranks all. Labels without images are left out.
    images: number of evaluated images. Raises TrainingError if the file cannot be written.
    """
    known = [(score, ap, i) for i, score in enumerate(scores) if (ap := score.average_precision) is not None]
    known.sort(key=lambda entry: -entry[1])
    named = known[-_MAX_NAMED:]
    rows = max(len(named), 1)
    two_panels = len(named) < len(known)
    figure = new_figure(11.5 if two_panels else 7.5, 1.5 + 0.24 * max(rows, 3))
    width_ratios = [3, 2] if two_panels else [1]
    axes, *more = figure.subplots(1, len(width_ratios), squeeze=False, width_ratios=width_ratios).flatten()
    positions = np.arange(len(named))
    values = [ap for _, ap, _ in named]
    chance = [score.support / images for score, _, _ in named]
    axes.hlines(positions, 0, values, color="#d6e4ef", linewidth=3, zorder=1)
    axes.plot(chance, positions, "|", color=ORANGE, markersize=9, markeredgewidth=1.8, label="chance", zorder=2)
    axes.plot(values, positions, "o", color=BLUE, markersize=6, label="average precision", zorder=3)
    names = [f"{shorten(drawable(score.name, i), _MAX_NAME_LENGTH)}  ({score.support:,})" for score, _, i in named]
    axes.set_yticks(positions, names, fontsize=9)
    set_names(axes.get_yticklabels())
    axes.set_ylim(rows - 0.4, -0.6)
    axes.set_xlim(0, 1.02)
    mean = float(np.mean([ap for _, ap, _ in known])) if known else float("nan")
    title = f"the {len(named)} lowest of {len(known):,} labels" if two_panels else "average precision"
    axes.set_title(title, loc="left", color=INK, fontsize=11, pad=10)
    right = more[0] if more else axes
    if known:
        right.set_title(f"mean {100 * mean:.1f} %", loc="right", fontsize=9, color=GREY, pad=10)
        figure.legend(frameon=False, labelcolor=INK, fontsize=8, loc="outside lower center", ncols=2)
    else:
        axes.text(0.5, 0.5, "no image has a label", transform=axes.transAxes, ha="center", va="center", color=GREY)
    if two_panels:
        _plot_ranking(right, [ap for _, ap, _ in known], [score.support / images for score, _, _ in known])
    for panel in (axes, *more):
        panel.xaxis.set_major_formatter(lambda x, _: f"{100 * x:.0f} %")
        style_axes(panel, grid="x")
    axes.tick_params(axis="y", length=0)
    save(figure, path)


def draw(accumulator: MetricAccumulator, classes: Sequence[str], path: Path) -> None:
    labels(label_scores(accumulator, classes), accumulator.images, path)


def _plot_ranking(axes: Axes, values: Sequence[float], chance: Sequence[float]) -> None:
    positions = np.arange(1, len(values) + 1)
    axes.plot(values, positions, color=BLUE, linewidth=1.8)
    axes.plot(chance, positions, "|", color=ORANGE, markersize=4)
    axes.axhspan(len(values) - _MAX_NAMED + 0.5, len(values) + 0.5, color="#f0f0f0", zorder=0)
    axes.set_ylim(len(values) + 0.5, 0.5)
    axes.set_xlim(0, 1.02)
    axes.set_ylabel("rank", color=INK)
    axes.set_title("all labels", loc="left", color=INK, fontsize=11, pad=10)
