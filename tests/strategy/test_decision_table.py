"""The decision table: every case has a rule, every rule is reachable, and its recipe can be built."""

from __future__ import annotations

from dataclasses import replace
from itertools import product
from typing import Any

import pytest

from zoo.recipe import build, load_values
from zoo.strategy.decision_table import Decision, Measurements, decide, load_table
from zoo.strategy.scores import DataSize, FlipInvariance, Interval, NormShift, Similarity

SIZES = {"few-shot": (60, 6.0), "small": (600, 30.0), "medium": (50_000, 500.0), "large": (900_000, 900.0)}
SIMILARITIES = {"similar": 0.8, "medium": 0.4, "dissimilar": 0.1}
SHIFTS = {"none": 0.01, "mild": 0.4, "strong": 5.0}


def evidence(size: str, similar: str, shift: str | None, architecture: str, **changes: Any) -> Measurements:
    images, images_per_class = SIZES[size]
    value = changes.get("value", SIMILARITIES[similar])
    return Measurements(
        size=DataSize(
            size, changes.get("images", images), changes.get("images_per_class", images_per_class), "counted"
        ),  # type: ignore[arg-type]
        similarity=Similarity(value, Interval(value, value), similar, 0.9, 0.5, "random", False),  # type: ignore[arg-type]
        shift=None if shift is None else NormShift(SHIFTS[shift], (SHIFTS[shift],), None, shift),  # type: ignore[arg-type]
        architecture=architecture,  # type: ignore[arg-type]
        parameters=changes.get("parameters", 1_000_000),
    )


CASES = [
    evidence(size, similar, shift, architecture)
    for size, similar, shift, architecture in product(SIZES, SIMILARITIES, (*SHIFTS, None), ("cnn", "transformer"))
] + [
    evidence("small", "similar", "none", "cnn", images_per_class=80.0),
    *(evidence("small", "medium", "none", "cnn", parameters=5_000_000, images=n) for n in (600, 6000)),
]


def test_every_case_has_a_rule_and_every_rule_a_case() -> None:
    used = {decide(case).rule for case in CASES}
    assert used == {rule["name"] for rule in load_table()["rules"]}


@pytest.mark.parametrize("decision", {decide(c).rule: decide(c) for c in CASES}.values(), ids=lambda d: d.rule)
def test_a_decision_is_a_recipe_that_can_be_built(decision: Decision) -> None:
    recipe = build(load_values(decision.recipe), decision.changes)
    assert recipe.train.epochs >= 1
    assert decision.advice
    assert decision.advice[0].islower()


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


def test_shifted_input_gives_all_layers_the_same_learning_rate() -> None:
    shifted, usual = (decide(evidence("small", "medium", shift, "cnn")) for shift in ("strong", "mild"))
    recipes = [build(load_values(d.recipe), d.changes) for d in (shifted, usual)]
    assert recipes[0].freeze == "none"
    assert recipes[0].optimizer.layer_decay is None
    assert recipes[0].optimizer.lr > recipes[1].optimizer.lr


def test_less_similar_data_get_a_higher_learning_rate_with_batch_norm() -> None:
    def learning_rate(similar: str, shift: str | None) -> float:
        decision = decide(evidence("small", similar, shift, "cnn", images_per_class=100.0))
        return build(load_values(decision.recipe), decision.changes).optimizer.lr

    assert learning_rate("similar", "mild") < learning_rate("medium", "mild") < learning_rate("dissimilar", "mild")
    assert learning_rate("medium", None) < learning_rate("medium", "mild")


def test_similar_images_train_only_the_head_below_fifty_per_class() -> None:
    case = evidence("small", "similar", "none", "cnn", images_per_class=49.0)
    assert load_values(decide(case).recipe)["freeze"] == "backbone"
    case = evidence("small", "similar", "none", "cnn", images_per_class=50.0)
    assert load_values(decide(case).recipe)["freeze"] == "none"


@pytest.mark.parametrize(("images", "epochs"), [(60, 60), (300, 54), (1000, 16), (15_000, 10)])
def test_epochs_follow_from_the_steps_of_the_rule(images: int, epochs: int) -> None:
    case = evidence("small", "dissimilar", "none", "cnn", images=images)
    assert decide(case).changes["train.epochs"] == epochs


def test_mixup_is_used_from_twenty_thousand_images() -> None:
    assert decide(evidence("medium", "similar", "none", "cnn", images=20_000)).changes["augment.mixup"] == 0.1
    assert "augment.mixup" not in decide(evidence("medium", "similar", "none", "cnn", images=19_999)).changes


@pytest.mark.parametrize("similar", SIMILARITIES)
def test_networks_of_usual_size_are_fine_tuned_only_from_a_thousand_images(similar: str) -> None:
    for images, rule in ((60, "few images"), (999, "few images"), (1000, "some thousand images")):
        size = "few-shot" if images == 60 else "small"
        assert decide(evidence(size, similar, "none", "cnn", parameters=2_000_000, images=images)).rule == rule
    assert decide(evidence("small", similar, "none", "cnn", parameters=1_999_999)).rule != "few images"
    assert decide(evidence("small", similar, None, "transformer", parameters=5_000_000)).rule.endswith(
        "transformer"
    ) or (similar == "similar")


def test_the_better_head_is_used_and_few_images_prefer_the_probe() -> None:
    case = evidence("small", "similar", "none", "cnn")
    assert "model.head" not in decide(case).changes
    assert decide(replace(case, head="multi-depth")).changes["model.head"] == "multi-depth"
    for size, expected in (("few-shot", "auto"), ("small", "auto"), ("medium", None), ("large", None)):
        changes = decide(evidence(size, "medium", "none", "cnn")).changes
        assert (changes.get("train.refit"), changes.get("transfer.compare_probe")) == (expected, expected)


def test_images_are_squashed_if_that_is_better() -> None:
    case = evidence("small", "medium", "none", "cnn")
    assert "data.fit" not in decide(case).changes
    assert decide(replace(case, fit="squash")).changes["data.fit"] == "squash"


def test_flips_are_off_if_the_accuracy_drops_on_flipped_images() -> None:
    case = evidence("small", "similar", "none", "cnn")
    harmful = FlipInvariance(0.9, 0.5, Interval(0.3, 0.5))
    assert "augment.flips" not in decide(case).changes
    assert (
        "augment.flips"
        not in decide(replace(case, flip_invariance=FlipInvariance(0.9, 0.85, Interval(-0.1, 0.2)))).changes
    )
    decision = decide(replace(case, flip_invariance=harmful))
    assert decision.recipe == decide(case).recipe
    assert build(load_values(decision.recipe), decision.changes).augment.flips == "off"


@pytest.mark.parametrize(
    ("case", "rule", "condition"),
    [
        (evidence("small", "similar", "none", "cnn", value=0.62), "small and related", "similarity is medium"),
        (evidence("small", "medium", "none", "cnn", value=0.27), "small and different", "similarity is dissimilar"),
        (evidence("small", "similar", "none", "cnn", value=0.95, images=19_000), "large and similar", "size is medium"),
    ],
)
def test_the_runner_up_is_the_rule_on_the_other_side_of_the_nearest_threshold(
    case: Measurements, rule: str, condition: str
) -> None:
    assert decide(case).runner_up == (rule, condition)
