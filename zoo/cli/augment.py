"""`zoo augment`: draw augmented training images."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from zoo import console
from zoo.cli.completion import complete_model
from zoo.cli.options import DataArgument, Json, takes


@takes("recipe", "settings", "seed")
def augment(
    data: DataArgument,
    model: Annotated[
        str | None,
        typer.Argument(
            metavar="MODEL",
            help="model name, for the input size (default: the recipe's, else 224 pixels)",
            autocompletion=complete_model,
        ),
    ] = None,
    *,
    out: Annotated[Path, typer.Option("--out", "-o", metavar="FILE", help="PNG file to write")] = Path("augment.png"),
    classes_shown: Annotated[int, typer.Option("--classes-shown", metavar="N", help="number of classes (rows)")] = 10,
    per_class: Annotated[
        int, typer.Option("--per-class", metavar="N", help="number of augmented images per class (columns)")
    ] = 6,
    as_json: Json = False,
    **options: Any,
) -> None:
    """Draw a grid of training images, before and after augmentation.

    Each row shows one image per class: first as it is evaluated, then as several epochs of training see it. Prints the
    path of the picture.
    """
    from zoo.workflows.augment import augment_grid

    result = augment_grid(data, model=model, out=out, classes_shown=classes_shown, per_class=per_class, **options)
    for text in result.notes:
        console.note(text)
    if as_json:
        console.print_json(result.to_dict())
    else:
        console.print_lines([str(result.path)])
