"""`zoo augment`: see what augmentation makes of the images."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from zoo import console
from zoo.cli.completion import complete_model, complete_recipe

__all__ = ["augment"]


def augment(
    data: Annotated[str, typer.Argument(metavar="PATH|NAME", help="what finetune's --data takes")],
    model: Annotated[
        str | None,
        typer.Argument(help="for its input size (default: the recipe's, else 224)", autocompletion=complete_model),
    ] = None,
    *,
    recipe: Annotated[
        str | None,
        typer.Option(
            "--recipe",
            "-r",
            help="a name from `zoo recipes`, a file or a run",
            metavar="NAME|FILE",
            autocompletion=complete_recipe,
        ),
    ] = None,
    assignments: Annotated[
        list[str] | None,
        typer.Option("--set", help="any recipe field: --set augment.name=strong", metavar="KEY=VALUE"),
    ] = None,
    out: Annotated[Path, typer.Option("--out", "-o", metavar="FILE", help="the picture")] = Path("augment.png"),
    classes_shown: Annotated[int, typer.Option("--classes-shown", metavar="N", help="rows")] = 10,
    per_class: Annotated[int, typer.Option("--per-class", metavar="N", help="augmented images in a row")] = 6,
    seed: Annotated[int | None, typer.Option(help="of the choice of images and the augmentation")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="which images are shown, as JSON on stdout")] = False,
) -> None:
    """Draw a grid: an image of each class as it is evaluated, and as several epochs of training will see it.

    Prints the picture's path.
    """
    from zoo.recipe import parse_assignments
    from zoo.workflows.augment import augment_grid

    result = augment_grid(
        data,
        model=model,
        recipe=recipe,
        settings=parse_assignments(assignments or []),
        out=out,
        classes_shown=classes_shown,
        per_class=per_class,
        seed=seed,
    )
    for text in result.notes:
        console.note(text)
    if as_json:
        console.print_json(result.to_dict())
    else:
        console.print_lines([str(result.path)])
