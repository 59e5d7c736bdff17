"""Shared code of the pictures: figures without pyplot's global state, text for any class name, atomic saving."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Literal

from matplotlib import font_manager
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ft2font import FT2Font
from matplotlib.text import Text

from zoo.atomic_io import atomic_write

# Two colours that colour-blind readers can distinguish (Okabe and Ito, "Color Universal Design", 2008).
BLUE = "#0072B2"
ORANGE = "#D55E00"
INK = "#333333"
GREY = "#8c8c8c"

# DejaVu Sans, shipped with matplotlib, has no CJK glyphs; the first of these fonts that is installed is the fallback.
_CJK = (
    "Noto Sans CJK JP", "Noto Sans CJK SC", "Source Han Sans", "WenQuanYi Micro Hei", "WenQuanYi Zen Hei",
    "Droid Sans Fallback", "IPAexGothic", "Hiragino Sans", "PingFang SC", "Apple SD Gothic Neo", "Microsoft YaHei",
    "Yu Gothic", "Malgun Gothic", "Arial Unicode MS",
)  # fmt: skip


def new_figure(width: float, height: float) -> Figure:
    """An empty white figure of width × height inches with constrained layout."""
    figure = Figure(figsize=(width, height), dpi=120, layout="constrained", facecolor="white")
    FigureCanvasAgg(figure)
    return figure


def style_axes(axes: Axes, *, grid: Literal["x", "y"] | None = None, labelsize: float = 9) -> None:
    """Thin grey axes at the left and bottom, and light grid lines across `grid`."""
    axes.spines[["top", "right"]].set_visible(False)
    axes.spines[["left", "bottom"]].set_color(GREY)
    axes.tick_params(colors=INK, labelsize=labelsize)
    if grid is not None:
        axes.grid(axis=grid, color="#e6e6e6", linewidth=0.8)
        axes.set_axisbelow(True)


def save(figure: Figure, path: Path) -> None:
    """Write the figure as PNG, atomically. Raises TrainingError if it cannot be written."""
    # Without a Software entry the same numbers give the same bytes with every matplotlib version.
    plain = {"Software": None}
    atomic_write(path, lambda p: figure.savefig(p, format="png", metadata=plain, bbox_inches="tight", pad_inches=0.15))


@functools.cache
def _families() -> tuple[str, ...]:
    installed = {entry.name for entry in font_manager.fontManager.ttflist}
    return ("DejaVu Sans", *[name for name in _CJK if name in installed][:1])


@functools.cache
def _glyphs() -> frozenset[int]:
    """Code points that at least one of the fonts can draw."""
    found: set[int] = set()
    for family in _families():
        found |= FT2Font(font_manager.findfont(family)).get_charmap().keys()
    return frozenset(found)


def drawable(name: str, index: int) -> str:
    """`name` if the installed fonts can draw it, else "#INDEX", its index in the list."""
    name = " ".join(name.split())
    return name if all(ord(c) in _glyphs() for c in name) else f"#{index}"


def shorten(name: str, length: int) -> str:
    """At most `length` characters; the middle is left out, because names often differ at their ends only."""
    if len(name) <= length:
        return name
    tail = (length - 1) // 2
    return f"{name[: length - 1 - tail]}…{name[-tail:]}"


def set_names(texts: list[Text]) -> None:
    """Draw class names literally: `$` starts no formula, and the CJK font is the fallback."""
    for text in texts:
        text.set_parse_math(False)
        text.set_fontfamily(list(_families()))
