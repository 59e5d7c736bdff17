"""From pictures to a set: groups of near-copies, a split that no group crosses, and the files of the class folders."""

from __future__ import annotations

import hashlib
import re
from collections import Counter, defaultdict
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

LONGEST_SIDE = 256  # pixels; the largest input size of the study is 260
THUMBNAIL = 16  # pixels
# First values: with these, components of near-copies among the icons have a plausible size. Pairs were not inspected.
SAME_SHAPE = 0.96  # correlation of grey thumbnails
SAME_PICTURE = 4.0  # mean absolute difference of RGB thumbnails, of 255


@dataclass
class Picture:
    """One image of a set.

    Attributes:
        label: the class.
        name: part of the file name, unique within the set after `slug`.
        group: pictures of one group are never split between train and test.
        image: any mode; transparent parts become white.
    """

    label: str
    name: str
    group: str
    image: Image.Image

    def __post_init__(self) -> None:
        self.image = on_white(self.image)


@dataclass(frozen=True)
class Rules:
    """How the pictures of a set are split.

    Attributes:
        test_share: share of the images in test.
        train_cap, test_cap: most images per class.
        compare: whether near-copies are also found by comparing pixels; not where whole decks are the groups.
        test_groups: the groups of the test part, where they are named; else they are drawn by hash.
    """

    test_share: float = 1 / 3
    train_cap: int = 100
    test_cap: int = 50
    compare: bool = True
    test_groups: tuple[str, ...] = ()


MIN_TRAIN, MIN_TEST = 4, 2  # images per class; classes with fewer are left out


def slug(text: str) -> str:
    return re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-")


def fraction(text: str) -> float:
    """A number in [0, 1) from a hash of `text`: a draw that does not depend on what else is drawn."""
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") / 2**64


def on_white(image: Image.Image) -> Image.Image:
    """RGB on white, its longest side at most LONGEST_SIDE."""
    image = image.convert("RGBA")
    image.thumbnail((LONGEST_SIDE, LONGEST_SIDE), Image.Resampling.LANCZOS)
    back = Image.new("RGBA", image.size, "white")
    back.alpha_composite(image)
    return back.convert("RGB")


def crop_white(image: Image.Image) -> Image.Image:
    """An RGB image without its white border."""
    rows, columns = np.nonzero((np.asarray(image) < 250).any(2))
    if not len(rows):
        return image
    return image.crop((int(columns.min()), int(rows.min()), int(columns.max()) + 1, int(rows.max()) + 1))


def write_set(pictures: list[Picture], folder: Path, rules: Rules) -> dict[str, Counter[str]]:
    """Write FOLDER/{train,test}/CLASS/NAME.png and return the number of images per part and class."""
    pictures = sorted({(p.label, slug(p.name)): p for p in pictures}.values(), key=lambda p: (p.label, p.name))
    if rules.compare:
        pictures = merge_near_copies(pictures)
    parts = split(pictures, rules)
    for part, chosen in parts.items():
        for picture in chosen:
            file = folder / part / slug(picture.label) / f"{slug(picture.name)}.png"
            file.parent.mkdir(parents=True, exist_ok=True)
            picture.image.save(file)
    return {part: Counter(slug(p.label) for p in chosen) for part, chosen in parts.items()}


def merge_near_copies(pictures: list[Picture]) -> list[Picture]:
    """The pictures with groups of near-copies merged.

    Near-copies have the same shape, also in other colours, at another size or flipped. Of the same picture in one
    class, one is taken; the same picture in two classes has no right answer and is left out.
    """
    colours = np.stack([_thumbnail(p.image) for p in pictures])  # (N, 16, 16, 3)
    grey = colours.mean(3)
    upright, flipped = _unit_rows(grey), _unit_rows(grey[:, :, ::-1])
    alike = np.maximum(upright @ upright.T, upright @ flipped.T) > SAME_SHAPE
    parent = _Union([p.group for p in pictures])
    left_out: set[int] = set()
    for i, j in np.argwhere(np.triu(alike, 1)):
        parent.join(pictures[i].group, pictures[j].group)
        if np.abs(colours[i] - colours[j]).mean() < SAME_PICTURE:
            left_out.add(int(j))
            if pictures[i].label != pictures[j].label:
                left_out.add(int(i))
    merged = [Picture(p.label, p.name, parent.find(p.group), p.image) for p in pictures]
    return [p for i, p in enumerate(merged) if i not in left_out]


def split(pictures: list[Picture], rules: Rules) -> dict[str, list[Picture]]:
    """The pictures of train and of test; a group is in one of them as a whole."""
    groups: dict[str, list[Picture]] = defaultdict(list)
    for picture in pictures:
        groups[picture.group].append(picture)
    total = Counter(p.label for p in pictures)
    in_test: Counter[str] = Counter()
    parts: dict[str, list[Picture]] = {"train": [], "test": []}
    for name in sorted(groups, key=lambda name: fraction(f"split {name}")):
        size = Counter(p.label for p in groups[name])
        fits = all(in_test[c] + size[c] <= rules.test_share * total[c] for c in size)
        to_test = name in rules.test_groups if rules.test_groups else fits
        parts["test" if to_test else "train"] += groups[name]
        if to_test:
            in_test += size
    caps = {"train": rules.train_cap, "test": rules.test_cap}
    parts = {part: _capped(chosen, caps[part]) for part, chosen in parts.items()}
    counts = {part: Counter(p.label for p in chosen) for part, chosen in parts.items()}
    labels = {c for c in total if counts["train"][c] >= MIN_TRAIN and counts["test"][c] >= MIN_TEST}
    return {part: [p for p in chosen if p.label in labels] for part, chosen in parts.items()}


def _capped(pictures: list[Picture], most: int) -> list[Picture]:
    chosen: list[Picture] = []
    count: Counter[str] = Counter()
    for picture in sorted(pictures, key=lambda p: fraction(f"cap {p.label} {p.name}")):
        if count[picture.label] < most:
            count[picture.label] += 1
            chosen.append(picture)
    return chosen


def _thumbnail(image: Image.Image) -> NDArray[np.float32]:
    """`(16, 16, 3)` of the part that is not white."""
    small = crop_white(image).resize((THUMBNAIL, THUMBNAIL), Image.Resampling.BOX)
    return np.asarray(small, dtype=np.float32)


def _unit_rows(grey: NDArray[np.float32]) -> NDArray[np.float32]:
    """`(N, H, W)` as `(N, H·W)` with mean 0 and length 1, so that products are correlations."""
    rows = grey.reshape(len(grey), -1)
    rows = rows - rows.mean(1, keepdims=True)
    found: NDArray[np.float32] = rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-6)
    return found


class _Union:
    """Union-find over names."""

    def __init__(self, names: list[str]) -> None:
        self._parent = {name: name for name in names}

    def find(self, name: str) -> str:
        while self._parent[name] != name:
            self._parent[name] = self._parent[self._parent[name]]
            name = self._parent[name]
        return name

    def join(self, one: str, other: str) -> None:
        first, second = sorted((self.find(one), self.find(other)))
        self._parent[second] = first
