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


def test_stored_images_and_groups_from_training_to_evaluation(zoo, rows):
    parquet = pytest.importorskip("pyarrow.parquet")
    pyarrow = pytest.importorskip("pyarrow")
    parquet.write_table(pyarrow.Table.from_pylist(rows), "t.parquet", row_group_size=5)
    said = zoo("finetune", "test_resnet", "--data", "t.parquet", "--group-column", "patient", *QUICK, "-o", "run")
    assert said.code == 0, said.err
    assert "whole groups" in said.err
    held_out = {int(n.rpartition(" ")[2]) - 1 for n in Path("run/split.txt").read_text().splitlines() if "row" in n}
    patients = {rows[i]["patient"] for i in held_out}
    assert {i for i, row in enumerate(rows) if row["patient"] in patients} == held_out
    said = zoo("evaluate", "run")
    assert said.code == 0, said.err
    assert f"{len(held_out)} of 24 images held out" in said.err
    assert "have changed" not in said.err
    # The recipe of the run is whole: it makes the same run again.
    again = zoo("finetune", "--recipe", "run", "-o", "again")
    assert again.code == 0, again.err
    assert Path("again/split.txt").read_text() == Path("run/split.txt").read_text()
    Path("list.txt").write_text("".join(f"{i}.png {row['label']}\n" for i, row in enumerate(rows)))
    said = zoo("evaluate", "run", "--data", "list.txt")
    assert said.code == 0, said.err
    assert "all 24 images found" in said.err


def test_a_data_set_of_hugging_face_keeps_its_place_in_the_recipe(zoo, rows, tmp_path, monkeypatch):
    datasets = pytest.importorskip("datasets")
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "hf-cache")
    features = datasets.Features({"image": datasets.Image(), "label": datasets.Value("string")})
    images = [{"bytes": row["image"], "path": None} for row in rows]
    labels = [row["label"] for row in rows]
    datasets.Dataset.from_dict({"image": images, "label": labels}, features=features).save_to_disk("saved")
    said = zoo("finetune", "test_resnet", "--data", "hf:./saved", *QUICK, "-o", "run")
    assert said.code == 0, said.err
    assert f"hf:{tmp_path / 'saved'}" in Path("run/recipe.yaml").read_text()
    monkeypatch.chdir(tmp_path.parent)
    said = zoo("evaluate", tmp_path / "run", "--data", f"hf:{tmp_path / 'saved'}")
    assert said.code == 0, said.err


def test_groups_are_refused_where_there_are_no_columns(zoo):
    said = zoo("finetune", "test_resnet", "--data", "digits", "--group-column", "patient", "--dry-run")
    assert (said.code, "digits is not a table and has no columns" in said.err) == (2, True)
    said = zoo("finetune", "test_resnet", "--data", "torchvision:FakeData:20", "--group-column", "patient", "--dry-run")
    assert (said.code, "torchvision:FakeData:20 is none" in said.err) == (2, True)
