"""`zoo export`: write a run as files that work without zoo."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from zoo import console
from zoo.cli.options import Json, RunArgument, output_dir_option
from zoo.formats import FORMATS
from zoo.imports import gc_paused

_FORMATS = "; ".join(f"{name}: {entry.description}" for name, entry in FORMATS.items())


def export(
    run: RunArgument,
    *,
    format: Annotated[str, typer.Option("--format", "-f", metavar="NAME", help=_FORMATS)] = "safetensors",
    output_dir: Annotated[
        Path | None, output_dir_option("directory for the exported files (default: RUN/export/FORMAT)")
    ] = None,
    as_json: Json = False,
) -> None:
    """Export the best weights of a run, with class names and preprocessing.

    The files are loaded again, and their outputs are compared with the run's. Prints the files with their sizes; in a
    pipe path and bytes, tab-separated. An earlier export in DIR is replaced.
    """
    with gc_paused():
        from zoo.workflows.export import export as run_export

    done = run_export(run, format, output_dir)
    rows = [(done.folder / name, size) for name, size in done.files]
    if as_json:
        console.print_json(done.to_dict())
    elif console.is_terminal(sys.stdout):
        console.print_table(("file", "size"), [(path, _size(size)) for path, size in rows], right=(1,))
    else:
        console.print_tsv(rows)
    console.note(f"verified: the exported model gives the same outputs as the run\nnext: {done.command}")


def _size(count: int) -> str:
    """1.4 MB, in powers of ten, as `ls -h --si`."""
    value = float(count)
    for unit in ("B", "kB", "MB"):
        if value < 1000:
            return f"{value:.0f} {unit}" if unit == "B" else f"{value:.1f} {unit}"
        value /= 1000
    return f"{value:.1f} GB"
