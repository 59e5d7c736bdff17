"""Generated and real images for the study of strategies: 32x32 RGB, seeded, with labels.

A `Maker` takes a numpy generator and labels (n,) and returns images (n, 32, 32, 3) uint8.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFilter

sys.path.insert(0, str(Path(__file__).parents[1] / "zoo_tiny"))
from strokes import make_classes, render

__all__ = ["FAMILIES", "SHIFTS", "Family", "draw"]

SIDE = 32
Pixels = NDArray[np.uint8]
Labels = NDArray[np.int64]
Maker = Callable[[np.random.Generator, Labels], Pixels]


@dataclass(frozen=True)
class Family:
    """classes: number of classes. most: number of images that exist, None if any number can be generated."""

    classes: int
    make: Maker
    most: int | None = None


# --- strokes: like the pretraining data of zoo_tiny, but other classes ---


@cache
def _formulas(seed: int, classes: int) -> object:
    return make_classes(classes, seed)


def _strokes(seed: int, classes: int) -> Maker:
    def make(rng: np.random.Generator, labels: Labels) -> Pixels:
        generator = torch.Generator().manual_seed(int(rng.integers(1 << 31)))
        # One image at a time: `render` degrades each part of a batch in one way, so parts would differ from each other.
        each = torch.from_numpy(labels).split(1)
        images = torch.cat([render(_formulas(seed, classes), label, generator) for label in each])  # type: ignore[arg-type]
        return (images.clamp(0, 1) * 255).round().byte().permute(0, 2, 3, 1).numpy()

    return make


# --- shapes: filled polygons and discs, random colours ---


def _polygon(rng: np.random.Generator, corners: int, inner: float) -> list[tuple[float, float]]:
    """A star with `corners`, a regular polygon if inner is 1; random rotation, position and size."""
    centre = 64 + rng.uniform(-18, 18, 2)
    radius, turn = rng.uniform(28, 52), rng.uniform(0, 2 * np.pi)
    points = []
    for k in range(2 * corners if inner < 1 else corners):
        r = radius * (inner if inner < 1 and k % 2 else 1)
        angle = turn + k * 2 * np.pi / (2 * corners if inner < 1 else corners)
        points.append((float(centre[0] + r * np.cos(angle)), float(centre[1] + r * np.sin(angle))))
    return points


_SHAPES = [(3, 1.0), (4, 1.0), (5, 1.0), (6, 1.0), (24, 1.0), (3, 0.45), (4, 0.45), (5, 0.45), (6, 0.45), (8, 0.6)]
_MORE_SHAPES = [(7, 1.0), (9, 1.0), (7, 0.3), (9, 0.5), (4, 0.2), (5, 0.8), (3, 0.25), (12, 0.7)]


def _shapes(kinds: list[tuple[int, float]], *, outline: bool = False) -> Maker:
    def make(rng: np.random.Generator, labels: Labels) -> Pixels:
        out = np.empty((len(labels), SIDE, SIDE, 3), np.uint8)
        for i, label in enumerate(labels):
            back, fore = rng.integers(0, 256, 3), rng.integers(0, 256, 3)
            while np.abs(back - fore).sum() < 180:
                fore = rng.integers(0, 256, 3)
            image = Image.new("RGB", (128, 128), tuple(map(int, back)))
            points = _polygon(rng, *kinds[label])
            if outline:
                ImageDraw.Draw(image).line([*points, points[0]], fill=tuple(map(int, fore)), width=8)
            else:
                ImageDraw.Draw(image).polygon(points, fill=tuple(map(int, fore)))
            out[i] = np.asarray(image.resize((SIDE, SIDE), Image.Resampling.BOX))
        return out

    return make


# --- textures ---


def _gratings(rng: np.random.Generator, labels: Labels) -> Pixels:
    """Waves in eight directions, with random frequency, phase and colours."""
    y, x = np.mgrid[:SIDE, :SIDE]
    out = np.empty((len(labels), SIDE, SIDE, 3), np.uint8)
    for i, label in enumerate(labels):
        angle = label * np.pi / 8 + rng.normal(0, 0.06)
        wave = np.sin((x * np.cos(angle) + y * np.sin(angle)) * rng.uniform(0.4, 1.4) + rng.uniform(0, 2 * np.pi))
        one, other = rng.uniform(0, 255, 3), rng.uniform(0, 255, 3)
        mixed = (wave[..., None] + 1) / 2
        out[i] = np.clip(mixed * one + (1 - mixed) * other + rng.normal(0, 12, (SIDE, SIDE, 3)), 0, 255)
    return out


def _grains(rng: np.random.Generator, labels: Labels) -> Pixels:
    """Six sizes of grain: blurred noise, normalized to the same contrast."""
    out = np.empty((len(labels), SIDE, SIDE, 3), np.uint8)
    for i, label in enumerate(labels):
        noise = Image.fromarray(rng.integers(0, 256, (64, 64), np.uint8)).filter(
            ImageFilter.GaussianBlur(float(0.4 * 1.45**label * rng.uniform(0.9, 1.1)))
        )
        field = np.asarray(noise, np.float64)[16:48, 16:48]
        field = (field - field.mean()) / max(field.std(), 1e-6)
        one, other = rng.uniform(0, 255, 3), rng.uniform(0, 255, 3)
        mixed = np.clip(0.5 + 0.25 * field, 0, 1)[..., None]
        out[i] = mixed * one + (1 - mixed) * other
    return out


@cache
def _photographs() -> list[NDArray[np.uint8]]:
    import skimage.data
    from sklearn.datasets import load_sample_images

    names = ("astronaut", "chelsea", "coffee", "rocket", "immunohistochemistry", "retina")
    found = [np.asarray(image) for image in load_sample_images().images]
    for name in names:
        try:
            found.append(np.asarray(getattr(skimage.data, name)())[..., :3])
        except (OSError, ModuleNotFoundError, ImportError):  # not bundled with the package
            continue
    return found


def _patches(rng: np.random.Generator, labels: Labels) -> Pixels:
    """The class is the photograph that a patch is from."""
    photographs = _photographs()
    out = np.empty((len(labels), SIDE, SIDE, 3), np.uint8)
    for i, label in enumerate(labels):
        photo = photographs[label]
        side = int(rng.integers(40, 120))
        top, left = rng.integers(0, photo.shape[0] - side), rng.integers(0, photo.shape[1] - side)
        part = Image.fromarray(photo[top : top + side, left : left + side])
        out[i] = np.asarray(part.resize((SIDE, SIDE), Image.Resampling.BOX))
    return out


# --- counting, colours, digits ---


def _dots(rng: np.random.Generator, labels: Labels) -> Pixels:
    """The class is the number of dots, one to eight, of random size and colour."""
    out = np.empty((len(labels), SIDE, SIDE, 3), np.uint8)
    for i, label in enumerate(labels):
        back = tuple(map(int, rng.integers(0, 100, 3)))
        image = Image.new("RGB", (128, 128), back)
        pen, placed = ImageDraw.Draw(image), []
        while len(placed) < label + 1:
            x, y, r = *rng.uniform(14, 114, 2), rng.uniform(7, 12)
            if all((x - a) ** 2 + (y - b) ** 2 > (r + c + 4) ** 2 for a, b, c in placed):
                placed.append((x, y, r))
                pen.ellipse((x - r, y - r, x + r, y + r), fill=tuple(map(int, rng.integers(150, 256, 3))))
        out[i] = np.asarray(image.resize((SIDE, SIDE), Image.Resampling.BOX))
    return out


def _hues(rng: np.random.Generator, labels: Labels) -> Pixels:
    """Strokes in six hues; their shape does not depend on the class."""
    ink = _strokes(77, 50)(rng, rng.integers(0, 50, len(labels))).mean(3, keepdims=True) / 255
    hue = (labels / 6 + rng.uniform(-0.05, 0.05, len(labels))) % 1
    colour = np.stack([np.clip(np.abs(((hue + k / 3) % 1) * 6 - 3) - 1, 0, 1) for k in range(3)], 1)
    return (np.clip(ink * colour[:, None, None], 0, 1) * 255).astype(np.uint8)


@cache
def _digit_images() -> tuple[Pixels, Labels]:
    from sklearn.datasets import load_digits

    digits = load_digits()
    grey = [np.asarray(Image.fromarray((i * 15.9375).astype(np.uint8)).resize((SIDE, SIDE))) for i in digits.images]
    return np.repeat(np.stack(grey)[..., None], 3, axis=3), digits.target.astype(np.int64)


def _digits(first: int, last: int) -> Maker:
    """Real digits, without repetition in a draw until all are used."""

    def make(rng: np.random.Generator, labels: Labels) -> Pixels:
        images, targets = _digit_images()
        out = np.empty((len(labels), SIDE, SIDE, 3), np.uint8)
        for label in range(last - first + 1):
            wanted = np.flatnonzero(labels == label)
            there = rng.permutation(np.flatnonzero(targets == first + label))
            out[wanted] = images[np.resize(there, len(wanted))]
        return out

    return make


FAMILIES: dict[str, Family] = {
    "strokes": Family(10, _strokes(4242, 10)),
    "strokes, many": Family(40, _strokes(515, 40)),
    "shapes": Family(len(_SHAPES), _shapes(_SHAPES)),
    "shapes, others": Family(len(_MORE_SHAPES), _shapes(_MORE_SHAPES)),
    "outlines": Family(len(_SHAPES), _shapes(_SHAPES, outline=True)),
    "gratings": Family(8, _gratings),
    "grains": Family(6, _grains),
    "patches": Family(len(_photographs()), _patches),
    "dots": Family(8, _dots),
    "hues": Family(6, _hues),
    "digits": Family(10, _digits(0, 9), most=1797),
    "digits 5-9": Family(5, _digits(5, 9), most=890),
}


# --- shifts of the input ---


def _noise(strength: float) -> Callable[[np.random.Generator, Pixels], Pixels]:
    return lambda rng, x: np.clip(x + rng.normal(0, 255 * strength, x.shape), 0, 255).astype(np.uint8)


def _blur(radius: float) -> Callable[[np.random.Generator, Pixels], Pixels]:
    def blur(_: np.random.Generator, x: Pixels) -> Pixels:
        return np.stack([np.asarray(Image.fromarray(i).filter(ImageFilter.GaussianBlur(radius))) for i in x])

    return blur


SHIFTS: dict[str, Callable[[np.random.Generator, Pixels], Pixels]] = {
    "": lambda _, x: x,
    "noise .2": _noise(0.2),
    "noise .5": _noise(0.5),
    "blur 2": _blur(2.0),
    "contrast .15": lambda _, x: (128 + (x.astype(np.float64) - 128) * 0.15).astype(np.uint8),
    "negative red": lambda _, x: np.concatenate([255 - x[..., :1], x[..., 1:] // 3], axis=3),
}


def draw(
    family: str, shift: str, parts: tuple[int, ...], seed: int, *, permuted: bool = False
) -> list[tuple[Pixels, Labels]]:
    """Images (n, 32, 32, 3) and labels (n,) for each number of images n in `parts`.

    Classes are as balanced as n allows, in random order; no real image is in two parts. permuted: with permuted labels.
    """
    rng = np.random.default_rng([seed, *family.encode(), *shift.encode()])
    found = FAMILIES[family]
    labels = np.concatenate([rng.permutation(np.arange(n) % found.classes) for n in parts]).astype(np.int64)
    pixels = SHIFTS[shift](rng, found.make(rng, labels))
    ends = np.cumsum(parts)[:-1]
    given = [rng.permutation(some) if permuted else some for some in np.split(labels, ends)]
    return list(zip(np.split(pixels, ends), given, strict=True))
