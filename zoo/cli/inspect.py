"""`zoo inspect`: what a model is made of, and what would learn."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated

import typer

from zoo import output

if TYPE_CHECKING:
    from zoo.workflows.inspect import ModelSummary

__all__ = ["inspect_model"]

_MODULES_SHOWN = 4


def inspect_model(
    model: Annotated[str, typer.Argument(help="as `zoo list` names it; with a tag for its weights: resnet34.a1_in1k")],
    classes: Annotated[int | None, typer.Option(metavar="N", help="replace the head by one of N classes")] = None,
    in_chans: Annotated[int, typer.Option(metavar="N", help="channels of the images")] = 3,
    freeze: Annotated[
        str, typer.Option(metavar="PLAN", help="none, backbone, norm, N groups, N%, a group or module, globs")
    ] = "none",
    weights: Annotated[str, typer.Option(metavar="TAG", help="load them too: default, a tag or a file")] = "none",
    params: Annotated[
        str | None, typer.Option(metavar="MODULE", help="show the tensors of this module instead: conv1")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="everything as JSON")] = False,
) -> None:
    """Show a model's input, costs, groups, and what would learn under a freezing plan.

    Without --weights nothing is loaded and no network is needed. In a pipe: tab-separated key and value, then lines of
    `group`, its name, parameters, how many learn, modules; with --params lines of name, shape, dtype, mean, std.
    """
    from zoo.workflows.inspect import inspect

    summary = inspect(model, classes=classes, in_chans=in_chans, freeze=freeze, weights=weights, params=params)
    if params is not None and summary.weights.source == "none":
        output.note("random start: without --weights these are not the pretrained values")
    if as_json:
        output.print_json(summary.to_dict())
    elif params is not None:
        _show_tensors(summary)
    elif output.is_terminal(sys.stdout):
        _show(summary)
    else:
        output.print_tsv(_lines(summary))


def _show_tensors(summary: ModelSummary) -> None:
    if not output.is_terminal(sys.stdout):
        output.print_tsv((t.name, _size(t.shape), t.dtype, t.mean, t.std) for t in summary.tensors)
        return
    rows = (
        (t.name, _size(t.shape), t.dtype, *("" if v is None else f"{v:.4g}" for v in (t.mean, t.std)))
        for t in summary.tensors
    )
    output.print_table(("tensor", "shape", "dtype", "mean", "std"), rows, right=(3, 4))


def _facts(summary: ModelSummary) -> Iterator[tuple[str, str]]:
    """Key and value, those of no value left out."""
    preprocess = summary.preprocess
    yield "name", summary.name
    yield "source", summary.source
    yield "architecture", summary.architecture
    if summary.tags:
        yield "tags", ",".join(summary.tags)
    for key, value in (
        ("tag", summary.tag),
        ("hub_id", summary.hub_id),
        ("url", summary.url),
        ("license", summary.license),
    ):
        if value is not None:
            yield key, value
    yield "num_classes", str(summary.num_classes)
    yield "classes", str(summary.classes)
    yield "input_size", _size(preprocess.input_size)
    if summary.pool_size is not None:
        yield "pool_size", _size(summary.pool_size)
    yield "crop_pct", f"{preprocess.crop_pct:.4g}"
    yield "crop_mode", preprocess.crop_mode
    yield "interpolation", preprocess.interpolation
    yield "mean", ",".join(f"{v:.4g}" for v in preprocess.mean)
    yield "std", ",".join(f"{v:.4g}" for v in preprocess.std)
    for key, paths in (("first_conv", summary.first_conv), ("classifier", summary.classifier)):
        if paths:
            yield key, ",".join(paths)
    yield "output_shape", _size(summary.output_shape)
    report = summary.weights
    yield "weights", report.source
    if report.source != "none":
        yield "sha256", report.sha256 or ""
        if report.revision:
            yield "revision", report.revision
        yield "loaded", str(report.loaded)
        for key, names in (("adapted", report.adapted), ("missing", report.missing), ("unexpected", report.unexpected)):
            for name in names:
                yield key, name


def _lines(summary: ModelSummary) -> Iterator[tuple[object, ...]]:
    yield from _facts(summary)
    yield "params", summary.params
    yield "gmacs", summary.gmacs
    yield "freeze", summary.freeze
    yield "learning", summary.learning
    for group in summary.groups:
        yield "group", group.name, group.parameters, group.learning, ",".join(group.modules)


def _show(summary: ModelSummary) -> None:
    cost = "" if summary.gmacs is None else f", {summary.gmacs:.3g} GMACs at {_size(summary.preprocess.input_size)}"
    output.print_table(
        ("field", "value"), _facts(summary), title=f"{summary.name}: {summary.params:,} parameters{cost}"
    )
    rows = [
        (g.name, _modules(g.modules), f"{g.parameters:,}", _learns(g.parameters, g.learning), f"{g.learning:,}")
        for g in summary.groups
    ]
    output.print_table(
        ("group", "modules", "parameters", "learns", "learning"),
        [*rows, ("all", "", f"{summary.params:,}", _learns(summary.params, summary.learning), f"{summary.learning:,}")],
        title=f"freezing plan: {summary.freeze}",
        right=(2, 4),
    )


def _learns(parameters: int, learning: int) -> str:
    if parameters == 0:
        return ""
    return "yes" if learning == parameters else "no" if learning == 0 else "partly"


def _modules(paths: tuple[str, ...]) -> str:
    more = len(paths) - _MODULES_SHOWN
    return ", ".join(paths[:_MODULES_SHOWN]) + (f" and {more} more" if more > 0 else "")


def _size(shape: tuple[int, ...]) -> str:
    return "x".join(map(str, shape)) or "scalar"
