"""`zoo demo`: the whole job on embedded data, each step as the command that a user would type."""

from __future__ import annotations

import shlex
import sys
import time
from pathlib import Path
from typing import Annotated

import typer

from zoo import console
from zoo.errors import UsageError

__all__ = ["demo"]

_MODEL = "zoo_tiny"


def demo(
    output_dir: Annotated[
        Path | None, typer.Option("--output-dir", "-o", metavar="DIR", help="where to work (default: runs/demo)")
    ] = None,
) -> None:
    """List, inspect, fine-tune, evaluate, export and predict: no data and no download needed."""
    from zoo.cli import app
    from zoo.run import create_unique_folder
    from zoo.workflows.demo import write_images

    if output_dir is None:
        folder = create_unique_folder(Path("runs"), "demo")
    elif output_dir.exists() and (not output_dir.is_dir() or any(output_dir.iterdir())):
        raise UsageError(f"output directory {output_dir} is in use", "choose another --output-dir")
    else:
        folder = output_dir
    head, full, images = folder / "head", folder / "full", folder / "images"
    begun = time.perf_counter()
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
        app(command, standalone_mode=False)
    sys.stdout.flush()
    console.note(f"\nall of it took {time.perf_counter() - begun:.0f} s; the pictures and files are in {folder}")
