"""Search files: what they may hold, and every mistake found before the first trial."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from zoo.errors import RecipeError, UsageError
from zoo.recipe import Recipe
from zoo.workflows.finetune.options import make_recipe
from zoo.workflows.tune.search_space import Choices, Range, check_space, combinations, read_space, size


def make(values: dict[str, Any]) -> Recipe:
    return make_recipe("zoo_tiny", recipe="full", settings=values)


def test_every_form_of_an_entry(tmp_path: Path) -> None:
    (tmp_path / "search.yaml").write_text(
        "optimizer.lr: {low: 1e-5, high: 1e-2, log: true}\n"
        "train.epochs: {low: 5, high: 21, step: 5, int: true}\n"
        "model.drop: {low: 0, high: 0.5, step: 0.1}\n"
        "augment.name: [none, light]\n"
        "loss: {choices: [{name: focal, params: {gamma: 2}}, {name: cross_entropy}]}\n"
    )
    space, problems = read_space(tmp_path / "search.yaml")
    assert problems == []
    assert space == {
        "optimizer.lr": Range(1e-5, 1e-2, log=True),
        "train.epochs": Range(5, 20, 5, integer=True),
        "model.drop": Range(0.0, 0.5, 0.1),
        "augment.name": Choices(("none", "light")),
        "loss": Choices(({"name": "focal", "params": {"gamma": 2}}, {"name": "cross_entropy"})),
    }
    assert check_space(space, make) == []
    assert size(space) is None
    assert space["train.epochs"].values() == [5, 10, 15, 20]
    assert space["model.drop"].values() == pytest.approx([0, 0.1, 0.2, 0.3, 0.4, 0.5])


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        (3e-4, "is a single value"),
        ([], "list of values"),
        ([1, 2, True], "duplicate choice True"),
        ({"low": 1}, "high is missing"),
        ({"low": "a", "high": 1}, "low must be a number, not 'a'"),
        ({"low": 2, "high": 1}, "low 2 is not below high 1"),
        ({"low": 0, "high": 1, "log": True}, "needs a low above 0"),
        ({"low": 1, "high": 2, "log": True, "step": 1}, "log: true cannot have a step"),
        ({"low": 1, "high": 2, "step": 3}, "does not fit"),
        ({"low": 1.5, "high": 3, "int": True}, "must be an integer"),
        ({"low": 1, "high": 3, "int": 1}, "true or false"),
        ({"low": 1, "high": 3, "stp": 1}, "did you mean step"),
        ({"lr": [1, 2]}, "use dotted keys: optimizer.lr.lr"),
        ({"choices": [1], "low": 1}, "choices cannot be combined"),
    ],
)
def test_an_entry_with_an_error(entry: Any, message: str) -> None:
    space, problems = read_space({"optimizer.lr": entry})
    assert space == {}
    assert len(problems) == 1
    assert message in problems[0]
    assert problems[0].startswith("optimizer.lr: ")


def test_every_error_against_the_recipe_at_once() -> None:
    space, problems = read_space(
        {
            "optimizer.lrr": [1e-3, 1e-2],
            "optimizer.lr": {"low": -1, "high": 1},
            "train.epochs": {"low": 2, "high": 9},
            "optimizer.name": ["adamw", "sdg"],
            "augment.name": ["light", "lihgt", 7],
            "model.drop": {"low": 0.0, "high": 2.0},
            "train.monitor": ["top1", "loss"],
            "schedule.name": ["cosine", "step"],
            "loss": [{"name": "focal"}],
            "loss.name": ["focal"],
        }
    )
    found = problems + check_space(space, make)
    for text in (
        "train.monitor: cannot be searched",
        "loss.name is part of loss",
        "unknown key optimizer.lrr; did you mean optimizer.lr?",
        "optimizer.lr: should be greater than 0",
        "train.epochs: takes integers; add int: true",
        "sdg",
        "lihgt",
        "augment.name: should be a valid string, not 7",
        "model.drop: should be less than 1",
        "step_size",  # the schedule `step` needs it
    ):
        assert sum(text in line for line in found) == 1, (text, found)


def test_a_choice_that_contradicts_another_key() -> None:
    """A trial with cross entropy and gamma would fail: reported before the search starts."""
    space, _ = read_space({"loss.name": ["focal", "cross_entropy"], "loss.params.gamma": [1, 2]})
    (problem,) = check_space(space, make)
    assert "loss.params.gamma is unknown" in problem


def test_a_key_set_by_an_option_cannot_be_searched() -> None:
    space, _ = read_space({"optimizer.lr": [1e-4, 1e-3]})
    found = check_space(space, lambda values: make_recipe("zoo_tiny", lr=0.1, settings=values))
    assert found == ["optimizer.lr: it is also given by an option, which overrides it; leave one of them out"]


def test_combinations_of_a_countable_space() -> None:
    space, _ = read_space({"freeze": ["none", "backbone"], "train.epochs": {"low": 1, "high": 3, "int": True}})
    assert size(space) == 6
    assert len({tuple(c.values()) for c in combinations(space)}) == 6


def test_duplicate_keys_do_not_hide_other_errors(tmp_path: Path) -> None:
    path = tmp_path / "s.yaml"
    path.write_text("optimizer.lr: [1e-3]\ntrain.epochs: {low: 2, low: 3, high: 1}\noptimizer.lr: [1e-2]\nfreeze: 3\n")
    space, problems = read_space(path)
    assert space == {"optimizer.lr": Choices((1e-3,))}
    assert problems == [
        "line 2: duplicate key low",
        "line 3: duplicate key optimizer.lr",
        "train.epochs: low 2 is not below high 1",
        "freeze: 3 is a single value; give several as [a, b], or low and high",
    ]


def test_files_that_are_not_a_search_space(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="cannot be read"):
        read_space(tmp_path / "none.yaml")
    for text in ("- 1", "", "{"):
        (tmp_path / "s.yaml").write_text(text)
        with pytest.raises(RecipeError):
            read_space(tmp_path / "s.yaml")
