"""Data sets that are no folders, from the first command to the evaluation of the run."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

QUICK = ("--weights", "none", "--img-size", "32", "--epochs", "1", "--device", "cpu", "--seed", "3")


@pytest.fixture
def rows(tmp_path) -> list[dict[str, object]]:
    """24 images of two classes and eight patients, with their bytes."""
    rng = np.random.default_rng(0)
    found = []
    for i in range(24):
        Image.fromarray(rng.integers(0, 256, (20, 24, 3), dtype=np.uint8)).save(tmp_path / f"{i}.png")
        data = (tmp_path / f"{i}.png").read_bytes()
        found.append({"image": data, "label": ("cat", "dog")[i % 2], "patient": f"p{i // 3}"})
    return found


def test_images_in_parquet_and_groups_from_training_to_evaluation(zoo, rows):
    parquet = pytest.importorskip("pyarrow.parquet")
    pyarrow = pytest.importorskip("pyarrow")
    parquet.write_table(pyarrow.Table.from_pylist(rows), "t.parquet", row_group_size=5)
    result = zoo("finetune", "test_resnet", "--data", "t.parquet", "--group-column", "patient", *QUICK, "-o", "run")
    assert result.code == 0, result.err
    assert "whole groups" in result.err
    held_out = {int(n.rpartition(" ")[2]) - 1 for n in Path("run/split.txt").read_text().splitlines() if "row" in n}
    patients = {rows[i]["patient"] for i in held_out}
    assert {i for i, row in enumerate(rows) if row["patient"] in patients} == held_out
    result = zoo("evaluate", "run")
    assert result.code == 0, result.err
    assert f"validation: {len(held_out)} of 24 images" in result.err
    assert "have changed" not in result.err
    # The recipe of the run is whole: it makes the same run again.
    again = zoo("finetune", "--recipe", "run", "-o", "again")
    assert again.code == 0, again.err
    assert Path("again/split.txt").read_text() == Path("run/split.txt").read_text()
    Path("list.txt").write_text("".join(f"{i}.png {row['label']}\n" for i, row in enumerate(rows)))
    result = zoo("evaluate", "run", "--data", "list.txt")
    assert result.code == 0, result.err
    assert "all 24 images found" in result.err


def test_a_hugging_face_folder_is_recorded_in_the_recipe(zoo, rows, tmp_path, monkeypatch):
    datasets = pytest.importorskip("datasets")
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "hf-cache")
    features = datasets.Features({"image": datasets.Image(), "label": datasets.Value("string")})
    images = [{"bytes": row["image"], "path": None} for row in rows]
    labels = [row["label"] for row in rows]
    datasets.Dataset.from_dict({"image": images, "label": labels}, features=features).save_to_disk("saved")
    result = zoo("finetune", "test_resnet", "--data", "hf:./saved", *QUICK, "-o", "run")
    assert result.code == 0, result.err
    assert f"hf:{tmp_path / 'saved'}" in Path("run/recipe.yaml").read_text()
    monkeypatch.chdir(tmp_path.parent)
    result = zoo("evaluate", tmp_path / "run", "--data", f"hf:{tmp_path / 'saved'}")
    assert result.code == 0, result.err


def test_group_column_without_a_table_is_an_error(zoo):
    result = zoo("finetune", "test_resnet", "--data", "digits", "--group-column", "patient", "--dry-run")
    assert (result.code, "digits is not a table and has no columns" in result.err) == (2, True)
    result = zoo(
        "finetune", "test_resnet", "--data", "torchvision:FakeData:20", "--group-column", "patient", "--dry-run"
    )
    assert (result.code, "torchvision:FakeData:20 is not a table" in result.err) == (2, True)
