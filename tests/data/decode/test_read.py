from __future__ import annotations

import pickle
import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from sklearn.datasets import load_sample_images

from zoo.augment.crop import Crop
from zoo.augment.resize import resize_and_crop
from zoo.data.decode import jpeg
from zoo.data.decode.errors import UnreadableImage
from zoo.data.decode.read import check_image, read_image
from zoo.errors import DataError

BILINEAR = Image.Resampling.BILINEAR


@pytest.fixture(scope="session")
def photo() -> np.ndarray:
    return load_sample_images().images[0]


def test_every_unreadable_file_is_refused_with_its_path_and_reason(tmp_path, hostile):
    hostile.make_hostile(tmp_path)
    for name, reason in hostile.UNREADABLE.items():
        path = str(tmp_path / name)
        with pytest.raises(UnreadableImage) as e:
            read_image(path, 3)
        assert path in e.value.message
        assert e.value.path == path
        assert re.search(reason, e.value.reason), e.value.reason
        assert re.search(reason, check_image(path, decode=True))
    for name in hostile.LINKS:
        with pytest.raises(UnreadableImage):
            read_image(str(tmp_path / name), 3)


@pytest.mark.parametrize("channels", [1, 3])
def test_unusual_valid_files_are_read(tmp_path, hostile, channels):
    hostile.make_hostile(tmp_path)
    for name, (height, width) in hostile.READABLE.items():
        assert check_image(str(tmp_path / name), decode=True) == ""
        pixels = read_image(str(tmp_path / name), channels)
        assert pixels.shape == (height, width, channels), name
        assert pixels.dtype == np.uint8


@pytest.mark.parametrize("share", [0.1, 0.3, 0.5, 0.7, 0.9, 0.99])
@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "TIFF", "BMP"])
def test_truncation_is_detected_by_check_and_read(tmp_path, kind, share):
    whole = tmp_path / "whole"
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (90, 120, 3), dtype=np.uint8)).save(whole, kind)
    cut = tmp_path / "cut.jpg"
    cut.write_bytes(whole.read_bytes()[: int(whole.stat().st_size * share)])
    assert check_image(str(cut), decode=True)
    with pytest.raises(UnreadableImage):
        read_image(str(cut), 3)
    with pytest.raises(UnreadableImage):
        read_image(str(cut), 3, lambda h, w: Crop((0, 0, w, h), (8, 8), BILINEAR))


def test_transparency_is_composited_over_white(tmp_path, hostile):
    hostile.make_hostile(tmp_path)
    pixels = read_image(str(tmp_path / "palette.png"), 3)
    assert pixels[0, 0].tolist() == [0, 0, 200]
    assert pixels[0, -1].tolist() == [255, 255, 255]
    half = tmp_path / "half-clear.png"
    Image.new("RGBA", (2, 2), (0, 0, 0, 128)).save(half)
    assert abs(int(read_image(str(half), 3)[0, 0, 0]) - 127) <= 1
    assert abs(int(read_image(str(half), 1)[0, 0, 0]) - 127) <= 1


def test_16_bit_and_float_values_are_scaled(tmp_path, hostile):
    hostile.make_hostile(tmp_path)
    expected = np.linspace(0, 255, 30)
    for name in ("grey16.png", "float.tif"):
        assert np.abs(read_image(str(tmp_path / name), 3)[0, :, 1] - expected).max() <= 1
    bright = tmp_path / "bright.tif"
    Image.fromarray(np.full((4, 4), 200, np.float32)).save(bright)
    assert read_image(str(bright), 1).max() == 200
    deep = tmp_path / "deep.tif"
    Image.fromarray(np.full((4, 4), 70_000, np.int32)).save(deep)
    with pytest.raises(UnreadableImage, match="beyond 16 bits"):
        read_image(str(deep), 1)


def test_exif_orientation_is_applied(tmp_path, hostile):
    hostile.make_hostile(tmp_path)
    upright = read_image(str(tmp_path / "turned.jpg"), 3)
    stored = np.asarray(Image.open(tmp_path / "turned.jpg"))
    assert np.array_equal(upright, np.rot90(stored, -1))


def test_cmyk_is_converted_to_rgb(tmp_path, hostile):
    hostile.make_hostile(tmp_path)
    pixels = read_image(str(tmp_path / "cmyk.jpg"), 3).astype(int)
    assert np.abs(pixels[10, :, 0] - np.arange(0, 240, 8)).max() < 12


def test_an_animation_gives_its_first_frame(tmp_path, hostile):
    hostile.make_hostile(tmp_path)
    first = read_image(str(tmp_path / "moving.gif"), 3).astype(int)
    assert np.abs(first[10, :, 0] - np.arange(0, 240, 8)).max() < 12


@pytest.mark.parametrize("turn", [1, 3, 6, 8])
@pytest.mark.parametrize("channels", [1, 3])
def test_crop_of_a_reduced_jpeg_equals_crop_of_the_full_image(tmp_path, photo, turn, channels):
    exif = Image.Exif()
    exif[0x0112] = turn
    path = tmp_path / "large.jpg"
    Image.fromarray(photo).resize((800, 600)).save(path, quality=95, exif=exif)
    whole = read_image(str(path), channels)
    height, width = (600, 800) if turn < 5 else (800, 600)
    assert whole.shape == (height, width, channels)
    for box in [(0, 0, width, height), (100.5, 50.25, 420.75, 391.5), (width - 200, height - 300, width, height)]:
        crop = Crop(box, (48, 32), BILINEAR)

        def choose(h, w, crop=crop):
            assert (h, w) == (height, width)
            return crop

        part = read_image(str(path), channels, choose)
        assert part.shape == (48, 32, channels)
        assert np.abs(part.astype(int) - crop.apply(whole)).mean() < 2.5


def test_a_jpeg_is_reduced_only_as_far_as_the_crop_is_not_enlarged(tmp_path, monkeypatch):
    path = tmp_path / "large.jpg"
    Image.new("RGB", (800, 600)).save(path)
    widths = []
    monkeypatch.setattr(
        jpeg, "resize_and_crop", lambda pixels, *how: widths.append(pixels.shape[1]) or resize_and_crop(pixels, *how)
    )
    for box in [(0, 0, 800, 600), (0, 0, 400, 300), (0, 0, 399, 300), (0, 0, 50, 50)]:
        read_image(str(path), 3, lambda h, w, box=box: Crop(box, (75, 100), BILINEAR))
    assert widths == [100, 200, 400, 800]


def test_channels_other_than_grey_and_colour_are_refused(tmp_path, hostile):
    hostile.make_hostile(tmp_path)
    with pytest.raises(DataError, match="3 channels, not the 4 asked for"):
        read_image(str(tmp_path / "dot.png"), 4)


def test_missing_file_and_lfs_pointer_are_reported(tmp_path: Path):
    with pytest.raises(UnreadableImage, match="no such file"):
        read_image(str(tmp_path / "none.jpg"), 3)
    pointer = tmp_path / "pointer.jpg"
    pointer.write_text("version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 5\n")
    with pytest.raises(UnreadableImage, match="git lfs pull"):
        read_image(str(pointer), 3)


def test_the_error_can_be_pickled():
    error = pickle.loads(pickle.dumps(UnreadableImage("a/b.jpg", "truncated file")))
    assert (error.path, error.reason, error.exit_code) == ("a/b.jpg", "truncated file", 3)
    assert error.hint


@pytest.mark.parametrize("chunk", ["IHDR checksum", "IDAT data"])
def test_a_png_that_fails_its_checksums_is_found(tmp_path: Path, chunk: str) -> None:
    path = tmp_path / "flipped.png"
    noise = np.random.default_rng(0).integers(0, 256, (40, 40, 3), dtype=np.uint8)
    Image.fromarray(noise).save(path)
    assert check_image(str(path), decode=True) == ""
    data = bytearray(path.read_bytes())
    data[29 if chunk == "IHDR checksum" else data.index(b"IDAT") + 40] ^= 1
    path.write_bytes(data)
    assert check_image(str(path), decode=True) != ""


@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
def test_a_very_large_image_below_the_limit_is_read(tmp_path: Path) -> None:
    """90 megapixels: Pillow warns of a decompression bomb from 89 on and refuses from 179 on, and so do we."""
    path = tmp_path / "large.png"
    Image.new("1", (9500, 9500), 1).save(path)
    assert read_image(str(path), 1).shape == (9500, 9500, 1)
