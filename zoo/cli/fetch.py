"""`zoo fetch`: download weights for later offline use."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from zoo import console
from zoo.cli.completion import complete_model
from zoo.cli.options import Json

if TYPE_CHECKING:
    from zoo.workflows.fetch import FetchedFile


def fetch(
    models: Annotated[
        list[str],
        typer.Argument(
            metavar="MODEL...",
            help="model names from `zoo list`, with a tag for weights other than the default (resnet34.a1_in1k), or "
            "hf-hub:OWNER/NAME",
            autocompletion=complete_model,
        ),
    ],
    to: Annotated[
        Path | None, typer.Option(metavar="DIR", help="folder for the files (default: the caches of the libraries)")
    ] = None,
    as_json: Json = False,
) -> None:
    """Download pretrained weights and verify them, for later use without a network.

    `--weights default` finds weights in the caches; --to DIR writes files for another machine. Complete files are not
    downloaded again. If one model fails, the others are still fetched, and the exit code is 4. In a pipe: tab-separated
    model, path, bytes, sha256, one line per file as soon as it is complete.
    """
    from zoo.errors import WeightsError
    from zoo.workflows.fetch import FailedFetch, FetchedFile, fetch_each

    done: list[FetchedFile] = []
    failed: list[FailedFetch] = []
    for outcome in fetch_each(models, to):
        if isinstance(outcome, FetchedFile):
            done.append(outcome)
            if not outcome.downloaded:
                console.note(f"{outcome.model}: already downloaded")
            if not as_json and not console.is_terminal(sys.stdout):
                console.print_tsv([(outcome.model, outcome.path, outcome.bytes, outcome.sha256)])
                sys.stdout.flush()
        else:
            failed.append(outcome)
            if len(models) > 1:
                console.note(f"{outcome.model}: {outcome.error.message}")
    if as_json:
        console.print_json([*(f.to_dict() for f in done), *(f.to_dict() for f in failed)])
    elif done and console.is_terminal(sys.stdout):
        _show(done)
    if len(models) == 1 and failed:
        raise failed[0].error
    if failed:
        names = ", ".join(outcome.model for outcome in failed)
        hints = list(dict.fromkeys(outcome.error.hint for outcome in failed if outcome.error.hint))
        raise WeightsError(f"{len(failed)} of {len(models)} were not fetched: {names}", "; ".join(hints))


def _show(files: list[FetchedFile]) -> None:
    console.print_table(
        ("model", "file", "MB", "sha256"),
        [(f.model, f.path, f"{f.bytes / 1e6:,.1f}", f"{f.sha256[:12]}…") for f in files],
        right=(2,),
    )
