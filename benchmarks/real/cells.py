"""Cells of the study, their training folders, and the file of results."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import threading
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path
from typing import Any

from images import fraction
from strategies import Strategy

MIN_PER_CLASS = 2
_SOURCE = Path(__file__).resolve().parents[2] / "zoo"


@dataclass(frozen=True)
class Cell:
    """What is trained on.

    Attributes:
        set, backbone: names of an image set and of a timm model with a file of weights.
        n: number of training images.
        seed: draws the images and seeds the training.
        img_size: pixels.
    """

    set: str
    backbone: str
    n: int
    seed: int
    img_size: int

    def __str__(self) -> str:
        return f"{self.set} {self.backbone} N={self.n} seed={self.seed} {self.img_size}px"


def make_cells(
    data: Path, sets: Iterable[str], backbones: Iterable[str], sizes: Iterable[int], seeds: Iterable[int], img_size: int
) -> Iterator[Cell]:
    """All different cells; the number of images is brought between two per class and the whole training part."""
    sizes, backbones = list(sizes), list(backbones)
    names = list(sets)
    for seed in seeds:
        for name in names:
            images = train_images(data / name)
            most = sum(map(len, images.values()))
            for n in sorted({min(max(size, MIN_PER_CLASS * len(images)), most) for size in sizes}):
                yield from (Cell(name, backbone, n, seed, img_size) for backbone in backbones)


def train_images(folder: Path) -> dict[str, list[Path]]:
    """Class → files of FOLDER/train."""
    return {c.name: sorted(c.glob("*.png")) for c in sorted((folder / "train").iterdir())}


def choose(images: dict[str, list[Path]], n: int, seed: int) -> list[Path]:
    """`n` files: one of each class in turn, in an order drawn by hash; a smaller `n` is a part of a larger one."""
    order = {c: sorted(files, key=lambda f: fraction(f"{seed} {c} {f.name}")) for c, files in images.items()}
    ranked = [(rank, fraction(f"{seed} {c}"), file) for c, files in order.items() for rank, file in enumerate(files)]
    return [file for _, _, file in sorted(ranked)[:n]]


def make_folder(cell: Cell, data: Path, folder: Path) -> None:
    """Write the training images of a cell into FOLDER/CLASS."""
    shutil.rmtree(folder, ignore_errors=True)
    for file in choose(train_images(data / cell.set), cell.n, cell.seed):
        to = folder / file.parent.name / file.name
        to.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(file, to)


class Results:
    """results.jsonl in the folder of the study: one line per training, only ever added to. Threads may share it."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._file = root / "results.jsonl"
        self._lock = threading.Lock()
        self._lines: dict[str, dict[str, Any]] = {}
        if self._file.is_file():
            for text in self._file.read_text(encoding="utf-8").splitlines():
                line = json.loads(text)
                self._lines[line["key"]] = line

    def get(self, cell: Cell, strategy: Strategy) -> dict[str, Any] | None:
        """The latest result of what `strategy` trains in `cell`, if there is one; `top1` in [0, 1], `cpu_s`."""
        return self._lines.get(self._key(cell, strategy))

    def is_current(self, cell: Cell, strategy: Strategy) -> bool:
        """Whether there is a result, of the present code where that is what chooses the training."""
        line = self.get(cell, strategy)
        return line is not None and (not strategy.follows_code or line["code"] == code_digest())

    def add(self, cell: Cell, name: str, strategy: Strategy, found: dict[str, Any]) -> None:
        key = self._key(cell, strategy)
        line = {"key": key, **asdict(cell), "strategy": name, "code": code_digest(), **found}
        with self._lock, self._file.open("a", encoding="utf-8") as file:
            file.write(json.dumps(line) + "\n")
            self._lines[key] = line

    def _key(self, cell: Cell, strategy: Strategy) -> str:
        """What was trained: the images, the weights, and the settings."""
        of = {
            **asdict(cell),
            "data": folder_digest(self._root / "data" / cell.set),
            "weights": file_digest(weights_file(self._root, cell.backbone)),
            "runner": strategy.runner,
            "options": strategy.options,
        }
        return hashlib.sha256(json.dumps(of, sort_keys=True).encode()).hexdigest()[:20]


def weights_file(root: Path, backbone: str) -> Path:
    return root / "weights" / f"{backbone}.safetensors"


@cache
def file_digest(file: Path) -> str:
    return hashlib.sha256(file.read_bytes()).hexdigest()[:20]


@cache
def folder_digest(folder: Path) -> str:
    """Of the names and sizes of all files."""
    files = sorted(Path(at, name) for at, _, names in os.walk(folder) for name in names)
    text = "\n".join(f"{file.relative_to(folder)} {file.stat().st_size}" for file in files)
    return hashlib.sha256(text.encode()).hexdigest()[:20]


@cache
def code_digest() -> str:
    """Of zoo's source files."""
    found = hashlib.sha256()
    for file in sorted(f for f in _SOURCE.rglob("*") if f.suffix in (".py", ".yaml", ".csv")):
        found.update(file.read_bytes())
    return found.hexdigest()[:20]
