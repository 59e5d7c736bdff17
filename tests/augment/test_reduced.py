from __future__ import annotations

import numpy as np
import pytest

from zoo.augment import make_augment
from zoo.augment.fit import EvalView
from zoo.augment.reduced import RESIZE_MARGIN, CropRange, Reduced
from zoo.preprocess import IMAGENET_MEAN, IMAGENET_STD, Preprocess


@pytest.mark.parametrize("mode", ["center", "squash", "border"])
@pytest.mark.parametrize("size", [(1500, 2000), (900, 900), (3000, 400), (300, 9000)])
def test_no_crop_has_to_be_enlarged_and_some_nearly_are(mode: str, size: tuple[int, int]) -> None:
    preprocess = Preprocess((3, 64, 96), IMAGENET_MEAN, IMAGENET_STD, crop_mode=mode)
    light = make_augment("light", preprocess=preprocess, flips=True).pipeline
    assert light.crops == CropRange(0.5, (3 / 4, 4 / 3))
    rule = Reduced(preprocess, light.crops)
    reduced = rule.size(*size)
    assert reduced[0] < size[0]
    assert reduced[1] < size[1]
    needed = np.array([light.sample_view(*size, np.random.default_rng(i)).min_size(*size) for i in range(500)])
    assert (needed.max(0) <= np.array(reduced) + 1).all()
    if mode == "center":  # the closest: of one side at least
        assert (needed.max(0) * RESIZE_MARGIN > 0.9 * np.array(reduced)).any()
        assert reduced[0] / reduced[1] == pytest.approx(size[0] / size[1], rel=0.02)


def test_small_images_are_unchanged() -> None:
    preprocess = Preprocess((3, 64, 64), IMAGENET_MEAN, IMAGENET_STD)
    rule = Reduced(preprocess, CropRange(0.5, (3 / 4, 4 / 3)))
    image = np.random.default_rng(0).integers(0, 256, (50, 80, 3), dtype=np.uint8)
    assert rule.size(50, 80) == rule.min_size(50, 80) == (50, 80)
    assert np.array_equal(rule.apply(image), image)


def test_which_augmentations_draw_crops() -> None:
    preprocess = Preprocess((3, 32, 32), IMAGENET_MEAN, IMAGENET_STD)
    given = {"imgaug": {"pipeline": [{"Fliplr": 0.5}]}}
    for name in ("none", "affine", "imgaug", "medium", "strong", "trivialaugment"):
        pipeline = make_augment(name, preprocess=preprocess, flips=True, params=given.get(name)).pipeline
        drawn = pipeline.sample_view(100, 200, np.random.default_rng(0))
        assert (pipeline.crops is None) == (drawn == EvalView(preprocess)), name
