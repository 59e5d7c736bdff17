"""A folder of everything that goes wrong, through check, finetune and predict: a clear outcome each, and none hangs."""

from __future__ import annotations

import io
import json
import runpy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

HOSTILE = runpy.run_path(str(Path(__file__).parents[2] / "data" / "hostile.py"))
KINDS = {"jpg": "JPEG", "png": "PNG", "webp": "WEBP", "bmp": "BMP", "tif": "TIFF", "gif": "GIF"}
EXTREME = {"long.png": (10, 20_000), "wide.jpg": (4, 65_000), "tall.png": (65_000, 3)}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, set[str]]:
    """cat/ and dog/ of three sound images each, and hostile/; with the names of those that cannot be read."""
    root = tmp_path_factory.mktemp("wild") / "data"
    rng = np.random.default_rng(0)
    for name in ("cat", "dog", "hostile"):
        (root / name).mkdir(parents=True)
    for name in ("cat", "dog"):
        for number in range(3):
            pixels = rng.integers(0, 256, (40, 50, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(root / name / f"{number}.png")
    HOSTILE["make_hostile"](root / "hostile")
    unreadable = set(HOSTILE["UNREADABLE"])
    noise = Image.fromarray(rng.integers(0, 256, (60, 80, 3), dtype=np.uint8))
    for ending, kind in KINDS.items():
        buffer = io.BytesIO()
        noise.save(buffer, kind)
        data = buffer.getvalue()
        for tenth in range(1, 10):
            name = f"cut-{tenth}0.{ending}"
            (root / "hostile" / name).write_bytes(data[: len(data) * tenth // 10])
            unreadable.add(name)
    for name, (height, width) in EXTREME.items():
        Image.new("RGB", (width, height), (10, 20, 30)).save(root / "hostile" / name)
    return root, unreadable


def test_check_reports_each_file(folder: tuple[Path, set[str]], zoo: Callable[..., Any]) -> None:
    root, unreadable = folder
    result = zoo("check", root, "--json")
    assert result.code == 3
    assert "Traceback" not in result.err
    text = json.dumps(json.loads(result.out))
    for name in unreadable:
        assert name in text, name


def test_finetune_refuses_or_skips_unreadable_files(folder: tuple[Path, set[str]], zoo: Callable[..., Any]) -> None:
    root, unreadable = folder
    args = ("finetune", "zoo_tiny", "--data", root, "--epochs", 1, "--no-amp", "--img-size", 32)
    result = zoo(*args)
    assert result.code == 3
    assert f"{len(unreadable)} unreadable files:" in result.err
    assert "data.unreadable=skip" in result.err
    assert not Path("runs").exists()
    result = zoo(*args, "--set", "data.unreadable=skip", "--set", "augment.name=light", "-o", "run")
    assert result.code == 0, result.err
    left_out = {Path(line["path"]).name for line in json.loads(Path("run/run.json").read_text())["skipped_files"]}
    assert left_out == unreadable | set(HOSTILE["LINKS"])


def test_predict_skips_unreadable_files(folder: tuple[Path, set[str]], zoo: Callable[..., Any], make_run: Any) -> None:
    root, unreadable = folder
    run = make_run("zoo_tiny", ("cat", "dog"))
    result = zoo("predict", run.path, root)
    assert result.code == 3  # some could not be read
    predicted = {Path(line.split("\t")[0]).name for line in result.out.splitlines()}
    assert predicted >= {*HOSTILE["READABLE"], *EXTREME}
    for name in unreadable:
        assert name in result.err, name
        assert name not in predicted
