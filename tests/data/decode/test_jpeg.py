"""The quick ways to an image give what the long ones do: decoding a part, at a part of the size, and resizing."""

from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image
from sklearn.datasets import load_sample_images

from zoo.augment import resize as resizing
from zoo.augment.crop import RATIO, Crop, random_crop, random_view
from zoo.augment.fit import EvalView
from zoo.augment.resize import horizontal_flip, resize, resize_and_crop
from zoo.data.decode import jpeg, pillow, read
from zoo.data.decode.errors import UnreadableImage
from zoo.data.decode.read import read_bytes
from zoo.preprocess import IMAGENET_MEAN, IMAGENET_STD, Preprocess

FILTERS = [Image.Resampling.BILINEAR, Image.Resampling.BICUBIC]


def saved(pixels: np.ndarray, **options) -> bytes:
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "JPEG", **{"quality": 90, **options})
    return file.getvalue()


def psnr(a: np.ndarray, b: np.ndarray) -> float:
    error = np.mean((a.astype(float) - b) ** 2)
    return 99.0 if error == 0 else 10 * np.log10(255**2 / error)


@pytest.fixture(scope="module")
def china() -> np.ndarray:
    return load_sample_images().images[0]  # 427x640, roof tiles: the hardest of our photographs to reduce


@pytest.fixture(scope="module")
def large(china) -> np.ndarray:
    return np.asarray(Image.fromarray(china).resize((1500, 1000), Image.Resampling.BICUBIC))


@pytest.mark.parametrize("fast", [True, False])
@pytest.mark.parametrize("resample", FILTERS)
@pytest.mark.parametrize("shape", [(200, 300, 3), (40, 50, 3), (200, 300, 1)])
@pytest.mark.parametrize("box", [(0, 0, 1, 1), (0.2, 0.1, 0.7, 0.9), (0.213, 0.107, 0.711, 0.909)])
def test_resizing_equals_pillow_within_two_grey_values(monkeypatch, fast, resample, shape, box):
    monkeypatch.setattr(resizing, "_has_fast_torch", lambda: fast)
    image = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)
    image.setflags(write=False)
    box = tuple(round(b * side, 2) for b, side in zip(box, (shape[1], shape[0]) * 2, strict=True))
    got = resize(image, (64, 80), resample, box)
    expected = Crop(box, (64, 80), resample).apply(image)
    assert got.shape == (64, 80, shape[2])
    assert np.abs(got.astype(int) - expected).max() <= (2 if fast else 0)
    assert got.flags.writeable


def test_horizontal_flip_returns_a_flipped_copy():
    image = np.arange(2 * 3 * 3, dtype=np.uint8).reshape(2, 3, 3)
    image.setflags(write=False)
    assert np.array_equal(horizontal_flip(image), image[:, ::-1])
    assert np.array_equal(horizontal_flip(image[:, :, ::-1]), image[:, ::-1, ::-1])


@pytest.mark.parametrize("options", [{}, {"progressive": True}, {"subsampling": 0}, {"restart_marker_rows": 1}])
@pytest.mark.parametrize("bottom", [1, 60, 200, 426, 427])
def test_partial_decoding_gives_the_same_rows(china, options, bottom):
    data = saved(china, **options)
    crop = Crop((100, 0, 300, bottom), (bottom, 200), Image.Resampling.BILINEAR)  # not resized
    expected = np.asarray(Image.open(io.BytesIO(data)))[:bottom, 100:300]
    assert np.array_equal(jpeg.decode_view(Image.open(io.BytesIO(data)), crop, 3, 1), expected)


def test_decoding_ends_below_the_part_and_at_the_size_that_it_needs(large, monkeypatch):
    read = []
    monkeypatch.setattr(jpeg, "resize_and_crop", lambda p, *how: read.append(p.shape[:2]) or resize_and_crop(p, *how))
    data = saved(large)
    for box in [(0, 0, 100, 100), (0, 0, 200, 200), (800, 0, 1200, 400), (0, 0, 1500, 1000)]:
        jpeg.decode_view(Image.open(io.BytesIO(data)), Crop(box, (100, 100), Image.Resampling.BILINEAR), 3, 1)
    assert read == [(160, 1500), (128, 750), (112, 375), (125, 188)]


@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic"])
@pytest.mark.parametrize("mode", ["center", "squash"])
def test_the_evaluation_view_of_a_reduced_jpeg_keeps_40_db(china, interpolation, mode):
    data = saved(china)
    whole = read_bytes(data, "china", 3)
    for size in (48, 64, 96, 128, 147, 200):
        fit = EvalView(Preprocess((3, size, size), IMAGENET_MEAN, IMAGENET_STD, interpolation, 1.0, mode))
        assert psnr(read_bytes(data, "china", 3, lambda h, w, fit=fit: fit), fit.apply(whole)) > 39.5


def test_training_views_of_a_large_jpeg_are_close_to_those_of_the_whole(large):
    data = saved(large)
    whole = read_bytes(data, "large", 3)
    model = Preprocess((3, 96, 96), IMAGENET_MEAN, IMAGENET_STD)
    values = []
    for seed in range(12):
        view = random_view(1000, 1500, np.random.default_rng(seed), preprocess=model, scale=(0.08, 1), ratio=RATIO)
        values.append(psnr(read_bytes(data, "large", 3, lambda h, w, view=view: view), view.apply(whole)))
    assert min(values) > 33
    assert np.mean(values) > 38


@pytest.mark.parametrize("turn", range(1, 9))
def test_exif_orientation_is_applied_before_the_view(china, turn):
    exif = Image.Exif()
    exif[0x0112] = turn
    data = saved(china[:400, :600], exif=exif)
    whole = read_bytes(data, "turned", 3)
    fit = EvalView(Preprocess((3, 96, 96), IMAGENET_MEAN, IMAGENET_STD))
    crop = Crop((20, 30, 180, 130), (60, 90), Image.Resampling.BILINEAR)
    for view in (fit, crop):
        assert psnr(read_bytes(data, "turned", 3, lambda h, w, view=view: view), view.apply(whole)) > 40


@pytest.mark.parametrize(("grey", "channels"), [(True, 3), (True, 1), (False, 1)])
def test_grey_and_colour_are_converted(china, grey, channels):
    data = saved(china[:, :, 0] if grey else china)
    whole = read_bytes(data, "grey", channels)
    crop = Crop((20, 30, 180, 130), (60, 90), Image.Resampling.BILINEAR)
    got = read_bytes(data, "grey", channels, lambda h, w: crop)
    assert got.shape == (60, 90, channels)
    assert np.abs(got.astype(int) - crop.apply(whole)).max() <= 2


def test_unusual_jpegs_are_decoded_in_full(china, monkeypatch):
    taken = []
    monkeypatch.setattr(pillow, "decode_view", lambda *a: taken.append(jpeg.decode_view(*a)) or taken[-1])
    crop = Crop((0, 0, 64, 48), (24, 32), Image.Resampling.BILINEAR)
    cmyk, png = io.BytesIO(), io.BytesIO()
    Image.fromarray(china).convert("CMYK").save(cmyk, "JPEG")
    Image.fromarray(china).save(png, "PNG")
    for file in (cmyk, png):
        assert read_bytes(file.getvalue(), "x", 3, lambda h, w: crop).shape == (24, 32, 3)
    assert taken == [None, None]


@pytest.mark.parametrize("share", [0.2, 0.5, 0.9, 0.999])
@pytest.mark.parametrize("size", [(24, 32), (200, 300)])
def test_a_truncated_jpeg_is_refused_wherever_the_view_is(china, share, size):
    data = saved(china)
    crop = Crop((0, 0, 300, 40), size, Image.Resampling.BILINEAR)
    with pytest.raises(UnreadableImage, match="truncated"):
        read.read_bytes(data[: int(share * len(data))], "cut", 3, lambda h, w: crop)


def test_corners_of_random_crops_lie_on_pixels_that_the_decoder_can_reduce():
    for seed in range(200):
        rng = np.random.default_rng(seed)
        height, width = (int(n) for n in rng.integers(128, 3000, 2))
        crop = random_crop(
            height, width, rng, size=(100, 90), scale=(0.08, 1), ratio=RATIO, resample=Image.Resampling.BILINEAR
        )
        left, top, right, bottom = crop.box
        assert 0 <= left < right <= width
        assert 0 <= top < bottom <= height
        shrink = min((bottom - top) / 100, (right - left) / 90)
        step = next(s for s in (8, 4, 2, 1) if shrink >= 1.2 * s or s == 1)
        assert (left % step, top % step) == (0, 0)
        assert right % step == 0 or right == width
        assert bottom % step == 0 or bottom == height
