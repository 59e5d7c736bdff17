"""Fixtures of the data room."""

from __future__ import annotations

import re
import runpy
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from PIL import Image

from zoo.preprocess import IMAGENET_MEAN, IMAGENET_STD, Preprocess


@pytest.fixture
def hostile() -> Any:
    """`make_hostile(folder)` and the tables of what it writes."""
    return SimpleNamespace(**runpy.run_path(str(Path(__file__).with_name("hostile.py"))))


@pytest.fixture
def preprocess() -> Preprocess:
    return Preprocess((3, 32, 32), IMAGENET_MEAN, IMAGENET_STD, "bilinear", 0.875)


@pytest.fixture
def make_folder(tmp_path: Path) -> Callable[..., Path]:
    """`make_folder("root", {"train/cat": 3, "train/dog": 2})` writes that many small PNGs of different levels."""

    def make(name: str, counts: dict[str, int]) -> Path:
        rng = np.random.default_rng(0)
        for below, count in counts.items():
            (tmp_path / name / below).mkdir(parents=True)
            for i in range(count):
                pixels = rng.integers(0, 256, (12, 16, 3), dtype=np.uint8)
                Image.fromarray(pixels).save(tmp_path / name / below / f"{i:03d}.png")
        return tmp_path / name

    return make


@pytest.fixture
def make_table(tmp_path: Path) -> Callable[..., str]:
    """`make_table(text, name="t.csv")` writes the table, and a small PNG for every cell of it that ends in .png."""

    def make(text: str | bytes, name: str = "t.csv", *, images: bool = True) -> str:
        data = text if isinstance(text, bytes) else text.encode()
        (tmp_path / name).write_bytes(data)
        cells = re.split(r"[,;\t\n\"]", data.decode("utf-8", "replace").replace("\0", "")) if images else []
        for cell in cells:
            path = tmp_path / cell.strip(" \r\ufeff")
            if path.suffix != ".png":
                continue
            path.parent.mkdir(parents=True, exist_ok=True)
            if not path.exists():
                Image.new("RGB", (6, 5)).save(path)
        return name

    return make
