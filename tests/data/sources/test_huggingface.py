"""Hugging Face data sets: local ones, and from a local hub through the library's client."""

from __future__ import annotations

import hashlib
import json
import os
import pickle
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from zoo.data import Columns, data_config, make_loader, open_data, open_eval
from zoo.errors import DataError, UsageError

datasets = pytest.importorskip("datasets")

LABELS = [0] * 6 + [1] * 6


@pytest.fixture(autouse=True)
def _offline(tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "hf-cache")
    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", True)
    datasets.disable_progress_bars()


@pytest.fixture
def folder(tmp_path) -> list[str]:
    """photos/cat and photos/dog of six images each, turned by EXIF; their paths."""
    rng = np.random.default_rng(0)
    turned = Image.Exif()
    turned[0x0112] = 6
    paths = []
    for label in ("cat", "dog"):
        (tmp_path / "photos" / label).mkdir(parents=True)
        for i in range(6):
            path = tmp_path / "photos" / label / f"{i}.jpg"
            Image.fromarray(rng.integers(0, 256, (20, 30, 3), dtype=np.uint8)).save(path, exif=turned)
            paths.append(str(path))
    return paths


def dataset(paths: list[str], **columns: tuple[object, list]):
    """Images as bytes, and further columns as (feature, values)."""
    features = {"image": datasets.Image(), **{name: kind for name, (kind, _) in columns.items()}}
    values = {"image": [{"bytes": Path(p).read_bytes(), "path": None} for p in paths]}
    values |= {name: cells for name, (_, cells) in columns.items()}
    return datasets.Dataset.from_dict(values, features=datasets.Features(features))


def pets(paths: list[str]):
    return dataset(paths, label=(datasets.ClassLabel(names=["cat", "dog"]), LABELS))


def pixels(*sources) -> dict[bytes, str]:
    return {s.read(i).tobytes(): s.classes[s.targets[i]] for s in sources for i in range(len(s))}


def test_a_saved_data_set_equals_the_folder(folder, preprocess):
    pets(folder).save_to_disk("saved")
    data, other = open_data(data_config("hf:saved")), open_data(data_config("photos"))
    assert data.name == "saved"
    assert data.train.read(0).shape == (30, 20, 3)  # decoded by our rules, which turn it
    assert pixels(data.train, data.val) == pixels(other.train, other.val)
    assert data.train.source.where(2) == "hf:saved/row 3"
    assert data.train.source.sizes.tolist() == [os.path.getsize(p) for p in folder]
    options = {"preprocess": preprocess, "batch_size": 4, "train": True, "augment": None, "seed": 1}
    alone = [(i.numpy(), t.numpy()) for i, t in make_loader(data.train, workers=0, **options)]
    workers = [(i.numpy(), t.numpy()) for i, t in make_loader(data.train, workers=2, **options)]
    for (a, t), (b, u) in zip(alone, workers, strict=True):
        assert (a == b).all()
        assert (t == u).all()
    assert (pickle.loads(pickle.dumps(data.train)).read(3) == data.train.read(3)).all()


def test_splits_of_the_hub_are_used(folder):
    whole = pets(folder)
    part = whole.select(range(1, 12, 2))
    datasets.DatasetDict(
        {"train": whole.select(range(0, 12, 2)), "validation": part.select(range(4)), "test": part.select([4, 5])}
    ).save_to_disk("parts")
    data = open_data(data_config("hf:./parts"))
    assert (len(data.train), len(data.val)) == (6, 4)
    assert data.rule == "given: 6 training images in parts (train), 4 validation images in parts (validation)"
    assert "not used: test of hf:./parts" in data.notes
    assert len(open_eval(data_config("hf:parts"), ("cat", "dog"), split="test")[0]) == 2
    with pytest.raises(DataError, match="has no split 'tset'"):
        open_eval(data_config("hf:parts"), ("cat", "dog"), split="tset")
    assert len(open_data(data_config("hf:parts", val="hf:parts")).val) == 4


def test_folders_of_images_and_of_parquet_go_through_load_dataset(folder):
    expected = open_data(data_config("photos"))
    found = open_data(data_config("hf:photos"))
    assert pixels(found.train, found.val) == pixels(expected.train, expected.val)
    assert found.train.source.sizes.tolist() == [os.path.getsize(p) for p in folder]
    Path(folder[3]).write_bytes(b"<html>")
    with pytest.raises(DataError, match="hf:photos/train/row 4: not an image: the file holds HTML"):
        open_data(data_config("hf:photos"))
    Path("shards").mkdir()
    pets(folder[:3] + folder[4:9] + folder[9:] + [folder[4]]).to_parquet("shards/train-0.parquet")
    assert open_data(data_config("hf:shards")).classes == ("cat", "dog")
    assert open_data(data_config("shards")).classes == (
        "cat",
        "dog",
    )  # class names, read by zoo's Parquet reader


def test_several_labels_numbers_and_groups(folder):
    names = datasets.ClassLabel(names=["sand", "sea", "sky"])
    tags = [[0], [0, 2], [], *[[1]] * 9]
    ages = [i + 0.5 for i in range(12)]
    who = [f"p{i // 3}" for i in range(12)]
    dataset(
        folder,
        tags=(datasets.List(names), tags),
        age=(datasets.Value("float32"), ages),
        who=(datasets.Value("string"), who),
        box=({"x": datasets.Value("int32")}, [{"x": 1}] * 12),
    ).save_to_disk("saved")
    several = open_data(data_config("hf:saved", Columns(labels=("tags",))))
    assert (several.task, several.classes) == ("multi-label", ("sand", "sea", "sky"))
    assert several.train.source.targets[:3].tolist() == [[1, 0, 0], [1, 0, 1], [0, 0, 0]]
    numbers = open_data(data_config("hf:saved", Columns(labels=("age",), group="who")))
    assert numbers.task == "regression"
    assert numbers.train.source.targets[:, 0].tolist() == ages
    assert not set(numbers.train.groups) & set(numbers.val.groups)


def test_missing_labels_and_images_are_named_by_row(folder):
    found = pets(folder).to_dict()
    found["label"] = [-1 if i == 1 else v for i, v in enumerate(LABELS)]
    features = pets(folder).features
    datasets.Dataset.from_dict(found, features=features).save_to_disk("labels")
    with pytest.raises(DataError, match="no label in column 'label': row 2"):
        open_data(data_config("hf:labels"))
    found = pets(folder).cast_column("image", datasets.Image(decode=False)).to_dict()
    found["image"][2] = None
    datasets.Dataset.from_dict(found, features=features).save_to_disk("images")
    with pytest.raises(DataError, match=r"hf:images/row 3: no image: the cell is empty \(null\)"):
        open_data(data_config("hf:images"))


@pytest.mark.parametrize(
    ("source", "kind", "message", "hint"),
    [
        ("hf:", UsageError, "hf: has no name", "hf:OWNER/NAME"),
        ("hf:./nowhere", DataError, "no such path: ./nowhere", ""),
        ("hf:owner/name", DataError, "is offline (HF_HUB_OFFLINE is set)", "unset HF_HUB_OFFLINE"),
        ("hf:empty", DataError, "cannot read hf:empty", "save_to_disk"),
    ],
)
def test_errors_of_missing_data_sets(source, kind, message, hint, tmp_path):
    (tmp_path / "empty").mkdir()
    with pytest.raises(kind) as e:
        open_data(data_config(source))
    assert message in e.value.message
    assert hint in e.value.hint


def test_names_are_looked_up_on_the_hub(folder, tmp_path):
    """The library's own client talks to a hub on this machine; only its address is another."""
    pets(folder).to_parquet("pets.parquet")
    names = ["hf:owner/pets", "hf:owner/pets:conf", "hf:owner/gated", "hf:owner/none", "hf:owner/script"]
    environment = {**os.environ, "HF_HOME": str(tmp_path / "hf")}
    environment.pop("HF_HUB_OFFLINE", None)
    hub = str(Path(__file__).with_name("data_hub.py"))
    command = [sys.executable, hub, "pets.parquet", *names]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=200, check=False)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    expected = open_data(data_config("photos"))
    mine = sorted(hashlib.sha1(expected.train.read(i).tobytes()).hexdigest() for i in range(len(expected.train)))
    assert found["hf:owner/pets"] == {"name": "owner-pets", "classes": ["cat", "dog"], "train": mine}
    assert "BuilderConfig 'conf' not found" in found["hf:owner/pets:conf"]["message"]
    assert "is gated" in found["hf:owner/gated"]["message"]
    assert "hf auth login" in found["hf:owner/gated"]["hint"]
    assert "not found on the Hugging Face Hub" in found["hf:owner/none"]["message"]
    assert "scripts are no longer supported" in found["hf:owner/script"]["message"]
