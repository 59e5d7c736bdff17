"""`zoo check`: find problems in a data set before training."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated, Any

import typer

from zoo import console
from zoo.cli.options import DataArgument, Json, pop_columns, takes
from zoo.errors import UsageError

if TYPE_CHECKING:
    from zoo.data.check import Finding, Report

_EXAMPLES = 3
_CLASSES = 10


@takes(
    "val", "task", "image_column", "label_column", "label_separator", "split_column",
    workers="auto, one per core",
)  # fmt: skip
def check(
    data: DataArgument,
    *,
    html: Annotated[str | None, typer.Option(metavar="FILE", help="write an HTML report with thumbnails")] = None,
    unreadable: Annotated[
        str, typer.Option(metavar="MODE", help="unreadable files, as in the recipe: error or skip (only a warning)")
    ] = "error",
    cache: Annotated[
        bool, typer.Option("--cache/--no-cache", help="reuse what an earlier check read from unchanged files")
    ] = True,
    as_json: Json = False,
    **options: Any,
) -> None:
    """Find problems in a data set before training.

    Reports unreadable files, duplicates and near-duplicates, leakage between training and validation, images with two
    labels, small or unbalanced classes, and unusual sizes, formats and folders. The exit code is 3 if an error was
    found, 0 if there are only warnings and notes.

    In a pipe: tab-separated lines of `images`, split, number; `class`, name, images per split; and for every image or
    name of a finding its severity, kind, number of the group, path, detail.
    """
    from zoo.workflows.check import check as run_check

    if unreadable not in ("error", "skip"):
        raise UsageError(f"--unreadable {unreadable!r} is not a mode", "known: error, skip")
    report = run_check(
        data,
        columns=pop_columns(options),
        unreadable="skip" if unreadable == "skip" else "error",
        cache=cache,
        html=html,
        **options,
    )
    for text in report.listing.notes:
        console.note(text)
    if as_json:
        console.print_json(report.to_dict())
    elif console.is_terminal(sys.stdout):
        console.print_lines(_terminal_lines(report))
    else:
        console.print_tsv(_pipe_rows(report))
    sys.stdout.flush()
    if html is not None:
        console.note(f"wrote {html}")
    if report.findings and html is None and console.is_terminal(sys.stdout):
        console.note(f"next: zoo check {data} --html check.html   (a page with the images; a second check is faster)")
    raise typer.Exit(report.exit_code)


def _pipe_rows(report: Report) -> Iterator[tuple[Any, ...]]:
    from zoo.data.decode.errors import printable

    listing = report.listing
    for part in listing.splits:
        yield "images", part.name, len(part.source)
    for name, row in zip(listing.classes, report.counts, strict=False):
        yield "class", printable(name), *row
    for finding in report.findings:
        for name in finding.names:
            yield finding.severity, finding.kind, "", name, ""
        for file in finding.files:
            yield finding.severity, finding.kind, "", printable(file.path), file.reason
        for number, group in enumerate(finding.groups):
            for image in map(int, group):
                path = printable(listing.where(image))
                yield finding.severity, finding.kind, number, path, finding.details.get(image, "")
        if not (finding.names or finding.files or len(finding.groups)):
            yield finding.severity, finding.kind, "", "", finding.title


def _terminal_lines(report: Report) -> Iterator[str]:
    """Facts about the data, the findings, the most severe first, and a summary."""
    yield from _facts(report)
    yield ""
    for finding in report.findings:
        if finding.severity == "note":
            yield f"note: {finding.title} ({finding.advice})"
            continue
        yield f"{'ERROR' if finding.severity == 'error' else 'warning'}: {finding.title}"
        examples = list(_examples(report, finding))
        yield from (f"    {line}" for line in examples[:_EXAMPLES])
        if len(examples) > _EXAMPLES:
            total = len(finding.names) + len(finding.files) + len(finding.groups)
            yield f"    … and {total - _EXAMPLES:,} more"
        yield f"  → {finding.advice}"
        yield ""
    if report.findings and report.findings[-1].severity == "note":
        yield ""
    yield report.verdict


def _facts(report: Report) -> Iterator[str]:
    from zoo.progress import duration

    listing, facts = report.listing, report.facts()
    known = f", {report.from_cache:,} of them from the cache" if report.from_cache else ""
    yield f"{report.data}: {facts['images']:,} images checked in {duration(report.seconds)}{known}"
    splits = ", ".join(f"{len(p.source):,} {p.name}" for p in listing.splits)
    yield f"  splits   {splits}{'' if listing.is_split else ' (not split yet)'}"
    if len(report.counts):
        total = report.counts.sum(axis=1)
        order = total.argsort()[::-1]
        named = ", ".join(f"{listing.classes[k]} {total[k]:,}" for k in order[:_CLASSES])
        more = f" … the smallest: {listing.classes[order[-1]]} {total[order[-1]]:,}" if len(order) > _CLASSES else ""
        yield f"  classes  {len(total):,}: {named}{more}"
    if "width" in facts:
        spans = (f"{s['min']}-{s['max']} (median {s['median']})" for s in (facts["width"], facts["height"]))
        yield "  sizes    width {}, height {}".format(*spans)
    for key in ("formats", "modes"):
        if facts.get(key):
            yield f"  {key:8s} " + ", ".join(f"{name} {n:,}" for name, n in facts[key].items())


def _examples(report: Report, finding: Finding) -> Iterator[str]:
    """One line for each of the first names, files or groups; one more than is printed if there are more."""
    from zoo.data.decode.errors import printable

    yield from finding.names[: _EXAMPLES + 1]
    for file in finding.files[: _EXAMPLES + 1]:
        yield f"{printable(report.short(file.path))}: {file.reason}"
    for group in finding.groups[: _EXAMPLES + 1]:
        paths = [printable(report.short(report.listing.where(int(i)))) for i in group[:3]]
        more = f" and {len(group) - 3:,} more" if len(group) > 3 else ""
        detail = finding.details.get(int(group[0]), "")
        yield " = ".join(paths) + more + (f": {detail}" if detail else "")
