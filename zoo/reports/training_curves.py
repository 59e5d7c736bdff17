"""Loss, monitored metric and learning rate of a run by epoch."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator

from zoo import metrics
from zoo.reports.canvas import BLUE, GREY, INK, ORANGE, new_figure, save, set_names, style_axes

# With a larger ratio of the peaks, the axis is logarithmic: a linear one would show the smaller as zero.
_LOG_SPREAD = 10.0
_LEGEND_ROWS = 6
_DISPLAY_NAMES = {"auroc": "AUROC", "ece": "calibration error", "mae": "MAE", "mse": "MSE", "rmse": "RMSE", "r2": "R²"}


def curves(rows: Sequence[dict[str, Any]], path: Path, *, monitor: str = "top1") -> None:
    """Write a PNG with a panel each for loss, monitored metric and learning rate.

    rows: lines of metrics.jsonl in epoch order; a missing or non-finite value leaves a gap. Raises TrainingError if the
    file cannot be written, UsageError if `monitor` is not a metric.
    """
    figure = new_figure(12.5, 3.9)
    loss, metric_axes, lr = figure.subplots(1, 3)
    _plot_train_val(loss, rows, "train_loss", "val_loss")
    _title(loss, "loss")
    _from_zero(loss)

    _plot_metric(metric_axes, rows, _first_other_metric(rows) if monitor == "loss" else monitor)
    _mark_best(loss if monitor == "loss" else metric_axes, rows, monitor)

    _plot_lrs(lr, rows)
    _title(lr, "learning rate")
    for axes in (loss, metric_axes, lr):
        _style_axes(axes, rows)
    for axes in (loss, metric_axes):
        if axes.lines:
            axes.legend(frameon=False, labelcolor=INK)
    save(figure, path)


def _first_other_metric(rows: Sequence[dict[str, Any]]) -> str:
    """The first metric of the rows other than the loss, which has its own panel."""
    return next((key[4:] for row in rows for key in row if key.startswith("val_") and key != "val_loss"), "loss")


def _plot_metric(axes: Axes, rows: Sequence[dict[str, Any]], name: str) -> None:
    """Fractions are drawn in percent, errors on an axis from zero."""
    _plot_train_val(axes, rows, f"train_{name}", f"val_{name}")
    if metrics.is_fraction(name):
        axes.yaxis.set_major_formatter(lambda y, _: f"{100 * y:g} %")
        _limit_to_shares(axes)
    elif not metrics.higher_is_better(name):
        _from_zero(axes)
    _title(axes, _display_name(name))


def _display_name(name: str) -> str:
    if found := re.fullmatch(r"top(\d+)", name):
        return f"top-{found[1]} accuracy"
    return _DISPLAY_NAMES.get(name, name.rpartition(":")[2].replace("_", " "))


def _series(rows: Sequence[dict[str, Any]], key: str) -> list[float]:
    return [_number(row.get(key)) for row in rows]


def _number(value: Any) -> float:
    return float(value) if isinstance(value, int | float) and math.isfinite(value) else math.nan


def _epochs(rows: Sequence[dict[str, Any]]) -> list[int]:
    return [int(row.get("epoch", i + 1)) for i, row in enumerate(rows)]


def _style(rows: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Few epochs are drawn with markers, many as a plain line."""
    size = 5.0 if len(rows) <= 12 else 3.0 if len(rows) <= 30 else 0.0
    return {"linewidth": 1.8, "marker": "o", "markersize": size, "solid_capstyle": "round"}


def _plot_train_val(axes: Axes, rows: Sequence[dict[str, Any]], train: str, val: str) -> None:
    for key, label, colour in ((train, "training", BLUE), (val, "validation", ORANGE)):
        values = _series(rows, key)
        if any(math.isfinite(v) for v in values):
            axes.plot(_epochs(rows), values, label=label, color=colour, **_style(rows))


def _all_y(axes: Axes) -> list[float]:
    drawn = [np.asarray(line.get_ydata(), dtype=float) for line in axes.lines]
    return [float(y) for values in drawn for y in values if math.isfinite(y)]


def _title(axes: Axes, text: str) -> None:
    axes.set_title(text, loc="left", color=INK, fontsize=11, pad=10)


def _from_zero(axes: Axes) -> None:
    """Start the axis at zero, unless a value is negative."""
    values = _all_y(axes)
    if values and min(values) >= 0:
        axes.set_ylim(0, 1.08 * max(values) or 1)


def _limit_to_shares(axes: Axes) -> None:
    """Zoom to the data, within 0 to 100 %, but not so far that noise fills the panel."""
    values = _all_y(axes)
    if not values:
        return
    low, high = min(values), max(values)
    margin = max(0.05 * (high - low), 0.01)
    axes.set_ylim(max(0.0, low - margin - max(0.0, 0.05 - (high - low))), min(1.0, high + margin) + 0.002)


def _mark_best(axes: Axes, rows: Sequence[dict[str, Any]], monitor: str) -> None:
    sign = 1 if metrics.higher_is_better(monitor) else -1
    known = [(sign * v, -i) for i, v in enumerate(_series(rows, f"val_{monitor}")) if math.isfinite(v)]
    if not known:
        return
    signed, i = max(known)
    value, epoch = sign * signed, _epochs(rows)[-i]
    value_text = f"{100 * value:.1f} %" if metrics.is_fraction(monitor) else f"{value:.4g}"
    axes.plot([epoch], [value], "o", markersize=9, markerfacecolor="none", markeredgecolor=ORANGE)
    axes.set_title(f"best {value_text} at epoch {epoch}", loc="right", fontsize=9, color=GREY, pad=10)


def _plot_lrs(axes: Axes, rows: Sequence[dict[str, Any]]) -> None:
    per_epoch = [[_number(v) for v in row.get("lr") or []] for row in rows]
    count = max((len(v) for v in per_epoch), default=0)
    if not count:
        return
    names: list[Any] = next((row["lr_names"] for row in rows if row.get("lr_names")), [])
    # Groups with the same learning rate (for example with and without weight decay) are one line.
    lines: dict[tuple[float, ...], list[str]] = {}
    for group in range(count):
        values = tuple(v[group] if group < len(v) else math.nan for v in per_epoch)
        lines.setdefault(values, []).append(str(names[group]) if group < len(names) else f"group {group + 1}")
    colours = colormaps["viridis"]
    for i, (values, labels) in enumerate(lines.items()):
        colour = BLUE if len(lines) == 1 else colours(0.9 * i / (len(lines) - 1))
        axes.plot(_epochs(rows), values, color=colour, label=_range_of(labels), **_style(rows))
    peaks = [max((v for v in values if math.isfinite(v)), default=0.0) for values in lines]
    if min(peaks) > 0 and max(peaks) / min(peaks) > _LOG_SPREAD:
        axes.set_yscale("log")
        axes.set_ylim(min(peaks) / 100, 2 * max(peaks))  # a schedule that ends at zero has no lower limit on this axis
    else:
        _from_zero(axes)
        axes.yaxis.set_major_formatter(_format_lr)
    if len(lines) > 1:
        _lr_legend(axes)


def _format_lr(lr: float, _: object = None) -> str:
    """0.0003 → 3e-4, as in a recipe."""
    if lr == 0 or abs(lr) >= 0.01:
        return f"{lr:g}"
    mantissa, exponent = f"{lr:.2e}".split("e")
    return f"{float(mantissa):g}e{int(exponent)}"


def _range_of(labels: list[str]) -> str:
    unique = list(dict.fromkeys(label.partition(",")[0] for label in labels))  # "stem, no decay" belongs to the stem
    return ", ".join(unique) if len(unique) <= 2 else f"{unique[0]} … {unique[-1]}"


def _lr_legend(axes: Axes) -> None:
    """All groups if they fit; of many, some from first to last, because the colours are in order."""
    handles, labels = axes.get_legend_handles_labels()
    if len(handles) > _LEGEND_ROWS:
        step = (len(handles) - 1) / (_LEGEND_ROWS - 1)
        chosen = sorted({round(i * step) for i in range(_LEGEND_ROWS)})
        handles, labels = [handles[i] for i in chosen], [labels[i] for i in chosen]
    # The last group has the highest learning rate: it is listed first, like its line.
    legend = axes.legend(handles[::-1], labels[::-1], frameon=False, labelcolor=INK, fontsize=8)
    set_names(legend.get_texts())


def _style_axes(axes: Axes, rows: Sequence[dict[str, Any]]) -> None:
    axes.set_xlabel("epoch", color=INK)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
    epochs = _epochs(rows)
    if epochs:
        margin = 0.5 if len(epochs) <= 12 else 0.02 * len(epochs)
        axes.set_xlim(epochs[0] - margin, epochs[-1] + margin)
    style_axes(axes, grid="y")
    if not axes.lines:
        axes.set_yticks([])
        axes.text(0.5, 0.5, "no values", transform=axes.transAxes, ha="center", va="center", color=GREY)
