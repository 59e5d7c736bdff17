"""The learning rates of a run over its epochs, a line for each parameter group."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from matplotlib import colormaps

from zoo.reports.canvas import BLUE, GREY, INK, new_figure, save

__all__ = ["schedule_plot"]

# A legend of more lines hides the curves.
_NAMED = 12


def schedule_plot(
    names: Sequence[str], rates: Sequence[Sequence[float]], path: Path, *, updates: int, title: str = ""
) -> None:
    """Write a PNG. rates[i][u]: of group i at update u; `updates` of them are an epoch. Groups whose rates agree
    throughout share a line. Raises TrainingError if the disk refuses.
    """
    lines: dict[tuple[float, ...], list[str]] = {}
    for name, curve in zip(names, rates, strict=True):
        lines.setdefault(tuple(curve), []).append(name)
    figure = new_figure(7.5, 4.2)
    axes = figure.subplots()
    shades = colormaps["viridis"]
    for i, (curve, sharing) in enumerate(lines.items()):
        color = BLUE if len(lines) == 1 else shades(0.9 * i / (len(lines) - 1))
        label = sharing[0] if len(sharing) == 1 else f"{sharing[0]} … {sharing[-1]}"
        axes.plot(
            [u / updates for u in range(len(curve))], curve, color=color, linewidth=1.8, drawstyle="steps-post",
            label=label,
        )  # fmt: skip
    axes.set_title("learning rate", loc="left", color=INK, fontsize=11, pad=10)
    axes.set_title(title, loc="right", color=INK, fontsize=9, pad=10)
    axes.set_xlabel("epoch", color=INK)
    axes.set_ylim(bottom=0)
    axes.set_xlim(0, len(rates[0]) / updates)
    axes.ticklabel_format(axis="y", style="sci", scilimits=(-2, 3))
    axes.spines[["top", "right"]].set_visible(False)
    axes.spines[["left", "bottom"]].set_color(GREY)
    axes.tick_params(colors=INK, labelsize=9)
    axes.grid(axis="y", color="#e6e6e6", linewidth=0.8)
    axes.set_axisbelow(True)
    if len(lines) <= _NAMED:
        axes.legend(frameon=False, labelcolor=INK, fontsize=9)
    save(figure, path)
