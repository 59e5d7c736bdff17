"""`zoo recipes`: list, print or copy the shipped recipes."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from zoo import console
from zoo.cli.options import Json
from zoo.errors import UsageError


def recipes(
    name: Annotated[str | None, typer.Argument(metavar="NAME", help="name of the recipe to print")] = None,
    copy: Annotated[
        Path | None, typer.Option(metavar="FILE", help="write the recipe to a file, to edit and use with --recipe")
    ] = None,
    as_json: Json = False,
) -> None:
    """List, print or copy the shipped recipes."""
    from zoo.recipe import copy_recipe, describe, load_values, recipe_path, shipped

    if name is None:
        if copy is not None:
            raise UsageError("--copy needs the name of a recipe", "for example `zoo recipes full --copy mine.yaml`")
        rows = [(known, describe(path)) for known, path in shipped().items()]
        if as_json:
            console.print_json([{"name": n, "description": d} for n, d in rows])
        elif console.is_terminal(sys.stdout):
            console.print_table(("recipe", "description"), rows)
        else:
            console.print_tsv(rows)
    elif copy is not None:
        copy_recipe(name, copy)
        console.note(f"wrote {copy}\nnext: zoo finetune MODEL --data FOLDER --recipe {copy}")
    elif as_json:
        console.print_json(load_values(name))
    else:
        sys.stdout.write(recipe_path(name).read_text(encoding="utf-8"))
