"""A map of models by size of the data and similarity to the pretraining data, and their score by cost."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes

from zoo.reports.canvas import BLUE, GREY, INK, ORANGE, new_figure, save, set_names, shorten, style_axes

_MAX_NAME_LENGTH = 28


@dataclass(frozen=True)
class Point:
    """One model: similarity to the pretraining data (S_probe, 0 to 1), linear-probe score, and seconds of a forward
    pass per image. chosen: it is the recommended one."""

    name: str
    similarity: float
    similarity_interval: tuple[float, float]
    score: float
    score_interval: tuple[float, float]
    seconds: float
    chosen: bool


def quadrant_map(
    points: Sequence[Point],
    path: Path,
    *,
    images: int,
    size_cuts: Sequence[int],
    similarity_cuts: tuple[float, float],
    score_name: str = "accuracy",
) -> None:
    """Write a PNG: on the left similarity by number of training images, with the cuts as lines, on the right score by
    cost. Raises TrainingError if it cannot be written."""
    figure = new_figure(11, 4.4)
    left, right = figure.subplots(1, 2)
    _map(left, points, images, size_cuts, similarity_cuts)
    _costs(right, points, score_name)
    for axes in (left, right):
        style_axes(axes, labelsize=8)
    save(figure, path)


def _map(
    axes: Axes, points: Sequence[Point], images: int, size_cuts: Sequence[int], similarity_cuts: tuple[float, float]
) -> None:
    low, high = min(30, images / 2), max(2 * max(size_cuts), images * 2)
    axes.set_xscale("log")
    axes.set_xlim(low, high)
    axes.set_ylim(-0.03, 1.03)
    for cut in size_cuts:
        axes.axvline(cut, color=GREY, linewidth=0.8, linestyle=(0, (4, 3)), zorder=1)
    axes.axhspan(*similarity_cuts, color=GREY, alpha=0.12, linewidth=0, zorder=0)
    corners = (
        (0.02, 0.97, "top", "left", "small, similar:\ntrain the head only"),
        (0.02, 0.03, "bottom", "left", "small, different:\ntrain most or all layers"),
        (0.98, 0.97, "top", "right", "large, similar:\ntrain all, low learning rate"),
        (0.98, 0.03, "bottom", "right", "large, different:\ntrain all, high learning rate"),
    )
    for x, y, vertical, horizontal, text in corners:
        axes.text(
            x, y, text, transform=axes.transAxes, va=vertical, ha=horizontal, fontsize=8, color=GREY,
            bbox={"facecolor": "white", "edgecolor": "none", "pad": 2},
        )  # fmt: skip
    # All models have the same number of images: they are spread so that their intervals do not overlap.
    spread = np.geomspace(0.85, 1 / 0.85, len(points)) if len(points) > 1 else np.ones(1)
    for point, factor in zip(points, spread, strict=True):
        colour = ORANGE if point.chosen else BLUE
        axes.plot([images * factor] * 2, point.similarity_interval, color=colour, linewidth=1.2, zorder=2)
        axes.plot(images * factor, point.similarity, "o", color=colour, markersize=6, zorder=3)
        if point.chosen or len(points) == 1:
            _write_name(axes, point.name, (images * factor, point.similarity), (7, 0), va="center")
    axes.set_xlabel("training images", color=INK, fontsize=9)
    axes.set_ylabel("similarity to the pretraining data (S)", color=INK, fontsize=9)


def _costs(axes: Axes, points: Sequence[Point], score_name: str) -> None:
    axes.set_xscale("log")
    for point in sorted(points, key=lambda p: p.seconds):
        colour = ORANGE if point.chosen else BLUE
        milliseconds = 1000 * point.seconds
        axes.plot([milliseconds] * 2, point.score_interval, color=colour, linewidth=1.2)
        axes.plot(milliseconds, point.score, "o", color=colour, markersize=6)
        _write_name(axes, point.name, (milliseconds, point.score), (6, 3))
    axes.margins(x=0.25, y=0.1)
    axes.set_xlabel("forward pass, ms per image on this machine", color=INK, fontsize=9)
    axes.set_ylabel(f"linear-probe {score_name}", color=INK, fontsize=9)


def _write_name(axes: Axes, name: str, at: tuple[float, float], offset: tuple[int, int], **style: Any) -> None:
    text = shorten(name, _MAX_NAME_LENGTH)
    set_names([axes.annotate(text, at, offset, textcoords="offset points", fontsize=8, color=INK, **style)])
