"""`zoo inspect`: what a model is made of, and what would learn."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated

import typer

from zoo import console
from zoo.cli.completion import complete_model_or_file
from zoo.cli.inspect_file import print_facts, show_file, show_tensors, size
from zoo.errors import UsageError
from zoo.imports import gc_paused

if TYPE_CHECKING:
    from zoo.workflows.inspect import ModelSummary

__all__ = ["inspect_model"]

_MAX_MODULES = 4


def inspect_model(
    model: Annotated[
        str,
        typer.Argument(
            help="as `zoo list` names it, with a tag for its weights: resnet34.a1_in1k; or a run or file of weights",
            autocompletion=complete_model_or_file,
        ),
    ],
    classes: Annotated[int | None, typer.Option(metavar="N", help="replace the head by one of N classes")] = None,
    in_chans: Annotated[int | None, typer.Option(metavar="N", help="channels of the images (default: 3)")] = None,
    freeze: Annotated[
        str | None, typer.Option(metavar="PLAN", help="none, backbone, norm, N groups, N%, a group or module, globs")
    ] = None,
    weights: Annotated[
        str | None, typer.Option(metavar="TAG", help="load them too: default, a tag or a file (default: none)")
    ] = None,
    params: Annotated[
        str | None, typer.Option(metavar="MODULE", help="show the tensors of this module instead: conv1")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="everything as JSON")] = False,
) -> None:
    """Show a model's input, costs, groups, and what would learn under a freezing plan; or what a file of weights holds.

    Without --weights nothing is loaded and no network is needed. In a pipe: tab-separated key and value, then lines of
    `group`, its name, parameters, how many learn, modules; with --params lines of name, shape, dtype, mean, std.

    Of a run, a .safetensors or a .pth file: what is in it, without executing anything, and in lines of `fits` the share
    of tensors that an architecture has in common with it, and its names.
    """
    from zoo.workflows.inspect_file import inspect_file, is_weights_path

    if is_weights_path(model):
        given = {"--classes": classes, "--in-chans": in_chans, "--freeze": freeze, "--weights": weights}
        if wrong := [flag for flag, value in given.items() if value is not None]:
            raise UsageError(
                f"{model} is a file or a run; {wrong[0]} goes with a model's name",
                f"leave it out, or write zoo inspect MODEL --weights {model}",
            )
        show_file(inspect_file(model, params=params), tensors=params is not None, as_json=as_json)
        return

    with gc_paused():
        from zoo.workflows.inspect import inspect

    summary = inspect(
        model,
        classes=classes,
        in_chans=in_chans or 3,
        freeze=freeze or "none",
        weights=weights or "none",
        params=params,
    )
    if params is not None and summary.weights.source == "none":
        console.note("random start: without --weights these are not the pretrained values")
    if as_json:
        console.print_json(summary.to_dict())
    elif params is not None:
        show_tensors(summary.tensors)
    elif console.is_terminal(sys.stdout):
        _show(summary)
    else:
        console.print_tsv(_pipe_rows(summary))


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
    yield "input_size", size(preprocess.input_size)
    if summary.pool_size is not None:
        yield "pool_size", size(summary.pool_size)
    yield "crop_pct", f"{preprocess.crop_pct:.4g}"
    yield "crop_mode", preprocess.crop_mode
    yield "interpolation", preprocess.interpolation
    yield "mean", ",".join(f"{v:.4g}" for v in preprocess.mean)
    yield "std", ",".join(f"{v:.4g}" for v in preprocess.std)
    for key, paths in (("first_conv", summary.first_conv), ("classifier", summary.classifier)):
        if paths:
            yield key, ",".join(paths)
    yield "output_shape", size(summary.output_shape)
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


def _pipe_rows(summary: ModelSummary) -> Iterator[tuple[object, ...]]:
    yield from _facts(summary)
    yield "params", summary.params
    yield "gmacs", summary.gmacs
    yield "freeze", summary.freeze
    yield "trainable", summary.trainable
    for group in summary.groups:
        yield "group", group.name, group.parameters, group.trainable, ",".join(group.modules)


def _show(summary: ModelSummary) -> None:
    cost = "" if summary.gmacs is None else f", {summary.gmacs:.3g} GMACs at {size(summary.preprocess.input_size)}"
    print_facts(f"{summary.name}: {summary.params:,} parameters{cost}", _terminal_facts(summary))
    rows = [
        (
            g.name,
            _modules(g.modules),
            f"{g.parameters:,}",
            _trainable_text(g.parameters, g.trainable),
            f"{g.trainable:,}",
        )
        for g in summary.groups
    ]
    console.print_table(
        ("group", "modules", "parameters", "learns", "trainable"),
        [
            *rows,
            (
                "all",
                "",
                f"{summary.params:,}",
                _trainable_text(summary.params, summary.trainable),
                f"{summary.trainable:,}",
            ),
        ],
        title=f"freezing plan: {summary.freeze}",
        right=(2, 4),
    )


def _terminal_facts(summary: ModelSummary) -> Iterator[tuple[str, str]]:
    """As `_facts`, for a person: related values in one line."""
    preprocess, report = summary.preprocess, summary.weights
    yield "model", f"{summary.architecture} of {summary.source}"
    crop = f"crop {preprocess.crop_pct:.4g}" + (
        f" ({preprocess.crop_mode})" if preprocess.crop_mode != "center" else ""
    )
    yield "input", f"{size(preprocess.input_size)}, {preprocess.interpolation}, {crop}"
    yield "mean, std", " / ".join(", ".join(f"{v:.4g}" for v in row) for row in (preprocess.mean, preprocess.std))
    if summary.first_conv:
        yield "first conv", ", ".join(summary.first_conv)
    if summary.classifier:
        yield "classifier", f"{', '.join(summary.classifier)}: {summary.classes:,} classes"
    pooled = "" if summary.pool_size is None else f", pooled from {size(summary.pool_size)}"
    yield "output", f"{size(summary.output_shape)}{pooled}"
    if summary.tag is not None:
        details = [summary.license, summary.hub_id or summary.url, f"{summary.num_classes:,} classes"]
        yield "weights", f"{summary.tag}: {', '.join(s for s in details if s)}"
    if others := [tag for tag in summary.tags if tag != summary.tag]:
        yield "other tags", ", ".join(others)
    if report.source == "none":
        yield "loaded", "nothing: random values (--weights default loads the published ones)"
        return
    yield "loaded", f"{report.source}: {report.summary()}"
    yield "sha256", report.sha256 or ""
    for key, names in (("adapted", report.adapted), ("missing", report.missing), ("unexpected", report.unexpected)):
        for name in names:
            yield key, name


def _trainable_text(parameters: int, trainable: int) -> str:
    if parameters == 0:
        return ""
    return "yes" if trainable == parameters else "no" if trainable == 0 else "partly"


def _modules(paths: tuple[str, ...]) -> str:
    more = len(paths) - _MAX_MODULES
    return ", ".join(paths[:_MAX_MODULES]) + (f" and {more} more" if more > 0 else "")
