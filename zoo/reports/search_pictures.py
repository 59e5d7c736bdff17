"""The pictures of a hyperparameter search: its history, and the importance of each recipe key."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from matplotlib.ticker import MaxNLocator

from zoo.reports.canvas import BLUE, GREY, INK, ORANGE, new_figure, save, set_names, shorten, style_axes


def search_history(
    trials: Sequence[tuple[int, str, float | None]], path: Path, *, monitor: str, higher_is_better: bool
) -> None:
    """Write a PNG: a dot for each finished trial, a cross for each pruned one, a line for the best finished so far.

    trials: (number, state, value). Raises TrainingError if the file cannot be written.
    """
    figure = new_figure(7.5, 4.0)
    axes = figure.subplots()
    known = [(number, state, value) for number, state, value in trials if value is not None]
    finished = [(number, value) for number, state, value in known if state == "finished"]
    pruned = [(number, value) for number, state, value in known if state == "pruned"]
    best: list[float] = []
    for _, value in finished:
        best.append(value if not best else max(best[-1], value) if higher_is_better else min(best[-1], value))
    if pruned:
        axes.plot(*zip(*pruned, strict=True), "x", color=GREY, markersize=6, label="pruned, last epoch")
    axes.plot([n for n, _ in finished], [v for _, v in finished], "o", color=BLUE, markersize=5, label="finished")
    if len(trials) > 1 and finished:  # up to the last trial, even if it did not finish
        numbers = [*(n for n, _ in finished), max(n for n, _, _ in trials)]
        axes.step(numbers, [*best, best[-1]], where="post", color=ORANGE, linewidth=1.5, label="best so far")
    axes.set_title(monitor, loc="left", color=INK, fontsize=11, pad=10)
    axes.set_xlabel("trial", color=INK)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
    style_axes(axes, grid="y")
    axes.legend(frameon=False, labelcolor=INK, fontsize=9)
    save(figure, path)


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
