"""Fixtures of the data room."""

from __future__ import annotations

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
