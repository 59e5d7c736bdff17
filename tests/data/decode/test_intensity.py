"""Pixels of other kinds than 8-bit pictures: arrays, pages, many channels, deep levels."""

from __future__ import annotations

import contextlib
from pathlib import Path

import numpy as np
import pytest
import tifffile
from PIL import Image

from zoo.augment.crop import Crop
from zoo.augment.fit import EvalView
from zoo.data.decode.errors import UnreadableImage
from zoo.data.decode.read import (
    check_bytes,
    check_image,
    intensity_stats,
    read_bytes,
    read_image,
    read_pil,
    read_preview,
)
from zoo.preprocess import IntensityRange, Preprocess

BILINEAR = Image.Resampling.BILINEAR
RNG = np.random.default_rng(0)
FOUR = RNG.integers(0, 65536, (20, 30, 4), dtype=np.uint16)
BYTES = np.rint(FOUR * (255 / 65535)).astype(np.uint8)


def write(path: Path, kind: str, image: np.ndarray) -> str:
    """`image` (H, W, C) in one of the ways to store it."""
    planes = image.transpose(2, 0, 1)
    if kind.startswith("npy"):
        with path.open("wb") as f:
            np.save(f, image if kind == "npy last" else planes)
    elif kind == "pages":
        tifffile.imwrite(path, planes, photometric="minisblack")
    elif kind == "pages lzw":
        first, *others = [Image.fromarray(p) for p in planes]
        first.save(path, "TIFF", save_all=True, append_images=others, compression="tiff_lzw")
    else:
        options = {"compression": "zlib"} if kind.endswith("zlib") else {}
        config = "separate" if kind.startswith("separate") else "contig"
        data = planes if config == "separate" else image
        tifffile.imwrite(path, data, photometric="minisblack", planarconfig=config, **options)
    return str(path)


KINDS = ["npy last", "npy first", "pages", "pages lzw", "samples", "samples zlib", "separate", "separate zlib"]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_four_channels_are_read_from_every_format(tmp_path, kind, dtype):
    image, expected = (FOUR, BYTES) if dtype == np.uint16 else (BYTES, BYTES)
    path = write(tmp_path / "image", kind, image)
    assert np.array_equal(read_image(path, 4), expected)
    assert np.array_equal(read_bytes(Path(path).read_bytes(), "x", 4), expected)
    assert check_image(path, decode=True, channels=4) == ""
    for channels in (1, 3, 5):
        reason = f"4 channels, not the {channels} asked for"
        assert reason in check_image(path, decode=False, channels=channels)
        assert reason in check_bytes(Path(path).read_bytes(), "x", decode=False, channels=channels)
        with pytest.raises(UnreadableImage, match=reason):
            read_image(path, channels)
    crop = Crop((3.5, 2.25, 25, 18.5), (9, 11), BILINEAR)
    assert np.array_equal(read_image(path, 4, lambda h, w: crop), crop.apply(expected))
    view = EvalView(Preprocess((4, 8, 8), (0.5,) * 4, (0.5,) * 4, crop_mode="border", crop_pct=1.0))
    assert np.array_equal(read_image(path, 4, lambda h, w: view), view.apply(expected))


@pytest.mark.parametrize("order", ["C", "F"])
@pytest.mark.parametrize(
    ("shape", "channels", "wanted"),
    [
        ((5, 6), 1, (5, 6, 1)),
        ((5, 6), 3, (5, 6, 3)),
        ((5, 6, 2), 2, (5, 6, 2)),
        ((2, 5, 6), 2, (5, 6, 2)),
        ((2, 5, 2), 2, (2, 5, 2)),  # both ends fit: the last
        ((8, 6, 5), 8, (6, 5, 8)),  # more channels than pixels a side
        ((5, 6, 1), 3, (5, 6, 3)),
        ((3, 5, 6), 1, (5, 6, 1)),
    ],
)
def test_channel_axis_is_detected(tmp_path, shape, channels, wanted, order):
    np.save(tmp_path / "a.npy", np.asarray(RNG.integers(0, 256, shape, dtype=np.uint8), order=order))
    assert read_image(str(tmp_path / "a.npy"), channels).shape == wanted


def test_intensities_are_scaled_by_the_range_of_the_type(tmp_path):
    cases = [
        (np.array([[0, 255]], np.uint8), [0, 255]),
        (np.array([[0, 32768, 65535]], np.uint16), [0, 128, 255]),
        (np.array([[0, 32768, 65535]], ">u2"), [0, 128, 255]),
        (np.array([[0, 32768, 65535]], np.int64), [0, 128, 255]),
        (np.array([[0, 0.5, 1]], np.float64), [0, 128, 255]),
        (np.array([[0, 0.5, 1]], np.float16), [0, 128, 255]),
        (np.array([[0, 100.4, 255]], np.float32), [0, 100, 255]),
        (np.array([[False, True]]), [0, 255]),
    ]
    for array, expected in cases:
        np.save(tmp_path / "a.npy", array)
        assert read_image(str(tmp_path / "a.npy"), 1)[0, :, 0].tolist() == expected, array.dtype


def test_a_range_of_12_bits_keeps_all_256_grey_values(tmp_path):
    """With the range of the type, only 17 of 4096 values would remain distinct."""
    ramp = np.arange(4096, dtype=np.uint16).reshape(64, 64)
    np.save(tmp_path / "a.npy", ramp)
    path = str(tmp_path / "a.npy")
    assert len(np.unique(read_image(path, 1))) == 17
    scaled = read_image(path, 1, intensity_range=IntensityRange((4095,)))
    assert len(np.unique(scaled)) == 256
    assert np.array_equal(scaled[:, :, 0], np.rint(ramp / 4095 * 255))
    ramp[0, 0] = 5000
    np.save(tmp_path / "a.npy", ramp)
    with pytest.raises(UnreadableImage, match="4095 is white in the training images"):
        read_image(path, 1, intensity_range=IntensityRange((4095,)))
    assert read_image(path, 1, intensity_range=IntensityRange((4095,), clips=True))[0, 0, 0] == 255


def test_each_channel_may_have_its_own_intensity_range(tmp_path):
    path = write(tmp_path / "a.npy", "npy last", FOUR // 16)
    levels = IntensityRange((4095, 4095, 2000, 1000), clips=True)
    expected = np.minimum(np.rint(FOUR // 16 * (255 / np.array(levels.integers))), 255)
    assert np.abs(read_image(path, 4, intensity_range=levels) - expected).max() <= 1
    with pytest.raises(UnreadableImage, match="in channel 3, but 2000 is white"):
        read_image(path, 4, intensity_range=IntensityRange(levels.integers))


def test_float_crops_are_scaled_by_the_whole_image(tmp_path):
    image = np.full((8, 8), 0.5, np.float32)
    image[7, 7] = 200
    np.save(tmp_path / "a.npy", image)
    corner = read_image(str(tmp_path / "a.npy"), 1, lambda h, w: Crop((0, 0, 4, 4), (4, 4), BILINEAR))
    assert corner.max() <= 1


def test_a_damaged_npy_header_is_an_unreadable_image(tmp_path):
    np.save(tmp_path / "a.npy", BYTES)
    contents = (tmp_path / "a.npy").read_bytes()
    for position in range(80):
        for byte in b"\0({'9":
            (tmp_path / "a.npy").write_bytes(contents[:position] + bytes([byte]) + contents[position + 1 :])
            with contextlib.suppress(UnreadableImage):  # a few are a header as well
                read_image(str(tmp_path / "a.npy"), 1)


def test_more_pixels_than_the_limit_are_refused_before_they_are_read(tmp_path):
    with (tmp_path / "a.npy").open("wb") as f:
        claim = {"descr": "|u1", "fortran_order": False, "shape": (20_000, 20_000)}
        np.lib.format.write_array_header_1_0(f, claim)
        f.truncate(f.tell() + 400_000_000)  # as long as it says, with nothing on the disk
    with pytest.raises(UnreadableImage, match="bomb"):
        read_image(str(tmp_path / "a.npy"), 1)


@pytest.mark.parametrize("share", [0.05, 0.3, 0.6, 0.9, 0.98])
@pytest.mark.parametrize("kind", KINDS)
def test_truncation_is_detected(tmp_path, kind, share):
    path = write(tmp_path / "image", kind, np.tile(FOUR, (4, 4, 1)))
    data = Path(path).read_bytes()
    cut = data[: int(len(data) * share)]
    (tmp_path / "cut").write_bytes(cut)
    assert check_image(str(tmp_path / "cut"), decode=True, channels=4)
    with pytest.raises(UnreadableImage):
        read_image(str(tmp_path / "cut"), 4)
    with pytest.raises(UnreadableImage):
        read_bytes(cut, "cut", 4)


def test_alpha_is_the_last_channel_where_it_is_asked_for(tmp_path):
    image = RNG.integers(0, 256, (6, 7, 4), dtype=np.uint8)
    for name in ("a.png", "a.tif", "a.webp"):
        Image.fromarray(image).save(tmp_path / name, **({"lossless": True, "exact": True} if "webp" in name else {}))
        assert np.array_equal(read_image(str(tmp_path / name), 4), image), name
        assert read_image(str(tmp_path / name), 3).shape == (6, 7, 3)
    Image.merge("LA", [Image.fromarray(image[:, :, c]) for c in (0, 1)]).save(tmp_path / "la.png")
    assert np.array_equal(read_image(str(tmp_path / "la.png"), 2), image[:, :, :2])
    assert np.array_equal(read_pil(Image.fromarray(image), "x", 4), image)
    crop = Crop((0.5, 1, 6, 5.5), (4, 4), BILINEAR)  # each channel for itself: no colour is weighed by its alpha
    assert np.array_equal(read_image(str(tmp_path / "a.png"), 4, lambda h, w: crop), crop.apply(image))


def test_transparency_of_deep_colours_is_composited_over_white(tmp_path):
    tifffile.imwrite(tmp_path / "a.tif", FOUR, photometric="rgb", extrasamples=["unassalpha"])
    alpha = FOUR[:, :, 3:] / 65535
    expected = FOUR[:, :, :3] / 257 * alpha + 255 * (1 - alpha)
    assert np.abs(read_image(str(tmp_path / "a.tif"), 3) - expected).max() <= 1.5
    assert np.array_equal(read_image(str(tmp_path / "a.tif"), 4), BYTES)


@pytest.mark.parametrize(("mode", "said"), [("RGB", "3 channels"), ("L", "1 channel"), ("P", "3 channels")])
def test_missing_channels_are_not_invented(tmp_path, mode, said):
    Image.new(mode, (4, 4)).save(tmp_path / "a.png")
    with pytest.raises(UnreadableImage, match=f"{said}, not the 4 asked for"):
        read_image(str(tmp_path / "a.png"), 4)
    assert said in check_image(str(tmp_path / "a.png"), decode=False, channels=4)
    Image.new("CMYK", (4, 4)).save(tmp_path / "a.jpg")
    with pytest.raises(UnreadableImage, match="CMYK"):
        read_image(str(tmp_path / "a.jpg"), 4)


def test_a_12_bit_colour_tiff_is_scaled_by_its_range(tmp_path):
    image = RNG.integers(0, 4096, (40, 40, 3), dtype=np.uint16)
    tifffile.imwrite(tmp_path / "a.tif", image, photometric="rgb")
    pixels = read_image(str(tmp_path / "a.tif"), 3, intensity_range=IntensityRange((4095,)))
    assert np.array_equal(pixels, np.rint(image * np.float32(255 / 4095)))


def test_thumbnails_and_pyramids_are_no_channels_and_colour_pages_no_stack(tmp_path):
    planes = FOUR.transpose(2, 0, 1)
    with tifffile.TiffWriter(tmp_path / "a.tif") as f:
        for plane in planes:
            f.write(plane, photometric="minisblack", metadata=None)
        f.write(planes[0, ::2, ::2], photometric="minisblack", metadata=None)  # smaller
        f.write(planes[0], photometric="minisblack", subfiletype=1, metadata=None)  # marked
    assert np.array_equal(read_image(str(tmp_path / "a.tif"), 4), BYTES)
    photo = Image.fromarray(BYTES[:, :, :3])
    photo.save(tmp_path / "photo.tif", save_all=True, append_images=[photo.resize((8, 8)), photo.rotate(90)])
    assert np.array_equal(read_image(str(tmp_path / "photo.tif"), 3), BYTES[:, :, :3])
    grey = Image.fromarray(BYTES[:, :, 0])
    grey.save(tmp_path / "grey.tif", save_all=True, append_images=[grey.resize((8, 8))])
    assert np.array_equal(read_image(str(tmp_path / "grey.tif"), 1), BYTES[:, :, :1])


@pytest.mark.parametrize("turn", range(1, 9))
def test_orientation_is_applied_to_samples_and_pages(tmp_path, turn):
    plain, tag = str(tmp_path / "plain.tif"), [(274, "H", 1, turn, False)]
    Image.fromarray(BYTES[:, :, 0]).save(plain, tiffinfo={274: turn})
    how = {2: Image.Transpose.FLIP_LEFT_RIGHT, 3: Image.Transpose.ROTATE_180, 4: Image.Transpose.FLIP_TOP_BOTTOM,
           5: Image.Transpose.TRANSPOSE, 6: Image.Transpose.ROTATE_270, 7: Image.Transpose.TRANSVERSE,
           8: Image.Transpose.ROTATE_90}  # fmt: skip
    upright = Image.fromarray(BYTES[:, :, 0])
    expected = np.asarray(upright.transpose(how[turn]) if turn > 1 else upright)
    assert expected.shape == ((20, 30) if turn < 5 else (30, 20))
    tifffile.imwrite(tmp_path / "s.tif", BYTES, photometric="minisblack", planarconfig="contig", extratags=tag)
    assert np.array_equal(read_image(str(tmp_path / "s.tif"), 4)[:, :, 0], expected)
    tifffile.imwrite(tmp_path / "p.tif", BYTES.transpose(2, 0, 1), photometric="minisblack", extratags=tag)
    seen = []

    def choose(h, w):
        seen.append((h, w))
        return Crop((0, 0, w, h), (h, w), BILINEAR)

    assert np.array_equal(read_image(str(tmp_path / "p.tif"), 4, choose)[:, :, 0], expected)
    assert np.array_equal(read_image(plain, 1, choose)[:, :, 0], expected)
    Image.fromarray(BYTES[:, :, 0].astype(np.uint16)).save(tmp_path / "deep.tif", tiffinfo={274: turn})
    deep = read_image(str(tmp_path / "deep.tif"), 1, choose, IntensityRange((255,)))
    assert np.array_equal(deep[:, :, 0], expected)
    assert seen == [expected.shape] * 3


def test_a_missing_codec_is_named(tmp_path):
    try:
        import imagecodecs  # noqa: F401
    except ImportError:
        pass
    else:
        pytest.skip("imagecodecs is installed")
    tifffile.imwrite(tmp_path / "b.tif", BYTES, photometric="minisblack", planarconfig="contig")
    with tifffile.TiffFile(tmp_path / "b.tif", mode="r+b") as f:
        f.pages[0].tags["Compression"].overwrite(5)
    with pytest.raises(UnreadableImage, match="LZW: pip install imagecodecs"):
        read_image(str(tmp_path / "b.tif"), 4)


def test_previews_and_ranges_do_not_ask_for_channels(tmp_path):
    path = write(tmp_path / "a.npy", "npy last", FOUR // 16)
    preview = read_preview(path, path)
    assert preview.shape == (20, 30, 3)
    assert np.abs(preview - FOUR[:, :, :3] / 16 * (255 / 4095)).max() <= 1.1
    found = intensity_stats(path, path)
    assert found.kind == "integers"
    assert found.high == tuple((FOUR // 16).max(axis=(0, 1)).tolist())
    np.save(tmp_path / "b.npy", BYTES)
    assert intensity_stats(str(tmp_path / "b.npy"), "b").kind == ""
    assert intensity_stats(str(tmp_path / "none.npy"), "none").kind == ""
