from __future__ import annotations

from pathlib import Path

import pytest

from zoo.errors import RecipeError, UsageError
from zoo.recipe import Recipe, build, copy_recipe, describe, dump, load_values, parse_assignments, shipped
from zoo.workflows.finetune.options import make_recipe


def test_dump_and_load_give_an_equal_recipe(tmp_path: Path) -> None:
    recipe = make_recipe("resnet18", epochs=3, freeze=2, settings={"loss.params.label_smoothing": 0.1})
    file = tmp_path / "r.yaml"
    file.write_text(dump(recipe))
    assert build(load_values(str(file))) == recipe


def test_numbers_without_a_point_are_numbers() -> None:
    values = parse_assignments(["optimizer.lr=3e-4", "freeze=no", "data.workers=auto", "loss.params.weight=[1, 2e0]"])
    assert values == {"optimizer.lr": 3e-4, "freeze": "no", "data.workers": "auto", "loss.params.weight": [1, 2.0]}


def test_every_problem_at_once_with_the_nearest_key() -> None:
    wrong = {
        "modle": {"name": "x"},
        "train": {"epoch": 3, "lr": 0.1, "epochs": "many", "seed": -1},
        "optimizer": {"lr": -1, "wieght_decay": 0},
        "data": {"workers": -1, "unreadable": "ignore", "batch_size": 0},
    }
    with pytest.raises(RecipeError) as e:
        build(wrong, parse_assignments(["freeze.deep=1", "model.classes=0"]))
    text = e.value.message
    for part in (
        "unknown key modle; did you mean model?",
        "unknown key train.epoch; did you mean train.epochs?",
        "unknown key train.lr; did you mean optimizer.lr?",
        "train.epochs: should be a valid integer",
        "train.seed: should be greater than or equal to 0",
        "optimizer.lr: should be greater than 0",
        "unknown key optimizer.wieght_decay; did you mean optimizer.weight_decay?",
        "data.workers: should be 0 or more, or auto",
        "data.unreadable: should be 'error' or 'skip'",
        "data.batch_size: should be 1 or more, or auto",
        "model.classes: should be greater than or equal to 1",
    ):
        assert part in text
    assert e.value.exit_code == 2


@pytest.mark.parametrize(
    ("key", "value", "suggestion"),
    [
        ("data.levels", "4095", "unknown key data.levels; did you mean data.intensity_range?"),
        ("optimizer.lr_batch", "64", "unknown key optimizer.lr_batch; did you mean optimizer.lr_base_size?"),
        ("train.features", "keep", "unknown key train.features; did you mean train.feature_cache?"),
        ("train.solver", "direct", "unknown key train.solver; did you mean train.linear_probe?"),
        ("transfer.head_epochs", "5", "unknown key transfer.head_epochs; did you mean transfer.probe_epochs?"),
        ("transfer.head_lr", "0.1", "unknown key transfer.head_lr; did you mean transfer.probe_lr?"),
        ("train.feature_cache", "keep", "not 'keep'; did you mean on?"),
        ("train.feature_cache", "recompute", "not 'recompute'; did you mean off?"),
        ("train.linear_probe", "direct", "not 'direct'; did you mean on?"),
        ("train.linear_probe", "steps", "not 'steps'; did you mean off?"),
        ("data.image_cache", "keep", "not 'keep'; did you mean on?"),
    ],
)
def test_renamed_keys_and_values_are_errors_that_name_the_new_one(key: str, value: str, suggestion: str) -> None:
    with pytest.raises(RecipeError) as e:
        build({}, parse_assignments([f"{key}={value}"]))
    (problem,) = e.value.problems
    assert problem.endswith(suggestion)


def test_flags_override_set_and_set_overrides_the_recipe() -> None:
    recipe = make_recipe(
        "resnet18", recipe="small-different", lr=0.5, settings={"optimizer.lr": 0.1, "train.epochs": 2}
    )
    assert (recipe.optimizer.lr, recipe.train.epochs, recipe.freeze) == (0.5, 2, "2")


def test_the_default_recipe_follows_the_plan() -> None:
    assert make_recipe("resnet18", freeze="backbone").optimizer.lr == build(load_values("head-only")).optimizer.lr
    assert make_recipe("resnet18", settings={"freeze": "backbone"}).augment.name == "none"
    assert make_recipe("resnet18").optimizer == build(load_values("full")).optimizer


def test_another_loss_does_not_inherit_the_recipe_s_parameters() -> None:
    recipe = make_recipe("resnet18", recipe="large-different", loss="multi_margin")
    assert recipe.loss.params == {}
    same = make_recipe("resnet18", recipe="large-different", loss="auto")
    assert same.loss.params == {"label_smoothing": 0.1}


def test_every_duplicate_key_is_reported(tmp_path: Path) -> None:
    (tmp_path / "r.yaml").write_text("seed: 1\nloss: {name: focal, name: auto}\nseed: 2\n")
    with pytest.raises(RecipeError) as e:
        load_values(tmp_path / "r.yaml")
    assert e.value.problems == ("line 2: duplicate key name", "line 3: duplicate key seed")


def test_a_missing_model_is_an_error() -> None:
    with pytest.raises(UsageError, match="no model named"):
        make_recipe(None)


def test_unknown_option_of_the_api() -> None:
    with pytest.raises(UsageError) as e:
        make_recipe("resnet18", batchsize=3)  # type: ignore[call-arg]
    assert "batch_size" in e.value.hint


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a: [1", "not YAML|expected"),
        ("- 1\n- 2\n", "mapping of sections"),
        ("train: 3\n", "train: should be a valid dictionary"),
    ],
)
def test_files_that_are_not_recipes(tmp_path: Path, text: str, message: str) -> None:
    file = tmp_path / "bad.yaml"
    file.write_text(text)
    with pytest.raises(RecipeError, match=message):
        build(load_values(str(file)))


def test_unknown_recipe_offers_the_nearest() -> None:
    with pytest.raises(UsageError) as e:
        load_values("head_only")
    assert "head-only" in e.value.hint


def test_shipped_recipes_are_described_and_complete() -> None:
    assert set(shipped()) >= {
        "head-only",
        "full",
        "small-similar",
        "small-different",
        "large-different",
        "large-similar",
    }
    for name, path in shipped().items():
        assert isinstance(build(load_values(name)), Recipe)
        assert len(describe(path)) > 20


def test_copy_does_not_overwrite(tmp_path: Path) -> None:
    copy_recipe("full", tmp_path / "mine.yaml")
    assert build(load_values(str(tmp_path / "mine.yaml"))) == build(load_values("full"))
    with pytest.raises(UsageError, match="exists already"):
        copy_recipe("full", tmp_path / "mine.yaml")
