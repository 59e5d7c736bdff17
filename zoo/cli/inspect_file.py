"""How `zoo inspect` prints what a file of weights or a run holds."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

from zoo import console

if TYPE_CHECKING:
    from zoo.models.architectures import ArchitectureMatch
    from zoo.workflows.inspect_file import FileSummary, RunSummary, TensorSummary

__all__ = ["print_facts", "show_file", "show_tensors", "size"]

_MAX_ITEMS = 8


def size(shape: tuple[int, ...]) -> str:
    return "x".join(map(str, shape)) or "scalar"


def print_facts(title: str, facts: Iterable[tuple[str, str]]) -> None:
    """Key and value for a person: keys aligned, long values folded beside them."""
    from rich.console import Console
    from rich.table import Table

    grid = Table.grid(padding=(0, 2))
    grid.add_column(no_wrap=True, style="cyan")
    grid.add_column(overflow="fold")
    for key, value in facts:
        grid.add_row(f" {key}", value)
    console = Console(highlight=False, markup=False)
    console.print(title, style="bold")
    console.print(grid)
    console.print()


def show_tensors(tensors: Iterable[TensorSummary]) -> None:
    if not console.is_terminal(sys.stdout):
        console.print_tsv((t.name, size(t.shape), t.dtype, t.mean, t.std) for t in tensors)
        return
    rows = (
        (t.name, size(t.shape), t.dtype, *("" if v is None else f"{v:.4g}" for v in (t.mean, t.std))) for t in tensors
    )
    console.print_table(("tensor", "shape", "dtype", "mean", "std"), rows, right=(3, 4))


def show_file(summary: FileSummary, *, tensors: bool, as_json: bool) -> None:
    """`tensors`: only those that were asked for."""
    if as_json:
        console.print_json(summary.to_dict())
    elif tensors:
        show_tensors(summary.summaries)
    elif not console.is_terminal(sys.stdout):
        console.print_tsv(_pipe_rows(summary))
    else:
        print_facts(
            f"{summary.path}: {summary.params:,} parameters in {summary.tensors:,} tensors", _terminal_facts(summary)
        )
        _show_fits(summary.fits)


def _pipe_rows(summary: FileSummary) -> Iterator[tuple[object, ...]]:
    """Key and value, those of no value left out; then the architectures."""
    if summary.run is not None:
        yield from _run_pipe_rows(summary.run)
    yield "file", summary.path
    yield "bytes", summary.bytes
    yield "sha256", summary.sha256
    yield "format", summary.format
    for key, value in (("wrapping", ".".join(summary.wrapping)), ("prefix", summary.prefix)):
        if value:
            yield key, value
    for name, kind in summary.others.items():
        yield "other", name, kind
    for name, text in summary.metadata.items():
        yield "metadata", name, text
    yield "tensors", summary.tensors
    yield "params", summary.params
    yield "dtypes", ",".join(f"{count} {dtype}" for dtype, count in summary.dtypes.items())
    yield "first", summary.first[0], size(summary.first[1])
    yield "last", summary.last[0], size(summary.last[1])
    for key, number in (("classes", summary.classes), ("in_chans", summary.in_chans)):
        if number is not None:
            yield key, number
    for name in summary.non_finite:
        yield "non_finite", name
    for fit in summary.fits:
        yield "fits", f"{fit.share:.4f}", ",".join(fit.names), len(fit.differing), len(fit.missing), len(fit.unexpected)


def _run_pipe_rows(run: RunSummary) -> Iterator[tuple[object, ...]]:
    yield "run", run.path
    yield "status", run.status
    yield "model", run.model
    yield "class_names", ",".join(run.classes)
    yield "input_size", size(run.input_size)
    if run.data is not None:
        yield "data", run.data
    if run.best is not None:
        yield "best", f"epoch {run.best.get('epoch')}", run.best.get("monitor"), run.best.get("value")


def _terminal_facts(summary: FileSummary) -> Iterator[tuple[str, str]]:
    if summary.run is not None:
        yield from _run_terminal_facts(summary.run)
    yield "format", f"{summary.format}, {summary.bytes / 1e6:,.1f} MB"
    yield "sha256", summary.sha256
    if summary.wrapping:
        yield "wrapped in", ".".join(summary.wrapping)
    if summary.prefix:
        yield "prefix", f"{summary.prefix} taken off all names"
    if summary.others:
        yield "beside it", _shorten([f"{name} ({kind})" for name, kind in summary.others.items()])
    if summary.metadata:
        yield "metadata", _shorten([f"{name}: {text}" for name, text in summary.metadata.items()])
    yield "dtypes", ", ".join(f"{count:,} {dtype}" for dtype, count in summary.dtypes.items())
    yield "first", f"{summary.first[0]} {size(summary.first[1])}"
    yield "last", f"{summary.last[0]} {size(summary.last[1])}"
    known = [f"{what} {n:,}" for what, n in (("classes", summary.classes), ("channels", summary.in_chans)) if n]
    if known:
        yield "made for", f"{', '.join(known)}{'' if summary.fits else ' (guessed from names and shapes)'}"
    if summary.non_finite:
        yield "damaged", f"NaN or infinity in {_shorten(summary.non_finite)}"


def _run_terminal_facts(run: RunSummary) -> Iterator[tuple[str, str]]:
    of = "" if run.epochs is None else f" of {run.epochs}"
    done = "" if run.epochs_done is None else f", {run.epochs_done}{of} epochs done"
    yield "run", f"{run.path}: {run.status}{done}"
    yield "model", f"{run.model} of {run.source}, for images of {size(run.input_size)}"
    yield "classes", f"{len(run.classes)}: {_shorten(run.classes)}"
    if run.data is not None:
        yield "data", run.data
    if run.best is not None and isinstance(run.best.get("value"), float):
        yield "best", f"{run.best.get('monitor')} {run.best['value']:.4g} in epoch {run.best.get('epoch')}"


def _show_fits(fits: tuple[ArchitectureMatch, ...]) -> None:
    if not fits:
        console.note("no architecture of the catalog has half of these tensors: names or shapes are another library's")
        return
    console.print_table(
        ("architecture", "fits", "other than the head and the channels"),
        ((", ".join(fit.names), f"{100 * fit.share:.4g} %", _differences(fit)) for fit in fits),
        title="architectures that it fits",
        right=(1,),
    )


def _differences(fit: ArchitectureMatch) -> str:
    kinds = (("of another shape", fit.differing), ("missing", fit.missing), ("left over", fit.unexpected))
    differences = [f"{len(names):,} {what} ({names[0].partition(':')[0]})" for what, names in kinds if names]
    return ", ".join(differences) or "nothing"


def _shorten(items: tuple[str, ...] | list[str]) -> str:
    more = len(items) - _MAX_ITEMS
    return ", ".join(items[:_MAX_ITEMS]) + (f" and {more} more" if more > 0 else "")
