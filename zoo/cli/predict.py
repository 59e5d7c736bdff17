"""`zoo predict`: predict classes, labels or target values of images."""

from __future__ import annotations

import csv
import io
import json
import sys
from collections.abc import Iterable
from typing import TYPE_CHECKING, Annotated, Any

import typer

from zoo import console
from zoo.cli.options import BatchSize, Json, RunArgument, takes
from zoo.errors import DataError, UsageError
from zoo.imports import gc_paused

if TYPE_CHECKING:
    from zoo.data import BadFile
    from zoo.tasks import Prediction


@takes("device")
def predict(
    run: RunArgument,
    paths: Annotated[list[str], typer.Argument(metavar="PATH...", help="images, folders, or - for paths on stdin")],
    *,
    top: Annotated[
        int | None,
        typer.Option("--top", "-k", metavar="K", help="number of classes or labels per image, most probable first"),
    ] = None,
    threshold: Annotated[
        float | None, typer.Option(metavar="P", help="multi-label: minimum probability of a label (default: 0.5)")
    ] = None,
    batch_size: BatchSize = 32,
    as_json: Json = False,
    as_csv: Annotated[bool, typer.Option("--csv", help="print CSV with a header line")] = False,
    **options: Any,
) -> None:
    """Predict classes, labels or target values of images with a run.

    Prints one tab-separated line per image, in order: path, class, probability, and further pairs with --top K. For a
    multi-label run: path, then label and probability of each predicted label, possibly none. For a regression run:
    path, then the value of each target.

    A file that cannot be read is reported on stderr and skipped; the exit code is then 3.
    """
    with gc_paused():
        from zoo.workflows.predict import predict as run_predict

    if as_json and as_csv:
        raise UsageError("--json and --csv exclude each other", "choose one")
    # File names are bytes: names that are not valid UTF-8 pass unchanged from stdin to stdout.
    for stream in (sys.stdin, sys.stdout):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="surrogateescape")
    bad: list[BadFile] = []

    def report(problem: BadFile) -> None:
        bad.append(problem)
        console.note(f"skipped {_to_utf8(str(problem))}")

    result = run_predict(
        run, paths, top=top, threshold=threshold, batch_size=batch_size, on_bad=report, on_note=console.note, **options
    )
    print_results = _print_json if as_json else _print_csv if as_csv else _print_tsv
    predicted = print_results(result)
    if bad:
        files = "1 file" if len(bad) == 1 else f"{len(bad):,} files"
        raise DataError(
            f"{files} could not be read",
            f"they are listed above; the other {predicted:,} images were predicted" if predicted else "",
        )


def _print_tsv(result: Iterable[Prediction]) -> int:
    done = 0
    for p in result:
        console.print_tsv([p.cells()])
        sys.stdout.flush()  # so that the next program in the pipe does not wait for a full buffer
        done += 1
    return done


def _print_csv(result: Iterable[Prediction]) -> int:
    """Rows quoted where needed (RFC 4180), after a header."""
    writer = csv.writer(sys.stdout, lineterminator="\n")
    done = 0
    for p in result:
        if not done:
            writer.writerow(p.csv_header())
        writer.writerows(p.csv_rows())
        sys.stdout.flush()
        done += 1
    return done


def _print_json(result: Iterable[Prediction]) -> int:
    """A valid JSON array that is written image by image."""
    done = 0
    for p in result:
        text = json.dumps({**p.to_dict(), "path": _to_utf8(p.path)}, ensure_ascii=False)
        sys.stdout.write((",\n  " if done else "[\n  ") + text)
        sys.stdout.flush()
        done += 1
    console.print_lines(["\n]" if done else "[]"])
    return done


def _to_utf8(path: str) -> str:
    """Replace bytes that JSON and messages, which are UTF-8, cannot contain."""
    return path.encode("utf-8", "surrogateescape").decode("utf-8", "replace")
