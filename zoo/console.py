"""Output: results go to stdout, messages to stderr. In a distributed training only rank 0 prints.

Rich is imported only for output to a terminal.
"""

from __future__ import annotations

import json
import math
import os
import sys
from collections.abc import Iterable, Iterator, Sequence
from typing import IO, Any, Protocol, TypeVar

from zoo import dist_env


def is_terminal(stream: IO[str]) -> bool:
    """Whether `stream` is a terminal. NO_COLOR and TERM=dumb do not matter here; rich respects them itself."""
    return stream.isatty()


def note(text: str) -> None:
    """Print a message on stderr."""
    if dist_env.is_main_process():
        print(text, file=sys.stderr, flush=True)


def warn(text: str) -> None:
    note(f"warning: {text}")


def print_json(value: Any) -> None:
    """Print `value` as JSON on stdout; NaN and infinity become null."""
    if dist_env.is_main_process():
        print(json.dumps(finite(value), indent=2, ensure_ascii=False, default=str))


def finite(value: Any) -> Any:
    """`value` with None for NaN and infinity, which strict JSON does not have."""
    if isinstance(value, dict):
        return {k: finite(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [finite(v) for v in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def print_lines(lines: Iterable[str]) -> None:
    if dist_env.is_main_process():
        sys.stdout.write("".join(f"{line}\n" for line in lines))


def print_tsv(rows: Iterable[Sequence[Any]]) -> None:
    """Print tab-separated lines on stdout. None becomes an empty field; tabs and newlines in a field become spaces."""
    for row in rows:
        cells = ("" if v is None else str(v).replace("\t", " ").replace("\n", " ") for v in row)
        sys.stdout.write("\t".join(cells) + "\n")


def print_table(
    columns: Sequence[str],
    rows: Iterable[Sequence[Any]],
    *,
    title: str = "",
    right: Sequence[int] = (),
    stream: IO[str] | None = None,
) -> None:
    """Print a table for a terminal. right: indices of right-aligned columns. stream: default stdout."""
    from rich.box import SIMPLE_HEAD
    from rich.console import Console
    from rich.table import Table

    target = stream or sys.stdout
    table = Table(box=SIMPLE_HEAD, pad_edge=False)
    for i, column in enumerate(columns):
        table.add_column(
            column,
            justify="right" if i in right else "left",
            no_wrap=i == 0,
            overflow="fold",
            style="bold" if i == 0 else None,
        )
    for row in rows:
        table.add_row(*("" if v is None else str(v) for v in row), end_section=False)
    # A table in a file or pipe must not be cut at 80 columns.
    width = None if is_terminal(target) else int(os.environ.get("COLUMNS", "120"))
    console = Console(file=target, width=width, highlight=False, markup=False)
    if title:
        console.print(title, style="bold")
    console.print(table)


def print_facts(title: str, facts: Iterable[tuple[str, str]]) -> None:
    """A title and lines of key and value for a terminal: keys aligned, long values wrapped."""
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


T_co = TypeVar("T_co", covariant=True)


class SizedIterable(Protocol[T_co]):
    """An iterable with a length."""

    def __len__(self) -> int: ...
    def __iter__(self) -> Iterator[T_co]: ...


def track(items: SizedIterable[T_co], label: str) -> Iterator[T_co]:
    """Iterate over `items` with a progress bar on stderr if that is a terminal; the bar is removed at the end."""
    if not is_terminal(sys.stderr):
        yield from items
        return
    from rich.console import Console
    from rich.progress import track as rich_track

    yield from rich_track(items, description=label, total=len(items), console=Console(stderr=True), transient=True)
