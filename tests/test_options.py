"""The one declaration of each option, and what comes from it."""

from __future__ import annotations

import re
import runpy
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args, get_origin

import pytest
from pydantic import BaseModel
from pydantic.fields import FieldInfo

import zoo as api
from zoo.options import OPTIONS, RECIPE_KEYS, flag, to_flags
from zoo.recipe import Recipe

ROOT = Path(__file__).parents[1]
REFERENCE = ROOT / "docs" / "reference"
generate = runpy.run_path(str(REFERENCE / "generate.py"))


def recipe_fields(section: type[BaseModel] = Recipe, before: str = "") -> Iterator[tuple[str, FieldInfo]]:
    for name, field in section.model_fields.items():
        types = [
            t for t in (field.annotation, *get_args(field.annotation)) if isinstance(t, type) and not get_origin(t)
        ]
        sections = [t for t in types if issubclass(t, BaseModel)]
        if field.description or not sections:
            yield before + name, field
        for one in sections:
            yield from recipe_fields(one, f"{before}{name}.")


def test_every_key_of_an_option_is_a_recipe_field() -> None:
    assert set(RECIPE_KEYS.values()) <= {key for key, _ in recipe_fields()}
    assert len(set(RECIPE_KEYS.values())) == len(RECIPE_KEYS)


@pytest.mark.parametrize(("key", "field"), [pytest.param(k, f, id=k) for k, f in recipe_fields()])
def test_every_recipe_field_is_described_exactly_once(key: str, field: FieldInfo) -> None:
    by_option = [OPTIONS[name].help for name, known in RECIPE_KEYS.items() if known == key]
    assert len([*by_option, *([field.description] if field.description else [])]) == 1


def test_the_default_that_help_shows_is_the_recipe_s() -> None:
    fields = dict(recipe_fields())
    for name, key in RECIPE_KEYS.items():
        shown, value = OPTIONS[name].default, fields[key].default
        if shown is not None and value not in (None, (), "auto"):
            assert shown == str(value), name


@pytest.mark.parametrize("page", ["cli.md", "recipe.md"])
def test_the_reference_pages_are_those_of_the_code(page: str) -> None:
    written = (REFERENCE / page).read_text(encoding="utf-8")
    assert written == generate["PAGES"][page](), "run `make reference`"


def test_every_option_is_documented() -> None:
    page = (REFERENCE / "cli.md").read_text(encoding="utf-8")
    for name in OPTIONS:
        assert f"`{flag(name)}" in page


def test_every_public_name_is_documented() -> None:
    page = (ROOT / "docs" / "api.md").read_text(encoding="utf-8")
    code = " ".join(re.findall(r"```.*?```|`[^`]+`", page, flags=re.DOTALL))
    missing = [name for name in api.__all__ if not re.search(rf"(?<!\w){name}(?!\w)", code)]
    assert missing == []


def test_public_names_are_those_of_the_table_of_imports() -> None:
    assert sorted(api.__all__) == sorted(["__version__", *(name for names in api._EXPORTS.values() for name in names)])


def test_an_option_is_the_same_as_a_keyword_as_a_flag_and_as_a_setting(zoo: Any) -> None:
    """One option of each type: text, a number, a number or auto, a switch, several values."""
    options = {
        "data": "digits", "lr": 0.01, "epochs": 3, "workers": 0, "model_ema": True, "amp": False,
        "label_column": ["a", "b"], "threads": "auto", "channels_last": False,
    }  # fmt: skip
    recipe = api.make_recipe("zoo_tiny", **options)  # type: ignore[arg-type]
    words = to_flags(options)  # type: ignore[arg-type]
    assert words[:2] == ["--data", "digits"]
    assert [w for w in words if w.startswith("--no")] == ["--no-amp", "--no-channels-last"]
    assert (recipe.optimizer.lr, recipe.train.epochs, recipe.data.workers) == (0.01, 3, 0)
    assert (recipe.train.model_ema, recipe.train.amp, recipe.data.label_column) == (True, False, ("a", "b"))
    assert (recipe.execution.threads, recipe.execution.memory_format) == ("auto", "contiguous")
    settings = {RECIPE_KEYS[name]: value for name, value in options.items()}
    settings["execution.memory_format"] = "contiguous"
    assert api.make_recipe("zoo_tiny", settings=settings) == recipe


def test_flags_reach_the_api_as_keywords(zoo: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    from zoo.workflows.finetune import run

    seen: dict[str, Any] = {}

    def resolve(model: str | None, **options: Any) -> None:
        seen.update(options, model=model)
        raise api.UsageError("seen")

    monkeypatch.setattr(run, "resolve_options", resolve)
    words = ["--lr", "0.01", "-b", "auto", "-j", "2", "--no-amp", "--label-column", "a", "--label-column", "b"]
    zoo("finetune", "zoo_tiny", *words, "--set", "train.epochs=3", "--num-classes", "4")
    del seen["output_dir"], seen["progress"]
    assert seen == {
        "model": "zoo_tiny", "lr": 0.01, "batch_size": "auto", "workers": 2, "amp": False, "label_column": ["a", "b"],
        "settings": {"train.epochs": 3}, "classes": 4,
    }  # fmt: skip


@pytest.mark.parametrize("width", [80, 120])
def test_help_is_not_truncated(zoo: Any, monkeypatch: pytest.MonkeyPatch, width: int) -> None:
    import typer

    from zoo.cli import app

    monkeypatch.setattr("typer.rich_utils.MAX_WIDTH", width)
    group: Any = typer.main.get_command(app)
    for name in group.commands:
        text = zoo(name, "--help").out
        assert max(map(len, text.splitlines())) <= width, name
        assert "…" not in text.replace("digits …", ""), name
