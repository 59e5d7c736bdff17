"""The pictures: their size, no warnings, and the colours of what is drawn."""

from __future__ import annotations

import math
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from zoo import reports
from zoo.errors import TrainingError
from zoo.metrics import LabelScore
from zoo.metrics.reporting import evaluation_accumulator
from zoo.reports.canvas import drawable, shorten
from zoo.tasks import get_task

# The last: a matplotlib that is older than the installed pyparsing uses its former names.
pytestmark = pytest.mark.filterwarnings("error", "ignore::DeprecationWarning:(matplotlib|pyparsing)")


def rows(epochs: int, groups: int = 1) -> list[dict[str, Any]]:
    return [
        {
            "epoch": e,
            "train_loss": 2 / e,
            "train_top1": 1 - 1 / (e + 1),
            "val_loss": 2.5 / e,
            "val_top1": 1 - 1 / (e + 0.5),
            "val_top5": 1.0,
            "lr": [3e-4 / e * 0.5**g for g in reversed(range(groups))],
            "lr_names": [f"stage{g}" for g in range(groups)],
            "images_per_second": 100.0,
            "seconds": 1.0,
        }
        for e in range(1, epochs + 1)
    ]


def pixels(path: Path) -> np.ndarray:
    with Image.open(path) as image:
        assert image.format == "PNG"
        return np.asarray(image.convert("RGB")).astype(int)


def close_to(image: np.ndarray, colour: tuple[int, int, int]) -> int:
    return int((np.abs(image - np.array(colour)).max(2) < 12).sum())


BLUE, ORANGE = (0, 114, 178), (213, 94, 0)


@pytest.mark.parametrize(("epochs", "groups"), [(1, 1), (3, 2), (50, 14)])
def test_curves_show_training_and_validation(tmp_path: Path, epochs: int, groups: int) -> None:
    reports.curves(rows(epochs, groups), tmp_path / "curves.png")
    image = pixels(tmp_path / "curves.png")
    panel = image[:, : image.shape[1] // 3]
    legend = 400  # pixels of one legend entry, and more
    assert close_to(panel, BLUE) > 40
    assert close_to(panel, ORANGE) > 40
    if epochs > 1:
        assert close_to(panel, BLUE) > legend
    assert [p.name for p in tmp_path.iterdir()] == ["curves.png"]


@pytest.mark.parametrize("monitor", ["rmse", "r2", "average_precision", "top3", "loss"])
def test_middle_panel_shows_the_monitored_metric(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, monitor: str) -> None:
    """Epoch 2 of 3 is best for a metric where higher is better, and for its negative where lower is better."""
    drawn = []
    monkeypatch.setattr("zoo.reports.training_curves.save", lambda figure, path: drawn.append(figure))
    lower = monitor in ("rmse", "loss")
    values = [0.9, 0.1, 0.3] if lower else [0.1, 0.9, 0.3]
    given = [
        {"epoch": i + 1, "train_loss": 1.0, "val_loss": 1.0, "val_mae": 0.5, f"val_{monitor}": value, "lr": [0.1]}
        for i, value in enumerate(values)
    ]
    reports.curves(given, tmp_path / "c.png", monitor=monitor)
    loss, metric, _ = drawn[0].axes
    marked = loss if monitor == "loss" else metric
    best = next(line for line in marked.lines if line.get_markerfacecolor() == "none")
    assert ([*best.get_xdata()], [*best.get_ydata()]) == ([2], [min(values) if lower else max(values)])
    titles = {"rmse": "RMSE", "r2": "R²", "average_precision": "average precision", "top3": "top-3 accuracy"}
    assert metric.get_title("left") == titles.get(monitor, "MAE")
    shares = monitor in ("average_precision", "top3")
    assert ("%" in metric.yaxis.get_major_formatter()(0.5, 0)) == shares
    assert marked.get_title("right").startswith("best 90.0 %" if shares else "best 0.1" if lower else "best 0.9")


@pytest.mark.parametrize("number", [1, 40, 200])
def test_labels_of_any_number(tmp_path: Path, number: int) -> None:
    scores = [LabelScore(f"label {i}", i + 1, 1.0, 1.0, 1.0, (i + 1) / number, 0.5) for i in range(number)]
    reports.labels(scores, 400, tmp_path / "l.png")
    image = pixels(tmp_path / "l.png")
    assert max(image.shape) < 1700
    assert close_to(image, BLUE) > 20 * min(number, 40), "a dot for each, of many for the weakest"
    assert close_to(image, ORANGE) > 8 * min(number, 40), "and the chance of each"


def test_labels_without_images_are_left_out(tmp_path: Path) -> None:
    none = LabelScore("none", 0, None, None, None, None, None)
    one = LabelScore("$one", 3, 1.0, 1.0, 1.0, 0.9, None)
    reports.labels([none, one], 4, tmp_path / "one.png")
    reports.labels([one], 4, tmp_path / "same.png")
    reports.labels([none, none], 4, tmp_path / "none.png")
    assert (tmp_path / "one.png").read_bytes() == (tmp_path / "same.png").read_bytes()
    assert close_to(pixels(tmp_path / "none.png"), BLUE) == 0


@pytest.mark.parametrize(("number", "panels"), [(1, 1), (2, 2), (4, 4), (12, 12), (30, 12)])
def test_scatter_of_any_number_of_targets(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int, panels: int
) -> None:
    drawn = []
    monkeypatch.setattr("zoo.reports.scatter_plot.save", lambda figure, path: drawn.append(figure))
    targets = torch.arange(3.0)[:, None] * torch.logspace(-3, 3, number)
    reports.scatter(targets * 1.1, targets, [f"$target {i}" for i in range(number)], tmp_path / "s.png")
    shown = [axes for axes in drawn[0].axes if axes.axison]
    assert len(shown) == panels
    points = shown[0].collections[0].get_offsets()
    np.testing.assert_allclose(points, np.stack([targets[:, 0], 1.1 * targets[:, 0]], 1), rtol=1e-6)
    assert shown[0].get_xlim() == shown[0].get_ylim()
    assert shown[0].get_title("left") == "$target 0"


def test_scatter_leaves_out_values_that_are_not_finite(tmp_path: Path) -> None:
    outputs = torch.tensor([[1.0, math.nan], [math.inf, math.nan], [3.0, math.nan]])
    reports.scatter(outputs, torch.ones(3, 2), ["a", "b"], tmp_path / "s.png")
    point = (51, 142, 193)  # blue that lets a fifth of the white through
    assert close_to(pixels(tmp_path / "s.png"), point) > 2 * 10
    reports.scatter(torch.zeros(2, 1), torch.zeros(2, 1), ["still"], tmp_path / "still.png")
    assert close_to(pixels(tmp_path / "still.png"), BLUE) > 10, "two points in one place"


@pytest.mark.parametrize(
    ("task", "name", "targets"),
    [
        ("single-label", "confusion.png", torch.tensor([0, 1, 2])),
        ("multi-label", "labels.png", torch.eye(3)),
        ("regression", "scatter.png", torch.eye(3)),
    ],
)
def test_the_picture_of_a_task(tmp_path: Path, task: str, name: str, targets: torch.Tensor) -> None:
    accumulator = evaluation_accumulator(task)
    accumulator.update(torch.eye(3), targets)
    assert reports.draw_evaluation(accumulator, ["a", "b", "c"], tmp_path, get_task(task)) == tmp_path / name
    assert [p.name for p in tmp_path.iterdir()] == [name]


def test_a_single_epoch_is_a_visible_point(tmp_path: Path) -> None:
    """The last panel has one learning rate and no legend: blue pixels there are the point."""
    reports.curves(rows(1), tmp_path / "curves.png")
    image = pixels(tmp_path / "curves.png")
    assert close_to(image[:, 2 * image.shape[1] // 3 :], BLUE) > 40


def test_missing_values_are_drawn_without_a_warning(tmp_path: Path) -> None:
    holes = rows(4)
    holes[1]["train_loss"] = math.nan
    for row in holes:
        row["val_loss"] = row["val_top1"] = None
        del row["lr"]
    reports.curves(holes, tmp_path / "holes.png")
    image = pixels(tmp_path / "holes.png")
    assert close_to(image, BLUE) > 40
    assert close_to(image, ORANGE) == 0
    reports.curves([], tmp_path / "none.png")
    assert pixels(tmp_path / "none.png").size


@pytest.mark.parametrize("number", [2, 10, 100])
def test_confusion_of_any_size(tmp_path: Path, number: int) -> None:
    reports.confusion(
        (np.eye(number, dtype=int) * 7).tolist(), [f"class {i}" for i in range(number)], tmp_path / "c.png"
    )
    image = pixels(tmp_path / "c.png")
    assert max(image.shape) < 2500
    full, none = (8, 48, 107), (247, 251, 255)  # the ends of the colour map
    assert close_to(image, full) > number * 30
    assert close_to(image, none) > close_to(image, full) * (0.5 if number == 2 else 2)


def test_confusion_with_a_class_without_images(tmp_path: Path) -> None:
    reports.confusion([[3, 1, 0], [0, 0, 0], [0, 12345, 99999]], ["a", "b", "c"], tmp_path / "c.png")
    assert close_to(pixels(tmp_path / "c.png"), (238, 238, 238)) > 1000  # the row without images


def test_any_name_is_drawn_without_a_warning(tmp_path: Path) -> None:
    names = ["$a_{$", "日本語", "کلاس", "tab\tname", "x" * 300, "🦓", "new\nline", "$"]
    reports.confusion(np.eye(8, dtype=int).tolist(), names, tmp_path / "c.png")
    assert max(pixels(tmp_path / "c.png").shape) < 2500


def test_names_are_shortened_and_replaced_if_no_font_has_them() -> None:
    assert shorten("n01440764_tench", 24) == "n01440764_tench"
    assert shorten("a_very_long_name_of_a_class_1", 11) == "a_ver…ass_1"
    assert drawable("été", 3) == "été"
    assert drawable("\U0010fffd", 3) == "#3"


def test_same_values_give_the_same_bytes(tmp_path: Path) -> None:
    for name in ("a", "b"):
        reports.curves(rows(3), tmp_path / name)
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


def test_a_write_error_is_a_training_error(tmp_path: Path) -> None:
    with pytest.raises(TrainingError):
        reports.curves(rows(1), tmp_path / "missing" / "curves.png")


def test_pyplot_is_never_imported() -> None:
    code = (
        "import sys, zoo.reports as r; assert 'matplotlib' not in sys.modules; r.curves, r.draw_evaluation;"
        "sys.exit('matplotlib.pyplot' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
