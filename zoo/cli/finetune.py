"""`zoo finetune`: fine-tune a model on images."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer
from typing_extensions import Unpack

from zoo import console
from zoo.cli.options import Json, ModelArgument, output_dir_option, takes
from zoo.errors import UsageError
from zoo.imports import gc_paused
from zoo.options import Options, flag


@takes(Options)
def finetune(
    model: ModelArgument = None,
    *,
    output_dir: Annotated[Path | None, output_dir_option("directory of the run (default: runs/MODEL-DATA)")] = None,
    resume: Annotated[
        str | None,
        typer.Option(metavar="RUN|auto", help="continue an interrupted run; auto: the one in --output-dir, if any"),
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="check the data, build the model, try one step, and stop")
    ] = False,
    processes: Annotated[
        int | None,
        typer.Option(metavar="N", help="number of training processes on this host, one per GPU (default: 1)"),
    ] = None,
    as_json: Json = False,
    **options: Unpack[Options],
) -> None:
    """Fine-tune a model on images.

    Options that are not given keep the value of the recipe; `zoo recipes full` prints the default recipe. Prints the
    directory of the run on stdout; progress and decisions go to stderr.
    """
    if processes is not None:
        from zoo.training.launch import is_launched, launch

        if not is_launched(processes):
            raise typer.Exit(launch(sys.argv[1:], processes))

    with gc_paused():
        from zoo.formats import suggested_format
        from zoo.recipe import dump
        from zoo.workflows.finetune.build import build_session
        from zoo.workflows.finetune.run import finetune as run_finetune
        from zoo.workflows.finetune.run import resolve_options, resume_or_none
        from zoo.workflows.finetune.run import resume as run_resume

    run = None
    if resume == "auto":
        run = resume_or_none(output_dir)
    elif resume is not None:
        given = {"MODEL": model, "--output-dir": output_dir, "--dry-run": dry_run or None}
        if others := [*(name for name, value in given.items() if value is not None), *map(flag, options)]:
            raise UsageError(
                f"--resume continues a run with its own settings and cannot be combined with {others[0]}",
                f"leave it out, or start a new run with --recipe {resume}",
            )
        run = run_resume(resume)
    if run is None:
        chosen = resolve_options(model, output_dir=output_dir, progress=True, **options)
        if not {"data", "recipe"} & options.keys() and "data.source" not in (options.get("settings") or {}):
            console.note("no --data given: training on the digits of scikit-learn (1,797 images)")
        if dry_run:
            resolved = build_session(chosen, output_dir=output_dir, progress=True).recipe
            if as_json:
                console.print_json(resolved.model_dump())
            else:
                console.print_lines(dump(resolved).splitlines())
            console.note("dry run finished: data, model and settings are valid; nothing was trained or written")
            return
        run = run_finetune(chosen, output_dir=output_dir)
    if as_json:
        console.print_json({"run": str(run.path), **run.info(), "metrics": run.metrics()})
    else:
        console.print_lines([str(run.path)])
        console.note(
            f"next: zoo evaluate {run.path}    zoo predict {run.path} IMAGE    "
            f"zoo export {run.path} --format {suggested_format(run.model_record()['model'])}"
        )
