"""Evaluation and random views under crop, squash and pad."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision.transforms import v2

from zoo.augment import make_augment
from zoo.augment.crop import Crop, PaddedCrop, random_view
from zoo.augment.fit import fit
from zoo.data.decode.read import read_image
from zoo.preprocess import FIT_MODES, IntensityRange, Preprocess

MEAN, STD = (0.2, 0.5, 0.8), (0.3, 0.3, 0.3)
MODEL = Preprocess((3, 32, 32), MEAN, STD, "bilinear", 0.8)
SHAPES = [(60, 80), (80, 60), (200, 50), (31, 97), (32, 32), (9, 9)]


def photo(height: int, width: int) -> np.ndarray:
    """Smooth, so that a pixel of rounding is a level or two."""
    y, x = np.mgrid[0 : 1 : height * 1j, 0 : 1 : width * 1j]
    return np.stack([255 * x, 255 * y, 127 + 100 * np.sin(6 * x + 4 * y)], axis=2).astype(np.uint8)


def torchvisions(mode: str, height: int, width: int) -> v2.Transform:
    if mode == "crop":
        return v2.Compose([v2.Resize(40), v2.CenterCrop(32)])
    if mode == "squash":
        return v2.Resize((32, 32))
    long = max(height, width)
    h, w = round(height * 32 / long), round(width * 32 / long)
    left, top = (32 - w) // 2, (32 - h) // 2
    fill = [round(255 * m) for m in MEAN]
    return v2.Compose([v2.Resize((h, w)), v2.Pad([left, top, 32 - w - left, 32 - h - top], fill=fill)])


@pytest.mark.parametrize("mode", FIT_MODES)
@pytest.mark.parametrize("shape", SHAPES)
def test_each_mode_is_torchvisions(mode, shape):
    image = photo(*shape)
    expected = np.asarray(torchvisions(mode, *shape)(Image.fromarray(image))).astype(int)
    assert np.abs(fit(image, MODEL.with_fit(mode)).astype(int) - expected).max() <= 2


def test_fit_modes_and_auto():
    assert MODEL.with_fit("auto") == MODEL
    assert MODEL.with_fit("crop").crop_pct == 0.8
    assert MODEL.with_fit("pad").crop_pct == MODEL.with_fit("squash").crop_pct == 1.0
    deep = Preprocess(
        (4, 8, 8), (0.5,) * 4, (0.5,) * 4, intensity_range=IntensityRange((4095, 1, 2, 3), (1.0,), clips=True)
    )
    assert Preprocess.from_dict(deep.to_dict()) == deep
    values = deep.to_dict()
    values["levels"] = values.pop("intensity_range")  # the key of earlier versions
    assert Preprocess.from_dict(values) == deep
    assert "intensity_range" not in MODEL.to_dict()


@pytest.mark.parametrize("channels", [1, 2, 3, 5])
@pytest.mark.parametrize("mode", FIT_MODES)
@pytest.mark.parametrize("name", ["none", "affine", "light", "medium", "strong", "trivialaugment", "augmix"])
def test_presets_take_any_number_of_channels_in_each_mode(name, mode, channels):
    preprocess = Preprocess((channels, 24, 16), (0.5,) * channels, (0.5,) * channels).with_fit(mode)
    image = np.random.default_rng(0).integers(0, 256, (40, 70, channels), dtype=np.uint8)
    augment = make_augment(name, preprocess=preprocess, flips=True)
    seen = [augment(image, np.random.default_rng(3)) for _ in range(2)]
    assert seen[0].shape == (24, 16, channels)
    assert np.array_equal(seen[0], seen[1])


def views(mode: str, height: int, width: int, n: int = 200):
    rng = np.random.default_rng(0)
    preprocess = MODEL.with_fit(mode)
    for _ in range(n):
        yield random_view(height, width, rng, preprocess=preprocess, scale=(0.3, 1.0), ratio=(3 / 4, 4 / 3))


def test_a_squashed_crop_has_its_ratio_in_the_squashed_image():
    for view in views("squash", 100, 400):
        left, top, right, bottom = view.box
        # 3:4 to 4:3 but for the rounding to whole pixels of the squashed image.
        half = 0.5 * 100 / 32
        assert (right - left) / 4 - half <= 4 / 3 * (bottom - top + half)
        assert (right - left) / 4 + half >= 3 / 4 * (bottom - top - half)
        assert 0 <= left < right <= 400
        assert 0 <= top < bottom <= 100


def test_a_padded_crop_keeps_its_shape_and_its_border_is_the_mean_colour():
    image = np.full((100, 400, 3), 255, np.uint8)
    fill = np.array([round(255 * m) for m in MEAN])
    for view in views("pad", 100, 400):
        assert isinstance(view, PaddedCrop)
        seen = view.apply(image)
        is_image = (seen == 255).all(axis=2)
        assert ((seen == fill).all(axis=2) | is_image).all()
        left, top, right, bottom = view.crop.box
        rows, columns = is_image.any(axis=1).sum(), is_image.any(axis=0).sum()
        assert max(rows, columns) == 32
        assert abs(rows / columns - (bottom - top) / (right - left)) < 0.06


@pytest.mark.parametrize("mode", FIT_MODES)
def test_a_part_of_an_image_gives_the_same_view_as_the_whole(mode):
    image = np.random.default_rng(1).integers(0, 256, (90, 130, 3), dtype=np.uint8)
    for view in views(mode, 90, 130, 20):
        (left, top, right, bottom), same = view.part(90, 130)
        assert (right - left) * (bottom - top) <= 90 * 130
        assert np.array_equal(same.apply(image[top:bottom, left:right]), view.apply(image))


@pytest.mark.parametrize("mode", FIT_MODES)
def test_a_reduced_jpeg_gives_nearly_the_same_view(tmp_path: Path, mode):
    path = tmp_path / "a.jpg"
    Image.fromarray(photo(600, 900)).save(path, quality=95)
    whole = read_image(str(path), 3)
    reduced = 0
    for view in views(mode, 600, 900, 10):
        seen = read_image(str(path), 3, lambda h, w, view=view: view)
        crop = view if isinstance(view, Crop) else view.crop
        reduced += min(crop.min_size(600, 900)) < 300
        assert np.abs(seen.astype(int) - view.apply(whole)).mean() < 1.5
    assert reduced  # else nothing was tested


def test_normalisation_takes_any_number_of_channels():
    from zoo.training.inference import Normalize

    preprocess = Preprocess((5, 4, 4), (0.1, 0.2, 0.3, 0.4, 0.5), (0.5,) * 5)
    images = torch.full((2, 5, 4, 4), 51, dtype=torch.uint8)
    expected = torch.tensor([0.2, 0.0, -0.2, -0.4, -0.6])
    assert torch.allclose(Normalize(preprocess)(images)[0, :, 0, 0], expected, atol=1e-6)
