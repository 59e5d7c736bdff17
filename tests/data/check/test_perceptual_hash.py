"""How well run_check-alikes are found: what is a copy, and what is only similar."""

from __future__ import annotations

import io

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image, ImageEnhance
from sklearn.datasets import load_digits, load_sample_images

from zoo.data.check.duplicates import near_pairs
from zoo.data.check.image_record import DETAILED, READABLE, RECORD, Records
from zoo.data.check.perceptual_hash import close_pairs, distances, fill_hashes
from zoo.data.check.thresholds import DISTANCE

CROPS = 300


@pytest.fixture(scope="module")
def crops() -> list[Image.Image]:
    """Different crops of two photographs, many of them overlapping."""
    rng = np.random.default_rng(0)
    found = []
    for photo in load_sample_images().images:
        for _ in range(CROPS // 2):
            h, w = rng.integers(60, 300, 2)
            top, left = rng.integers(0, photo.shape[0] - h), rng.integers(0, photo.shape[1] - w)
            found.append(Image.fromarray(photo[top : top + h, left : left + w]))
    return found


def rows_of(images: list[Image.Image], contents: int = 0) -> Records:
    """Records as `examine_files` makes them. contents: distinguishes the files of different calls."""
    rows = np.zeros(len(images), dtype=RECORD)
    reduced = np.stack([np.asarray(i.convert("RGB").resize((32, 32), Image.Resampling.BILINEAR)) for i in images])
    fill_hashes(np.ascontiguousarray(reduced.transpose(3, 0, 1, 2)), rows)
    rows["flags"] = READABLE | DETAILED
    rows["width"], rows["height"] = [i.width for i in images], [i.height for i in images]
    rows["content"][:, 0] = np.arange(len(images)) + 1
    rows["content"][:, 1] = contents
    return rows


def recoded(image: Image.Image, quality: int) -> Image.Image:
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=quality)
    return Image.open(buffer)


def detailed(images: list[Image.Image]) -> list[Image.Image]:
    return [i for i in images if np.asarray(i.convert("L").resize((16, 16), Image.Resampling.BOX)).std() >= 4]


def recall(originals: list[Image.Image], copies: list[Image.Image]) -> float:
    """Share of the originals that are paired with their own copy. No other pair may be found."""
    n = len(originals)
    pairs = near_pairs(np.concatenate([rows_of(originals), rows_of(copies, 1)]))
    assert all(b - a == n for a, b in zip(pairs.left, pairs.right, strict=True))
    return len(pairs.left) / n


def test_only_duplicates_are_found(crops: list[Image.Image]) -> None:
    originals = detailed(crops)
    assert len(originals) > 0.95 * CROPS
    half = [i.resize((i.width // 2, i.height // 2), Image.Resampling.BICUBIC) for i in originals]
    larger = [i.resize((i.width * 3 // 2, i.height * 3 // 2), Image.Resampling.BICUBIC) for i in originals]
    assert recall(originals, half) >= 0.97
    assert recall(originals, larger) >= 0.97
    assert recall(originals, [recoded(i, 60) for i in originals]) >= 0.97
    assert recall(originals, [ImageEnhance.Brightness(i).enhance(1.1) for i in originals]) >= 0.93
    assert recall(originals, [recoded(i, 60) for i in half]) >= 0.93


def test_other_colours_are_no_duplicates_but_grey_copies_are(crops: list[Image.Image]) -> None:
    originals = detailed(crops)[:60]
    swapped = [Image.merge("RGB", i.split()[::-1]) for i in originals]
    pairs = near_pairs(np.concatenate([rows_of(originals), rows_of(swapped, 1)]))
    assert len(pairs.left) < 0.5 * len(originals)
    grey = rows_of([i.convert("L") for i in originals], 1)
    grey["flags"] |= 2
    assert len(near_pairs(np.concatenate([rows_of(originals), grey])).left) > 0.9 * len(originals)


def test_different_digits_are_no_duplicates() -> None:
    """1.6 million pairs, many of the same figure in almost the same hand."""
    images = [
        Image.fromarray((d * 15).astype(np.uint8)).resize((64, 64), Image.Resampling.BICUBIC)
        for d in load_digits().images
    ]
    pairs = near_pairs(rows_of(images))
    assert pairs.complete
    assert len(pairs.left) == 0


def every_pair(hashes: NDArray[np.uint64]) -> set[tuple[int, int]]:
    i, j = np.triu_indices(len(hashes), 1)
    close = np.array([int(a ^ b).bit_count() for a, b in zip(hashes[i], hashes[j], strict=True)]) <= DISTANCE
    return set(zip(i[close].tolist(), j[close].tolist(), strict=True))


def test_no_close_pair_is_missed() -> None:
    rng = np.random.default_rng(0)
    hashes = rng.integers(0, 1 << 63, 60).astype(np.uint64)
    near = [hashes]
    for flips in range(1, 11):  # copies with so many bits flipped, anywhere
        masks = np.array([sum(1 << int(b) for b in rng.choice(64, flips, replace=False)) for _ in hashes], np.uint64)
        near.append(hashes ^ masks)
    together = np.unique(np.concatenate(near))
    left, right, complete = close_pairs(together)
    assert complete
    assert list(zip(left.tolist(), right.tolist(), strict=True)) == sorted(every_pair(together))
    assert distances(together[left], together[right]).max() == DISTANCE


def test_no_hash_and_one_hash() -> None:
    for n in (0, 1):
        left, right, complete = close_pairs(np.arange(n, dtype=np.uint64))
        assert (len(left), len(right), complete) == (0, 0, True)


def test_many_images_of_one_hash_are_one_group(crops: list[Image.Image]) -> None:
    """200 frames of the same scene: every one is paired, without comparing all with all."""
    rng = np.random.default_rng(0)
    still = np.asarray(detailed(crops)[0].resize((64, 64)))
    frames = [Image.fromarray((still // 2 + rng.integers(0, 3, still.shape)).astype(np.uint8)) for _ in range(200)]
    pairs = near_pairs(rows_of(frames))
    assert set(pairs.left.tolist()) | set(pairs.right.tolist()) == set(range(200))
