"""The decision table: every case has a rule, every rule is reached, and what it names exists."""

from __future__ import annotations

from dataclasses import replace
from itertools import product
from typing import Any

import pytest

from zoo.recipe import build, load_values
from zoo.strategy.decision_table import Decision, Measurements, decide, load_table
from zoo.strategy.scores import DataSize, FlipInvariance, Interval, NormShift, Similarity

SIZES = {"few": (60, 6.0), "small": (600, 30.0), "medium": (50_000, 500.0), "large": (900_000, 900.0)}
SIMILARITIES = {"similar": 0.8, "between": 0.4, "dissimilar": 0.1}
SHIFTS = {"none": 0.01, "mild": 0.4, "strong": 5.0}


def evidence(size: str, similar: str, shift: str | None, kind: str, **changes: Any) -> Measurements:
    images, images_per_class = SIZES[size]
    value = changes.get("value", SIMILARITIES[similar])
    return Measurements(
        size=DataSize(
            size, changes.get("images", images), changes.get("images_per_class", images_per_class), "counted"
        ),  # type: ignore[arg-type]
        similarity=Similarity(value, Interval(value, value), similar, 0.9, 0.5, "random", False),  # type: ignore[arg-type]
        shift=None if shift is None else NormShift(SHIFTS[shift], (SHIFTS[shift],), None, shift),  # type: ignore[arg-type]
        kind=kind,  # type: ignore[arg-type]
    )


CASES = [
    evidence(size, similar, shift, kind)
    for size, similar, shift, kind in product(SIZES, SIMILARITIES, (*SHIFTS, None), ("cnn", "transformer"))
] + [evidence("small", "similar", "none", "cnn", images_per_class=80.0)]


def test_every_case_has_a_rule_and_every_rule_a_case() -> None:
    fired = {decide(case).rule for case in CASES}
    assert fired == {rule["name"] for rule in load_table()["rules"]}


@pytest.mark.parametrize("decision", {decide(c).rule: decide(c) for c in CASES}.values(), ids=lambda d: d.rule)
def test_a_decision_is_a_recipe_that_can_be_built(decision: Decision) -> None:
    recipe = build(load_values(decision.recipe), decision.changes)
    assert recipe.train.epochs >= 1
    assert decision.so
    assert decision.so[0].islower()


@pytest.mark.parametrize(
    ("size", "similar", "recipe"),
    [
        ("small", "similar", "small-similar"),
        ("small", "dissimilar", "small-different"),
        ("large", "similar", "large-similar"),
        ("large", "dissimilar", "large-different"),
    ],
)
def test_the_quadrants_are_the_corners(size: str, similar: str, recipe: str) -> None:
    assert decide(evidence(size, similar, None, "cnn")).recipe == recipe


def test_large_and_different_starts_from_pretrained_weights() -> None:
    decision = decide(evidence("large", "dissimilar", "strong", "cnn"))
    assert load_values(decision.recipe).get("model", {}).get("weights", "default") == "default"
    assert "model.weights" not in decision.changes


def test_a_shift_of_the_input_lets_the_first_layers_learn_as_fast_as_the_rest() -> None:
    shifted, usual = (decide(evidence("small", "between", shift, "cnn")) for shift in ("strong", "mild"))
    recipes = [build(load_values(d.recipe), d.changes) for d in (shifted, usual)]
    assert recipes[0].freeze == "none"
    assert recipes[0].optimizer.layer_decay is None
    assert recipes[0].optimizer.lr > recipes[1].optimizer.lr


def test_the_less_alike_the_faster_where_batch_norm_bears_it() -> None:
    def rate(similar: str, shift: str | None) -> float:
        decision = decide(evidence("small", similar, shift, "cnn", images_per_class=100.0))
        return build(load_values(decision.recipe), decision.changes).optimizer.lr

    assert rate("similar", "mild") < rate("between", "mild") < rate("dissimilar", "mild")
    assert rate("between", None) < rate("between", "mild")


def test_similar_images_train_the_head_until_there_are_many_of_each_class() -> None:
    case = evidence("small", "similar", "none", "cnn", images_per_class=49.0)
    assert load_values(decide(case).recipe)["freeze"] == "backbone"
    case = evidence("small", "similar", "none", "cnn", images_per_class=50.0)
    assert load_values(decide(case).recipe)["freeze"] == "none"


@pytest.mark.parametrize(("images", "epochs"), [(60, 60), (300, 54), (1000, 16), (15_000, 10)])
def test_epochs_follow_from_the_updates_that_a_rule_names(images: int, epochs: int) -> None:
    case = evidence("small", "dissimilar", "none", "cnn", images=images)
    assert decide(case).changes["train.epochs"] == epochs


def test_mixup_begins_at_twenty_thousand_images() -> None:
    assert decide(evidence("medium", "similar", "none", "cnn", images=20_000)).changes["augment.mixup"] == 0.1
    assert "augment.mixup" not in decide(evidence("medium", "similar", "none", "cnn", images=19_999)).changes


def test_flips_are_left_out_where_mirrored_images_are_mistaken() -> None:
    case = evidence("small", "similar", "none", "cnn")
    broken = FlipInvariance(0.9, 0.5, Interval(0.3, 0.5))
    assert "augment.flips" not in decide(case).changes
    assert (
        "augment.flips"
        not in decide(replace(case, flip_invariance=FlipInvariance(0.9, 0.85, Interval(-0.1, 0.2)))).changes
    )
    decision = decide(replace(case, flip_invariance=broken))
    assert decision.recipe == decide(case).recipe
    assert build(load_values(decision.recipe), decision.changes).augment.flips == "off"


@pytest.mark.parametrize(
    ("case", "rule", "because"),
    [
        (evidence("small", "similar", "none", "cnn", value=0.62), "small, related", "similarity between"),
        (evidence("small", "between", "none", "cnn", value=0.27), "small and different", "similarity dissimilar"),
        (evidence("small", "similar", "none", "cnn", value=0.95, images=19_000), "large and similar", "size medium"),
    ],
)
def test_the_runner_up_is_what_the_least_certain_measurement_would_have_made_it(
    case: Measurements, rule: str, because: str
) -> None:
    assert decide(case).runner_up == (rule, because)
