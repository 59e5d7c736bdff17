"""Hyperparameter importance: a bar for each tuned recipe key."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from zoo.reports.canvas import BLUE, GREY, INK, new_figure, save, set_names, shorten, style_axes

__all__ = ["importance"]


def importance(shares: Mapping[str, float], path: Path, *, monitor: str, trials: int) -> None:
    """Write a PNG: a bar for each key's fraction of the variance between trials, the largest on top.

    Raises TrainingError if the file cannot be written.
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
    style_axes(axes, grid="x")
    axes.spines["left"].set_visible(False)
    axes.tick_params(axis="y", length=0)
    save(figure, path)
