"""Hyperparameter importance: a bar for each tuned recipe key."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from zoo.reports.canvas import BLUE, GREY, INK, new_figure, save, set_names, shorten

__all__ = ["importance"]


def importance(shares: Mapping[str, float], path: Path, *, monitor: str, trials: int) -> None:
    """Write a PNG: a bar for each key, the largest on top.

    Args:
        shares: key → fraction of the variance between trials (fANOVA), all sum to 1.
        path: the file.
        monitor: the metric.
        trials: number of finished trials.

    Raises:
        TrainingError: the file cannot be written.
    """
    ranked = sorted(shares.items(), key=lambda item: -item[1])
    figure = new_figure(7.5, 1.4 + 0.34 * max(len(ranked), 2))
    axes = figure.subplots()
    positions = np.arange(len(ranked))
    axes.barh(positions, [share for _, share in ranked], height=0.6, color=BLUE)
    for position, (_, share) in enumerate(ranked):
        axes.text(share + 0.01, position, f"{100 * share:.0f} %", va="center", fontsize=9, color=INK)
    axes.set_yticks(positions, [shorten(key, 36) for key, _ in ranked], fontsize=9)
    set_names(axes.get_yticklabels())
    axes.set_ylim(len(ranked) - 0.4, -0.6)
    axes.set_xlim(0, min(1.12, 1.15 * max(ranked[0][1], 0.1)))
    axes.xaxis.set_major_formatter(lambda x, _: f"{100 * x:.0f} %")
    axes.set_title(f"importance for {monitor}", loc="left", color=INK, fontsize=11, pad=10)
    axes.set_title(f"{trials} finished trials, fANOVA", loc="right", fontsize=9, color=GREY, pad=10)
    axes.spines[["top", "right", "left"]].set_visible(False)
    axes.spines["bottom"].set_color(GREY)
    axes.tick_params(colors=INK, labelsize=9)
    axes.tick_params(axis="y", length=0)
    axes.grid(axis="x", color="#e6e6e6", linewidth=0.8)
    axes.set_axisbelow(True)
    save(figure, path)
