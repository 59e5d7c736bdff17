"""The typed recipe: all settings of a run, read from YAML, changed by `--set` and flags, saved with the run.

    recipe = build(load_values("head-only"), {"model.name": "resnet34", "train.epochs": 5})
    text = dump(recipe)                                # fully resolved; loading it again gives an equal recipe

A section is declared in the package that it configures (`zoo/optim/config.py`); only `zoo.workflows` reads the whole.
"""

from zoo.recipe.files import copy_recipe, data_source, describe, dump, load_values, recipe_path, shipped
from zoo.recipe.overrides import build, parse_assignments
from zoo.recipe.recipe import Recipe

__all__ = [
    "Recipe",
    "build",
    "copy_recipe",
    "data_source",
    "describe",
    "dump",
    "load_values",
    "parse_assignments",
    "recipe_path",
    "shipped",
]
