"""The history of a search: the value of every trial, and the best so far."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from matplotlib.ticker import MaxNLocator

from zoo.reports.canvas import BLUE, GREY, INK, ORANGE, new_figure, save, style_axes

__all__ = ["search_history"]


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
