"""Fixtures for tests of zoo.data."""

from __future__ import annotations

import json
import pickle
import re
import runpy
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from PIL import Image

from zoo.data import Data, ImageDataset, data_config, open_data
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


@pytest.fixture
def photos(tmp_path: Path) -> list[tuple[str, str]]:
    """photos/cat and photos/dog with six images each; (path, label) of all."""
    rng = np.random.default_rng(0)
    rows = []
    for label in ("cat", "dog"):
        (tmp_path / "photos" / label).mkdir(parents=True)
        for i in range(6):
            path = f"photos/{label}/{i}.png"
            Image.fromarray(rng.integers(0, 256, (20, 30, 3), dtype=np.uint8)).save(tmp_path / path)
            rows.append((path, label))
    return rows


@pytest.fixture
def seen() -> Callable[..., dict[bytes, object]]:
    """`seen(source, …)`: the pixels of every image → its class, or its targets."""

    def look(*sources: ImageDataset) -> dict[bytes, object]:
        found: dict[bytes, object] = {}
        for source in sources:
            for i, target in enumerate(source.targets):
                label = source.classes[target] if source.targets.ndim == 1 else tuple(target.tolist())
                found[source.read(i).tobytes()] = label
        return found

    return look


@pytest.fixture
def same_as_folder(seen: Callable[..., dict[bytes, object]]) -> Callable[[Data], None]:
    """`same_as_folder(data)`: the images and labels are those of the folder `photos`, also once sent to a worker."""

    def compare(data: Data) -> None:
        folder = open_data(data_config("photos"))
        assert seen(data.train, data.val) == seen(folder.train, folder.val)
        assert data.classes == folder.classes
        copy = pickle.loads(pickle.dumps(data.train))
        assert (copy.read(1) == data.train.read(1)).all()
        assert copy.fingerprint() == data.train.fingerprint()

    return compare


@pytest.fixture
def write_json_lines() -> Callable[[str, list[dict[str, Any]]], str]:
    """`write_json_lines(path, rows)` writes them and returns the path."""

    def write(path: str, rows: list[dict[str, Any]]) -> str:
        Path(path).write_text("".join(json.dumps(row) + "\n" for row in rows))
        return path

    return write


@pytest.fixture
def write_parquet() -> Callable[..., str]:
    """`write_parquet(path, {"image": […], "label": […]}, row_group_size=5)` writes them and returns the path."""
    pyarrow = pytest.importorskip("pyarrow")
    parquet = pytest.importorskip("pyarrow.parquet")

    def write(path: str, columns: dict[str, list[Any]], **options: Any) -> str:
        parquet.write_table(pyarrow.table(columns), path, **options)
        return path

    return write
