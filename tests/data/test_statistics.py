from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from zoo.augment.fit import EvalView
from zoo.data import data_config, open_data
from zoo.data.statistics import channel_statistics, measure_intensity_range
from zoo.preprocess import IntensityRange, Preprocess


def folder(root: Path, make, images: int = 6) -> str:
    for name in ("a", "b"):
        (root / name).mkdir(parents=True)
        for i in range(images):
            np.save(root / name / f"{i}.npy", make(np.random.default_rng([i, ord(name)])))
    return str(root)


@pytest.mark.parametrize("mode", ["center", "squash", "border"])
def test_mean_and_standard_deviation_equal_numpy_for_any_number_of_threads(photo_folder, mode):
    source = open_data(data_config(str(photo_folder))).train
    preprocess = Preprocess((3, 24, 32), (0.5,) * 3, (0.5,) * 3, crop_pct=1.0, crop_mode=mode)
    seen = preprocess.with_fit("squash") if mode == "border" else preprocess  # the border is no image
    pixels = np.stack([source.read(i, lambda h, w: EvalView(seen)) for i in range(len(source))]) / 255
    for threads in (1, 4):
        mean, std = channel_statistics(source, preprocess, seed=0, threads=threads)
        assert np.allclose(mean, pixels.mean(axis=(0, 1, 2)), rtol=1e-12)
        assert np.allclose(std, pixels.std(axis=(0, 1, 2)), rtol=1e-9)
    assert channel_statistics(source, preprocess, seed=0, threads=1) == (mean, std)


def test_a_sample_is_drawn_by_its_seed_and_a_constant_channel_is_not_divided_by_zero(tmp_path):
    def make(rng):
        image = rng.integers(0, 256, (8, 8, 2), dtype=np.uint8)
        image[:, :, 1] = 51
        return image

    source = open_data(data_config(folder(tmp_path / "d", make)), channels=2).train
    preprocess = Preprocess((2, 8, 8), (0.5,) * 2, (0.5,) * 2)
    few = [channel_statistics(source, preprocess, seed=seed, max_images=3) for seed in (0, 0, 1)]
    assert few[0] == few[1] != few[2]
    assert (few[0][0][1], few[0][1][1]) == (0.2, 1.0)


@pytest.mark.parametrize(
    ("high", "dtype", "white"),
    [(255, np.int64, 255), (700, np.uint16, 1023), (4095, np.uint16, 4095), (9000, np.int32, 16383),
     (60000, np.uint16, 65535)],
)  # fmt: skip
def test_the_range_is_the_smallest_bit_depth_that_holds_all_values(tmp_path, high, dtype, white):
    def make(rng):
        return np.append(rng.integers(0, high, 15), high).reshape(4, 4).astype(dtype)

    data = open_data(data_config(folder(tmp_path / "d", make)))
    levels, said = measure_intensity_range(data.train, data.val)
    assert levels == IntensityRange((white,))
    assert f"up to {high:g}" in said
    read = data.with_intensity_range(levels).train.read(0)
    assert read.max() == round(255 * high / white)


def test_four_channels_have_a_range_each_and_three_share_one(tmp_path):
    tops = np.array([300, 1000, 4095, 50000])
    make = lambda rng: (rng.random((16, 16, 4)) * tops).astype(np.uint16)
    data = open_data(data_config(folder(tmp_path / "d", make)), channels=4)
    levels, said = measure_intensity_range(data.train, data.val)
    assert levels.integers == (1023, 1023, 4095, 65535)
    assert "1023, 1023, 4095, 65535 as white" in said
    assert [len(np.unique(data.with_intensity_range(levels).train.read(0)[:, :, c])) > 64 for c in range(4)] == [
        True
    ] * 4
    colours = open_data(data_config(folder(tmp_path / "c", lambda rng: make(rng)[:, :, 1:])), channels=3)
    assert measure_intensity_range(colours.train, colours.val)[0].integers == (65535,)


def test_floats_and_integers_are_measured_separately(tmp_path):
    def make(rng):
        return rng.random((4, 4)).astype(np.float32) if rng.random() < 0.5 else rng.integers(0, 4000, (4, 4))

    data = open_data(data_config(folder(tmp_path / "d", make, 20)))
    assert measure_intensity_range(data.train, data.val)[0] == IntensityRange((4095,), (1.0,))
    counts = open_data(data_config(folder(tmp_path / "f", lambda rng: rng.random((4, 4)) * 3000)))
    assert measure_intensity_range(counts.train, counts.val)[0] == IntensityRange((65535,), (4095.0,))


def test_a_hot_pixel_that_reduces_the_grey_values_is_reported(tmp_path):
    def make(rng):
        image = rng.integers(0, 4000, (64, 64)).astype(np.uint16)
        image[0, 0] = 65535
        return image

    data = open_data(data_config(folder(tmp_path / "d", make)))
    levels, said = measure_intensity_range(data.train, data.val)
    assert levels == IntensityRange()
    assert "on 16 of 256 grey levels: --set data.intensity_range=[" in said


def test_8_bit_images_have_no_range_to_measure(photo_folder):
    data = open_data(data_config(str(photo_folder)))
    assert measure_intensity_range(data.train, data.val) == (IntensityRange(), "")
    assert open_data(data_config("digits")).with_intensity_range(IntensityRange((4095,))).train.read(0).max() > 100
