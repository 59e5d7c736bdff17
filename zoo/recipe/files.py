"""Recipes as YAML files: the shipped ones, the user's, and those in run directories."""

from __future__ import annotations

import io
import os
from pathlib import Path
from typing import Any

from zoo.errors import RecipeError, UsageError, did_you_mean, nearest
from zoo.recipe.recipe import Recipe


def recipes_folder() -> Path:
    """The folder of the shipped recipes: inside the installed package, or next to it in a checkout."""
    packaged = Path(__file__).parents[1] / "_recipes"
    return packaged if packaged.is_dir() else Path(__file__).parents[2] / "recipes"


def shipped() -> dict[str, Path]:
    """Name → file of every recipe that comes with zoo, sorted by name."""
    return {p.stem: p for p in sorted(recipes_folder().glob("*.yaml"))}


def describe(path: Path) -> str:
    """The one-line description of the recipe at `path`."""
    return str(load_values(path).get("description", ""))


def load_values(name: str | os.PathLike[str]) -> dict[str, Any]:
    """The plain values of a recipe: a shipped name, a YAML file, or a run directory (its recipe.yaml).

    Raises UsageError if there is no such recipe, RecipeError if it is not YAML with a mapping at the top.
    """
    path = recipe_path(name)
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as e:
        raise RecipeError([f"cannot be read: {e}"], "give a YAML text file", where=str(path)) from e
    values = parse_yaml(text, str(path))
    if values is None:
        return {}
    if not isinstance(values, dict):
        raise RecipeError(["the top level must be a mapping of sections"], "see `zoo recipes full`", where=str(path))
    return values


def data_source(run: Path) -> str | None:
    """`data.source` in the recipe of a run, also of an older version; None if the run has no recipe."""
    data = load_values(run).get("data") if (run / "recipe.yaml").is_file() else None
    source = data.get("source") if isinstance(data, dict) else None
    return None if source is None else str(source)


def copy_recipe(name: str | os.PathLike[str], target: Path) -> None:
    """Copy a recipe with its comments. Raises UsageError if `target` exists or cannot be written."""
    text = recipe_path(name).read_text(encoding="utf-8")
    try:
        with target.open("x", encoding="utf-8") as f:
            f.write(text)
    except FileExistsError:
        raise UsageError(f"{target} exists already", "choose another name") from None
    except OSError as e:
        raise UsageError(f"cannot write {target}: {e.strerror}", "choose another folder") from e


def recipe_path(name: str | os.PathLike[str]) -> Path:
    """The file that `name` means: a string is first a shipped recipe's name, a path-like object always a path."""
    known = shipped()
    path = Path(name)
    if isinstance(name, str) and name in known:
        return known[name]
    if path.is_dir() and (path / "recipe.yaml").is_file():
        return path / "recipe.yaml"
    if path.is_file():
        return path
    raise UsageError(
        f"no recipe {str(name)!r}: it is neither a shipped recipe nor a file",
        did_you_mean(nearest(str(name), known), more=f"shipped: {', '.join(known)}"),
    )


def parse_yaml(text: str, where: str) -> Any:
    """The value of a YAML text.

    Raises RecipeError if it is not YAML, or if a mapping has duplicate keys; the error's `valid_part` then has the
    first value of each.
    """
    # YAML 1.2, where 3e-4 is a number and `no` is a string. PyYAML reads YAML 1.1, where it is the other way round.
    from ruamel.yaml import YAML
    from ruamel.yaml.constructor import SafeConstructor
    from ruamel.yaml.error import YAMLError

    duplicates: list[tuple[int, str]] = []

    class Constructor(SafeConstructor):
        """Continues after a duplicate key, to find them all."""

        def check_mapping_key(self, node: Any, key_node: Any, mapping: Any, key: Any, value: Any) -> bool:
            if key in mapping:
                duplicates.append((key_node.start_mark.line + 1, str(key)))
            return key not in mapping

    yaml = YAML(typ="safe", pure=True)
    yaml.Constructor = Constructor
    try:
        value = yaml.load(text)
        if duplicates:
            problems = [f"line {line}: duplicate key {key}" for line, key in sorted(duplicates)]
            raise RecipeError(problems, "remove one of them", where=where, valid_part=value)
        return value
    except YAMLError as e:
        mark = getattr(e, "problem_mark", None)
        line = f"line {mark.line + 1}: " if mark is not None else ""
        raise RecipeError([f"{line}{getattr(e, 'problem', None) or 'not YAML'}"], "fix the YAML", where=where) from e


def dump(recipe: Recipe) -> str:
    """The recipe as YAML with every field, in the order of `Recipe`."""
    from ruamel.yaml import YAML

    yaml = YAML()
    yaml.default_flow_style = False
    yaml.width = 10_000
    stream = io.StringIO()
    yaml.dump(recipe.model_dump(), stream)
    return stream.getvalue()
