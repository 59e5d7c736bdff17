"""`zoo cache`: what runs have kept for later ones."""

from __future__ import annotations

import sys
import time
from typing import Annotated

import typer

from zoo import console
from zoo.errors import UsageError

__all__ = ["cache"]

_GIB = 2**30


def cache(
    action: Annotated[str, typer.Argument(metavar="list|clear", help="show what is kept, or delete it")] = "list",
    keep: Annotated[
        float | None, typer.Option(metavar="GIB", min=0, help="with clear: leave so much, last used first")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="as JSON, sizes in bytes")] = False,
) -> None:
    """Show or clear the features and decoded images that runs have kept. What is deleted is made again when needed.

    In a pipe: bytes, last use (seconds since 1970), model, boundary, data and folder, a line each.
    """
    from zoo.workflows.cache import cache_folder, clear_cache, list_cache

    if action == "clear":
        freed = clear_cache(max_bytes=int((keep or 0.0) * _GIB))
        if as_json:
            console.print_json({"freed": freed})
        console.note(f"{freed / 2**20:,.1f} MiB freed in {cache_folder()}")
        return
    if action != "list" or keep is not None:
        raise UsageError(
            f"no action {action!r}" if action != "list" else "--keep goes with clear",
            "zoo cache list, or zoo cache clear",
        )
    stores = list_cache()
    rows = [(s.info.get("model", "?"), s.info.get("end", "?"), s.info.get("data", "?")) for s in stores]
    if as_json:
        console.print_json(
            [{**s.info, "bytes": s.bytes, "last_used": s.last_used, "folder": str(s.folder)} for s in stores]
        )
    elif console.is_terminal(sys.stdout):
        console.print_table(
            ("model", "up to", "data", "MiB", "last used"),
            (
                (*row, f"{s.bytes / 2**20:,.1f}", time.strftime("%Y-%m-%d %H:%M", time.localtime(s.last_used)))
                for row, s in zip(rows, stores, strict=True)
            ),
            right=(3,),
        )
    else:
        console.print_tsv((s.bytes, int(s.last_used), *row, s.folder) for row, s in zip(rows, stores, strict=True))
    console.note(f"{sum(s.bytes for s in stores) / 2**20:,.1f} MiB in {cache_folder()}")
