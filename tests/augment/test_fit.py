"""Evaluation pixels against timm's own transform."""

from __future__ import annotations

import numpy as np
import pytest
import timm.data
import torch
from PIL import Image

from zoo.augment.fit import fit
from zoo.errors import UsageError
from zoo.preprocess import IMAGENET_MEAN, IMAGENET_STD, Preprocess

SIZES = [(48, 64), (64, 48), (97, 131), (500, 375), (8, 8), (1, 1), (10, 160), (33, 32)]


@pytest.mark.parametrize("mode", ["center", "squash", "border"])
@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic", "nearest", "lanczos"])
@pytest.mark.parametrize(("size", "crop_pct"), [((32, 32), 0.875), ((32, 32), 1.0), ((32, 48), 0.9), ((40, 24), 0.95)])
def test_pixels_equal_timms_evaluation_transform(mode, interpolation, size, crop_pct):
    transform = timm.data.create_transform(
        (3, *size), is_training=False, interpolation=interpolation, crop_pct=crop_pct, crop_mode=mode,
        mean=IMAGENET_MEAN, std=IMAGENET_STD, normalize=False,
    )  # fmt: skip
    preprocess = Preprocess((3, *size), IMAGENET_MEAN, IMAGENET_STD, interpolation, crop_pct, mode)
    rng = np.random.default_rng(0)
    for shape in SIZES:
        image = rng.integers(0, 256, (*shape, 3), dtype=np.uint8)
        expected = transform(Image.fromarray(image))
        assert expected.dtype == torch.uint8
        got = fit(image, preprocess)
        assert got.shape == (*size, 3)
        assert np.array_equal(got, expected.permute(1, 2, 0).numpy()), (shape, mode)


@pytest.mark.parametrize("mode", ["center", "squash", "border"])
@pytest.mark.parametrize("shape", [(3, 20_000), (20_000, 3), (1, 65_000)])
def test_long_images_are_fitted_without_a_large_intermediate(mode, shape):
    image = np.full((*shape, 3), 90, np.uint8)
    image[[0, -1], [0, -1]] = 255
    got = fit(image, Preprocess((3, 32, 32), (0.5,) * 3, (0.5,) * 3, "bicubic", 0.875, mode))
    assert got.shape == (32, 32, 3)
    if mode == "center":
        assert (got == 90).all()


@pytest.mark.parametrize("channels", [1, 2, 5])
def test_other_channel_counts_are_resized_plane_by_plane(channels):
    image = np.random.default_rng(0).integers(0, 256, (50, 40, channels), dtype=np.uint8)
    preprocess = Preprocess((channels, 32, 32), (0.5,) * channels, (0.5,) * channels, "bicubic", 0.9)
    got = fit(image, preprocess)
    assert got.shape == (32, 32, channels)
    grey = Preprocess((1, 32, 32), (0.5,), (0.5,), "bicubic", 0.9)
    assert np.array_equal(got[:, :, :1], fit(image[:, :, :1], grey))
    means = tuple(c / 10 for c in range(channels))
    bordered = fit(image, Preprocess((channels, 32, 32), means, means, "bicubic", 1.0, "border"))
    assert bordered[0, 0].tolist() == [round(255 * m) for m in means]


def test_unknown_modes_are_named():
    image = np.zeros((8, 8, 3), np.uint8)
    with pytest.raises(UsageError, match="no crop mode named 'centre'"):
        fit(image, Preprocess((3, 8, 8), (0,), (1,), "bilinear", 1.0, "centre"))
    with pytest.raises(UsageError, match="no interpolation named 'cubic'"):
        fit(image, Preprocess((3, 9, 9), (0,), (1,), "cubic", 1.0))
