"""WebDataset shards: files, samples, labels, and the order of reading."""

from __future__ import annotations

import io
import json
import tarfile
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from zoo.data import Columns, data_config, make_loader, open_data, open_eval
from zoo.data.open import open_listing
from zoo.data.sources.shard_paths import find_shards, is_webdataset, sample_key
from zoo.errors import DataError, UsageError
from zoo.preprocess import Preprocess

Write = Callable[..., str]


def jpeg(level: int) -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (9, 7), (level % 256, 20, 30)).save(buffer, "PNG")
    return buffer.getvalue()


@pytest.fixture
def write(tmp_path: Path) -> Write:
    """`write("train-0.tar", [{"png": b"…", "cls": "1"}, …])` writes samples 000, 001 …; what is no bytes as JSON or
    text."""

    def inner(name: str, samples: Iterable[dict[str, Any]], first: int = 0) -> str:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        with tarfile.open(path, "w") as t:
            for key, sample in enumerate(samples, first):
                for ending, value in sample.items():
                    text = (
                        value if isinstance(value, str) else json.dumps(value) if not isinstance(value, bytes) else ""
                    )
                    data = value if isinstance(value, bytes) else text.encode()
                    info = tarfile.TarInfo(f"{key:03d}.{ending}")
                    info.size = len(data)
                    t.addfile(info, io.BytesIO(data))
        return str(path)

    return inner


def plain(n: int, classes: int = 2) -> list[dict[str, Any]]:
    return [{"png": jpeg(10 * i), "cls": str(i % classes)} for i in range(n)]


def test_a_pattern_a_folder_and_one_shard(write: Write, tmp_path: Path) -> None:
    for i in range(3):
        write(f"set/train-{i:02d}.tar", plain(8), first=8 * i)
    whole = open_data(data_config("set/train-{00..02}.tar", val_fraction=0.25))
    assert (whole.name, whole.classes, len(whole.train) + len(whole.val)) == ("set", ("0", "1"), 24)
    assert whole.fingerprint() == open_data(data_config("set", val_fraction=0.25)).fingerprint()
    assert len(open_data(data_config("set/train-{00,02}.tar")).train) == 12
    assert len(open_data(data_config("set/train-*.tar")).train) == 19
    one = open_data(data_config("set/train-01.tar"))
    assert one.train.shards is None
    assert one.train.where(0) == str(Path("set/train-01.tar/008.png"))
    np.testing.assert_array_equal(one.train.read(0)[0, 0], (0, 20, 30))


def test_each_image_knows_its_shard(write: Write) -> None:
    for i in range(3):
        write(f"set/{i}.tar", plain(8))
    data = open_data(data_config("set", val_fraction=0.25))
    for part in (data.train, data.val):
        assert part.shards is not None
        for i, shard in enumerate(part.shards):
            assert f"{shard}.tar" in part.where(i)


def test_splits_by_name_and_by_folder(write: Write) -> None:
    write("set/train-0.tar", plain(8))
    write("set/val-0.tar", plain(4))
    write("set/extra.tar", plain(4))
    data = open_data(data_config("set"))
    assert (len(data.train), len(data.val)) == (8, 4)
    assert "validation images in 1 shards (val)" in data.rule
    assert any("not used: 1 shards of no split" in n for n in data.notes)
    assert len(open_eval(data_config("set"), ("0", "1"))[0]) == 4
    assert len(open_eval(data_config("set"), ("0", "1"), split="train")[0]) == 8
    write("other/train/0.tar", plain(6))
    write("other/test/0.tar", plain(2))
    assert len(open_data(data_config("other")).val) == 2
    assert len(open_data(data_config("set/train-0.tar", val="other/test/0.tar")).val) == 2
    with pytest.raises(DataError, match="no shards of 'dev'"):
        open_eval(data_config("set"), ("0", "1"), split="dev")


def test_file_of_class_names(write: Write, tmp_path: Path) -> None:
    write("set/0.tar", plain(8))
    (tmp_path / "set" / "classes.txt").write_text("zebra\nant\n")
    data = open_data(data_config("set"))
    assert data.classes == ("ant", "zebra")
    first = next(i for i in range(len(data.train)) if data.train.where(i).endswith("000.png"))
    assert data.train.targets[first] == 1  # class 0 is the zebra
    write("set/1.tar", [{"png": jpeg(0), "cls": "2"}])
    with pytest.raises(DataError, match=r"1\.tar/000: class 2, but there are only 2 class names"):
        open_data(data_config("set"))


@pytest.mark.parametrize(
    ("label", "columns", "task", "classes"),
    [
        ({"txt": ["cat", "dog"]}, Columns(), "single-label", ("cat", "dog")),
        ({"json": [{"label": 3}, {"label": 5}]}, Columns(), "single-label", ("3", "5")),
        ({"json": [{"labels": ["a", "b"]}, {"labels": ["c"]}]}, Columns(), "multi-label", ("a", "b", "c")),
        ({"json": [{"target": [0, 1, 1]}, {"target": [1, 0, 0]}]}, Columns(), "multi-label", ("0", "1", "2")),
        ({"json": [{"target": [0.5, 1]}, {"target": [2, 3]}]}, Columns(), "regression", ("target[0]", "target[1]")),
        ({"json": [{"age": 1.5, "x": 1}, {"age": 2, "x": 2}]}, Columns(labels=("age",)), "regression", ("age",)),
        (
            {"json": [{"age": 1.5, "x": 1}, {"age": 2, "x": 2}]},
            Columns(labels=("x", "age")),
            "regression",
            ("x", "age"),
        ),
        ({"txt": ["a|b", "c"]}, Columns(separator="|"), "multi-label", ("a", "b", "c")),
        ({"cls": ["0", "1"], "txt": ["cat", "dog"]}, Columns(labels=("txt",)), "single-label", ("cat", "dog")),
        ({"json": ["a", "b"]}, Columns(), "single-label", ("a", "b")),
    ],
)
def test_labels(
    write: Write, label: dict[str, list[Any]], columns: Columns, task: str, classes: tuple[str, ...]
) -> None:
    def encoded(ending: str, i: int) -> Any:
        value = label[ending][i % 2]
        return json.dumps(value) if ending == "json" else value

    write("t.tar", [{"png": jpeg(i), **{e: encoded(e, i) for e in label}} for i in range(12)])
    data = open_data(data_config("t.tar", columns=columns))
    if task == "regression" and len(classes) == 2 and classes[0] == "target[0]":
        classes = tuple(c.replace("target", "label") for c in classes)
    assert (data.task, data.classes) == (task, classes)


def test_the_label_belongs_to_its_image(write: Write) -> None:
    write("t.tar", [{"json": {"label": float(i) / 2}, "png": jpeg(i)} for i in range(20)])
    data = open_data(data_config("t.tar"))
    for i in range(len(data.train)):
        assert data.train.targets[i, 0] == data.train.read(i)[0, 0, 0] / 2


def test_samples_without_image_or_label_are_named(write: Write) -> None:
    bad = [{"cls": "1"}, {"png": jpeg(1)}, {"png": jpeg(1), "jpg": jpeg(2), "cls": "1"}, {"png": jpeg(1), "json": "{"}]
    write("t.tar", [*plain(8), *bad, {"png": jpeg(1), "json": {"other": 1}}, {"png": b"<html>", "cls": "1"}])
    with pytest.raises(DataError, match="5 unreadable files") as e:
        open_data(data_config("t.tar"))
    for words in (
        "t.tar/008: no image in this sample, only .cls",
        "t.tar/009: no label",
        "t.tar/010: 2 images in one sample: .png, .jpg; name one with --image-column",
        "t.tar/011: ",
        "t.tar/012: no label in its .json, only 'other'",
    ):
        assert words in str(e.value)
    data = open_data(data_config("t.tar", unreadable="skip"))
    assert len(data.train) + len(data.val) == 8
    assert len(data.problems) == 6


def test_several_images_in_a_sample(write: Write) -> None:
    write("t.tar", [{"left.png": jpeg(i), "right.png": jpeg(200), "cls": str(i % 2)} for i in range(8)])
    data = open_data(data_config("t.tar", Columns(image="right.png")))
    assert {data.train.read(i)[0, 0, 0] for i in range(len(data.train))} == {200}


def test_empty_labels_are_reported_with_shard_and_key(write: Write) -> None:
    write("t.tar", [*plain(8), {"png": jpeg(1), "cls": ""}])
    with pytest.raises(DataError, match=r"no label in column 'label': \./t\.tar/008\.png"):
        open_data(data_config("t.tar"))


def test_missing_shards(write: Write) -> None:
    for i in range(2):
        write(f"set/{i}.tar", plain(4))
    with pytest.raises(DataError, match=r"missing shards of set/\{0..3\}\.tar: 2 of 4, such as set/2\.tar"):
        open_data(data_config("set/{0..3}.tar"))
    with pytest.raises(UsageError, match="is a range of"):
        open_data(data_config("set/{0..99999999}.tar"))
    for remote in ("https://host/{0..9}.tar", "s3://bucket/0.tar", "pipe:cat 0.tar", "gs://b/x.zip"):
        with pytest.raises(UsageError, match="is not a local path"):
            open_data(data_config(remote))


def test_a_tar_of_class_folders_is_no_webdataset(write: Write, tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "classes.tar", "w") as t:
        for c in ("a", "b"):
            for i in range(3):
                info = tarfile.TarInfo(f"{c}/{i}.png")
                info.size = len(jpeg(i))
                t.addfile(info, io.BytesIO(jpeg(i)))
    assert not is_webdataset("classes.tar")
    assert is_webdataset(write("samples.tar", plain(2)))
    (tmp_path / "mixed" / "a").mkdir(parents=True)
    (tmp_path / "mixed" / "a" / "1.png").write_bytes(jpeg(1))
    write("mixed/old.tar", plain(2))
    assert not is_webdataset("mixed")
    assert is_webdataset("x-{000..009}.tar")
    assert not is_webdataset("photos-{1}")


def test_keys_and_names() -> None:
    assert sample_key("a/b.c/1.left.JPG") == ("a/b.c/1", "left.jpg")
    assert sample_key("README") == ("README", "")
    with pytest.raises(DataError, match=r"no shards match gone-\*\.tar"):
        find_shards("gone-*.tar")


def test_batches_do_not_depend_on_workers_and_use_every_shard(write: Write, preprocess: Preprocess) -> None:
    for i in range(4):
        write(f"set/{i}.tar", [{"png": jpeg(60 * i + k), "cls": str(k % 2)} for k in range(10)])
    train = open_data(data_config("set")).train
    found = []
    for workers in (0, 2):
        loader = make_loader(
            train, preprocess=preprocess, batch_size=8, train=True, augment=None, seed=0, workers=workers
        )
        seen = [targets.numpy() * 1000 + images.numpy()[:, 0, 0, 0] for images, targets in loader]
        found.append(np.concatenate(seen))
    np.testing.assert_array_equal(*found)
    assert len(np.unique(found[0])) == len(train)


def test_zoo_check_reads_shards_and_archives(write: Write, zoo: Callable[..., Any]) -> None:
    for i in range(2):  # the same images in both
        write(f"set/{i}.tar", plain(20), first=20 * i)
    assert [p.name for p in open_listing(data_config("set")).splits] == ["all"]
    report = json.loads(zoo("check", "set", "--json").out)
    (copies,) = [f for f in report["findings"] if f["kind"] == "duplicates"]
    assert len(copies["groups"]) == 20
    assert report["facts"]["formats"] == {"PNG": 40}
