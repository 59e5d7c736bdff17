"""`zoo cache`: list and clear the cache."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Annotated, Any

import typer

from zoo import console
from zoo.cache import CACHES, UNKNOWN, cache_folder
from zoo.cli.options import Json
from zoo.errors import UsageError

if TYPE_CHECKING:
    from zoo.cache import CacheEntry

_GIB = 2**30
_REASONS = {
    UNKNOWN: ", unknown to this version of zoo",
    "torchvision": ", which cannot be downloaded again automatically: zoo cache clear torchvision deletes it",
}


def _complete_kind(incomplete: str) -> list[str]:
    return [kind for kind in CACHES if kind.startswith(incomplete)]


def cache(
    action: Annotated[str, typer.Argument(metavar="list|clear", help="show the cache, or delete it")] = "list",
    kinds: Annotated[
        list[str] | None,
        typer.Argument(metavar="KIND...", help=f"{', '.join(CACHES)} (default: all)", autocompletion=_complete_kind),
    ] = None,
    keep: Annotated[
        float | None,
        typer.Option(metavar="GIB", min=0, help="with clear: leave the last used entries, up to this size"),
    ] = None,
    as_json: Json = False,
) -> None:
    """List or clear the cache: features, decoded images, unpacked archives, downloaded data sets, timings.

    Runs make deleted entries again when they need them. `list` prints a line per kind, `list KIND` a line per entry.
    In a pipe, tab-separated: kind, entries, bytes, last use (seconds since 1970), description; with KIND: kind, bytes,
    last use, description, path.
    """
    from zoo.workflows.cache import clear_cache, list_cache

    kinds = kinds or []
    if action not in ("list", "clear"):
        raise UsageError(f"no action {action!r}", "zoo cache list, or zoo cache clear")
    if action == "clear":
        freed = clear_cache(*kinds, max_bytes=int((keep or 0.0) * _GIB))
        if as_json:
            console.print_json({"freed": freed})
        console.note(f"{freed / 2**20:,.1f} MiB freed in {cache_folder()}")
        for entry in list_cache(*kinds) if keep is None else ():
            console.note(f"not deleted: {entry.path}{_REASONS.get(entry.kind, '')}")
        return
    if keep is not None:
        raise UsageError("--keep goes with clear", "zoo cache clear --keep 5")
    entries = list_cache(*kinds)
    if as_json:
        console.print_json([_to_json(entry) for entry in entries])
    elif entries and kinds:
        _print(("kind", "MiB", "last used", "contents", "path"), map(_entry_row, entries), sizes=1)
    elif entries:
        _print(("kind", "entries", "MiB", "last used", "contents"), _kind_rows(entries), sizes=2)
    console.note(f"{sum(e.bytes for e in entries) / 2**20:,.1f} MiB in {cache_folder()}")


def _to_json(entry: CacheEntry) -> dict[str, object]:
    own = {"kind": entry.kind, "path": str(entry.path), "bytes": entry.bytes, "last_used": entry.last_used}
    return {**own, **entry.info}


def _entry_row(entry: CacheEntry) -> Sequence[Any]:
    contents = ", ".join(str(entry.info[key]) for key in ("model", "end", "data") if key in entry.info)
    return entry.kind, entry.bytes, entry.last_used, contents or entry.path.name, entry.path


def _kind_rows(entries: list[CacheEntry]) -> Iterator[Sequence[Any]]:
    for kind in (*CACHES, UNKNOWN):
        own = [entry for entry in entries if entry.kind == kind]
        if own:
            contents = CACHES[kind].holds if kind in CACHES else ", ".join(sorted(entry.path.name for entry in own))
            yield kind, len(own), sum(e.bytes for e in own), max(e.last_used for e in own), contents


def _print(columns: tuple[str, ...], rows: Iterable[Sequence[Any]], *, sizes: int) -> None:
    """Print rows that hold a size in bytes in column `sizes` and the last use in the next one."""
    if console.is_terminal(sys.stdout):
        console.print_table(columns, (_format(row, sizes) for row in rows), right=range(1, sizes + 1))
    else:
        console.print_tsv([*row[: sizes + 1], int(row[sizes + 1]), *row[sizes + 2 :]] for row in rows)


def _format(row: Sequence[Any], sizes: int) -> Sequence[Any]:
    last_used = time.strftime("%Y-%m-%d %H:%M", time.localtime(row[sizes + 1]))
    return [*row[:sizes], f"{row[sizes] / 2**20:,.1f}", last_used, *row[sizes + 2 :]]
