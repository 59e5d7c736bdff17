"""`zoo demo`: a whole workflow on built-in data, each step as the command that a user would type."""

from __future__ import annotations

import shlex
import sys
import time
from pathlib import Path
from typing import Annotated, Any

import typer

from zoo import console
from zoo.cli.options import output_dir_option
from zoo.errors import UsageError

_MODEL = "zoo_tiny"


def demo(
    context: typer.Context,
    output_dir: Annotated[
        Path | None, output_dir_option("directory for the runs and pictures (default: runs/demo)")
    ] = None,
) -> None:
    """Run a whole workflow on built-in data: list, inspect, fine-tune, evaluate, export, predict. Needs no download."""
    from zoo.run import create_unique_folder
    from zoo.workflows.demo import write_images

    if output_dir is None:
        folder = create_unique_folder(Path("runs"), "demo")
    elif output_dir.exists() and (not output_dir.is_dir() or any(output_dir.iterdir())):
        raise UsageError(f"output directory {output_dir} is not empty", "choose another --output-dir")
    else:
        folder = output_dir
    head, full, images = folder / "head", folder / "full", folder / "images"
    zoo: Any = context.find_root().command
    started = time.perf_counter()
    for command in (
        ["list", "*zoo*"],
        ["inspect", _MODEL, "--classes", "10", "--freeze", "backbone"],
        ["finetune", _MODEL, "--data", "digits", "--freeze", "backbone", "-o", str(head)],
        ["finetune", _MODEL, "--data", "digits", "--weights", str(head), "--recipe", "full", "-o", str(full)],
        ["evaluate", str(full)],
        ["export", str(full), "--format", "safetensors"],
        ["predict", str(full), *write_images(images, 3)],
    ):
        sys.stdout.flush()
        console.note(f"\n$ zoo {shlex.join(command)}")
        zoo.main(command, prog_name="zoo", standalone_mode=False)
    sys.stdout.flush()
    console.note(f"\nfinished in {time.perf_counter() - started:.0f} s; all files are in {folder}")
