"""The pictures of `zoo tune` and `zoo lr-find`, read back as figures."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from matplotlib.figure import Figure

from zoo.reports import lr_pictures, search_pictures

# The last: a matplotlib that is older than the installed pyparsing uses its former names.
pytestmark = pytest.mark.filterwarnings("error", "ignore::DeprecationWarning:(matplotlib|pyparsing)")
PATH = Path("p.png")


@pytest.fixture
def figures(monkeypatch: pytest.MonkeyPatch) -> list[Figure]:
    """The figures that were saved."""
    drawn: list[Figure] = []
    for module in (lr_pictures, search_pictures):
        real = module.save

        def save(figure: Figure, path: Path, real: Any = real) -> None:
            drawn.append(figure)
            real(figure, path)

        monkeypatch.setattr(module, "save", save)
    return drawn


def _lines(figure: Figure) -> dict[str, tuple[list[float], list[float]]]:
    lines = figure.axes[0].get_lines()
    return {str(line.get_label()): (list(line.get_xdata()), list(line.get_ydata())) for line in lines}  # type: ignore[arg-type]


@pytest.mark.parametrize(("higher_is_better", "best"), [(True, [0.5, 0.5, 0.8, 0.8]), (False, [0.5, 0.4, 0.4, 0.4])])
def test_best_so_far_line_extends_to_the_last_trial(
    figures: list[Figure], higher_is_better: bool, best: list[float]
) -> None:
    trials = [(0, "finished", 0.5), (1, "finished", 0.4), (2, "failed", None), (3, "finished", 0.8), (4, "pruned", 0.1)]
    search_pictures.search_history(trials, PATH, monitor="top1", higher_is_better=higher_is_better)
    lines = _lines(figures[0])
    assert lines["best so far"] == ([0, 1, 3, 4], best)
    assert lines["finished"] == ([0, 1, 3], [0.5, 0.4, 0.8])
    assert lines["pruned, last epoch"] == ([4], [0.1])
    assert PATH.read_bytes()[:4] == b"\x89PNG"


def test_one_trial_is_a_dot(figures: list[Figure]) -> None:
    search_pictures.search_history([(0, "finished", 0.5)], PATH, monitor="top1", higher_is_better=True)
    assert _lines(figures[0]) == {"finished": ([0], [0.5])}
    assert [tick for tick in figures[0].axes[0].get_xticks() if abs(tick) < 0.5] == [0]


@pytest.mark.parametrize("keys", [2, 20])
def test_a_bar_for_each_key_the_largest_on_top(figures: list[Figure], keys: int) -> None:
    shares = {f"section.of.a.recipe.with.a.long.name_{k}": 2 * (k + 1) / (keys * (keys + 1)) for k in range(keys)}
    search_pictures.importance(shares, PATH, monitor="loss", trials=30)
    axes = figures[0].axes[0]
    assert [bar.get_width() for bar in axes.patches] == sorted(shares.values(), reverse=True)  # type: ignore[attr-defined]
    bottom, top = axes.get_ylim()
    assert bottom > top
    assert all(top < bar.get_y() < bottom for bar in axes.patches)  # type: ignore[attr-defined]
    assert len({label.get_text() for label in axes.get_yticklabels()}) == keys


def test_axis_is_limited_to_the_descent_of_the_loss(figures: list[Figure]) -> None:
    rates = list(np.geomspace(1e-6, 1, 40))
    losses = [2.0] * 20 + [1.0] * 15 + [10.0, 100.0, 1e4, 1e6, float("nan")]
    lr_pictures.lr_curve(rates, losses, losses, PATH, suggestion=1e-3)
    axes = figures[0].axes[0]
    assert axes.get_xscale() == "log"
    low, high = axes.get_ylim()
    assert 0.8 < low < 1
    assert 2 < high < 3
    assert _lines(figures[0])["suggestion"][0] == [1e-3, 1e-3]
    assert axes.get_title("right") == "suggestion 0.001"
