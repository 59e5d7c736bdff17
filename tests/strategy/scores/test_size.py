from __future__ import annotations

import numpy as np
import pytest

from zoo.strategy.scores import Interval, LearningCurve, Targets, decompose, learning_curve, ridge_loo, size_class


def curve(shape: str) -> LearningCurve:
    return LearningCurve((10, 20, 40), (0.4, 0.3, 0.2), 0.5, Interval(0.4, 0.6), 0.06, shape)


@pytest.mark.parametrize(
    ("images", "images_per_class", "shape", "name"),
    [
        (100, 4, None, "few-shot"),
        (100, 10, None, "small"),
        (19_999, 500, None, "small"),
        (20_000, 500, None, "medium"),
        (500_000, 500, None, "large"),
        (100, 9, "flat", "small"),
        (100, 4, "flat", "few-shot"),  # too far from the threshold
        (100, 12, "steep", "few-shot"),
        (100, 12, "unclear", "small"),
        (15_000, 500, "flat", "medium"),
        (30_000, 500, "steep", "small"),
        (60_000, 500, "steep", "medium"),
        (300_000, 500, "flat", "large"),
        (900_000, 500, "steep", "medium"),
    ],
)
def test_size_classes_by_thresholds_and_learning_curve(images, images_per_class, shape, name):
    found = size_class(
        images,
        np.array([images_per_class, images_per_class, images_per_class, 0]),
        None if shape is None else curve(shape),
    )
    assert found.name == name
    assert found.images_per_class == images_per_class


def test_the_reason_names_the_threshold():
    assert size_class(300, np.full(6, 50)).reason == "300 images, fewer than 20,000"
    assert size_class(12, np.full(6, 2)).reason == "2 images per class, fewer than 10"
    assert "near 10" in size_class(70, np.full(6, 12), curve("steep")).reason
    assert size_class(900_000, np.full(6, 1e5)).reason == "900,000 images, 500,000 or more"


def measured(features: np.ndarray, labels: np.ndarray) -> LearningCurve | None:
    targets = Targets.of(labels, "single-label")
    return learning_curve(features, targets, ridge_loo(decompose(features), targets).outcome)


def test_a_hard_task_is_steep_and_an_impossible_one_flat(clusters):
    features, labels = clusters(600, 512, classes=6, apart=0.15)
    steep = measured(features, labels)
    assert steep.images == (150, 300, 600)
    assert steep.errors[0] > steep.errors[1] > steep.errors[2]
    assert steep.shape == "steep"
    rng = np.random.default_rng(0)
    flat = measured(features, rng.permutation(labels))
    assert flat.shape == "flat"
    assert flat.slope == pytest.approx(0, abs=0.05)


def test_a_solved_task_is_flat(clusters):
    solved = measured(*clusters(1200, 100, classes=8, apart=0.8))
    assert solved.errors[2] == 1 / 2400  # no error counts as half an image
    assert solved.shape == "flat"
    assert 0 <= solved.gain < 0.01


def test_the_slope_is_fitted_to_the_logarithms(clusters):
    found = measured(*clusters(400, 30, classes=4, apart=0.3))
    expected = -np.polyfit(np.log(found.images), np.log(found.errors), 1)[0]
    assert found.slope == pytest.approx(expected)
    assert found.interval.low < found.slope < found.interval.high


def test_one_part_of_each_size_above_two_thousand_images(clusters):
    found = measured(*clusters(2400, 5, classes=2, apart=1))
    assert found.images == (600, 1200, 2400)


def test_too_few_images_for_a_curve(clusters):
    assert measured(*clusters(12, 5, classes=2)) is None
    assert measured(*clusters(32, 5, classes=16)) is None
