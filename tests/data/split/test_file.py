from __future__ import annotations

import os
import shutil
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

from zoo.data import data_config, open_data, open_eval
from zoo.data.dataset import StringTable
from zoo.data.split.file import read_split, split_text
from zoo.data.split.strategy import SplitStrategy
from zoo.errors import DataError, UsageError


def save(data, name: str = "split.txt") -> str:
    Path(name).write_text(split_text(data), encoding="utf-8")
    return name


def add(path: Path) -> None:
    path.parent.mkdir(exist_ok=True)
    Image.new("RGB", (5, 6)).save(path)


@pytest.fixture
def pets(make_folder):
    return make_folder("pets", {"cat": 10, "dog": 20})


def test_a_saved_split_survives_moving_the_data(pets, tmp_path):
    first = open_data(data_config("pets"), seed=3)
    name = save(first)
    assert Path(name).read_text().splitlines() == [
        "# zoo split: the validation images, one name per line, relative to the root of the data",
        "# images: 24 for training, 6 for validation",
        *first.val.names,
    ]
    again = open_data(data_config("pets", split=name))
    assert again.fingerprint() == first.fingerprint() != open_data(data_config("pets")).fingerprint()
    assert again.rule == "validation: 6 of 30 images (from split.txt)"
    shutil.move("pets", "elsewhere")
    moved = open_data(data_config("elsewhere", split=name))
    assert list(moved.val.names) == list(first.val.names)
    assert not any(note.startswith("split ") for note in moved.notes)


def test_new_images_are_for_training_and_changes_are_counted(pets):
    first = open_data(data_config("pets"), seed=3)
    name = save(first)
    for i in range(5):
        add(pets / "cat" / f"new{i}.png")
    grown = open_data(data_config("pets", split=name))
    assert list(grown.val.names) == list(first.val.names)
    assert set(open_data(data_config("pets"), seed=3).val.names) != set(first.val.names)  # a new split leaks
    assert "split split.txt: 5 images more than when it was made are for training" in grown.notes
    gone = first.val.names[0]
    os.remove(pets / gone)
    shrunk = open_data(data_config("pets", split=name))
    assert list(shrunk.val.names) == list(first.val.names)[1:]
    (note,) = [n for n in shrunk.notes if n.startswith("split ")]
    assert note == (
        "split split.txt: 1 of its 6 images are not there any more, "
        "and 5 images more than when it was made are for training"
    )


def test_a_user_written_list(pets):
    Path("mine.txt").write_bytes("\ufeffcat/001.png\r\n\r\n# a remark\r\ndog/003.png\r\ndog/003.png\r\n".encode())
    data = open_data(data_config("pets", split="mine.txt"))
    assert list(data.val.names) == ["cat/001.png", "dog/003.png"]
    assert not any(note.startswith("split ") for note in data.notes)


def test_names_that_need_quoting(make_folder):
    root = make_folder("odd", {"a": 2, "b": 2})
    odd = ["a/ #x.png", "a/line\nbreak.png", 'a/"quoted".png', "a/日本 é.png", "a/\udcff.png", "a/\u2028.png"]
    for name in odd:
        add(root / name)
    Path("first.txt").write_text("b/000.png\n")
    source = open_data(data_config(str(root), split="first.txt")).train
    data = SimpleNamespace(train=[0], val=source)
    assert set(read_split(save(data)).names) == set(source.names) >= set(odd)
    for i, name in enumerate(["#a", '"a', " a", "a ", "a\r", "plain"]):
        one = type("One", (), {"names": StringTable([name]), "__len__": lambda self: 1})()
        table = SimpleNamespace(train=[0], val=one)
        assert read_split(save(table, f"{i}.txt")).names == {name}


def test_digits_and_tables_and_evaluation(make_table):
    first = open_data(data_config("digits"), seed=9)
    name = save(first)
    assert open_data(data_config("digits", split=name)).fingerprint() == first.fingerprint()
    source, _ = open_eval(data_config("digits", split=name), first.classes)
    assert list(source.names) == list(first.val.names)
    make_table("image,x\n" + "".join(f"{i}.png,{i}.5\n" for i in range(20)))
    numbers = open_data(data_config("t.csv"), seed=2)
    assert open_data(data_config("t.csv", split=save(numbers, "n.txt"))).fingerprint() == numbers.fingerprint()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "no such split: s.txt"),
        (b"", "s.txt is no split: it names no image"),
        (b"# remarks\n\n", "s.txt is no split: it names no image"),
        (b"\xff\xfe\x00", "s.txt is no split: it is not UTF-8 text"),
        (b'cat/001.png\n"cat\n', "s.txt, line 2: a quoted name that is no JSON string"),
        (b"bird/001.png\nfish/2.png\n",
         r"s.txt is no split of \S*pets: none of its 2 names .* \(it says 'bird/001.png', the data 'cat/000.png'\)"),
        ("\n".join(f"{k}/{i:03d}.png" for k, n in (("cat", 10), ("dog", 20)) for i in range(n)).encode(),
         r"s.txt names every image of \S*pets"),
    ],
)  # fmt: skip
def test_invalid_files_are_refused(pets, content, message):
    if content is not None:
        Path("s.txt").write_bytes(content)
    with pytest.raises(DataError, match=message):
        open_data(data_config("pets", split="s.txt"))


def test_folders_without_a_split(pets):
    with pytest.raises(DataError, match=r"^pets holds no split.txt \(a split is a text file"):
        open_data(data_config("pets", split="pets"))
    Path("run").mkdir()
    Path("run/run.json").write_text("{}")
    with pytest.raises(DataError, match=r"run holds no split\.txt: its validation images were given"):
        open_data(data_config("pets", split="run"))


def test_refused_with_given_validation_images(make_folder):
    root = str(make_folder("parted", {"train/a": 3, "train/b": 3, "val/a": 1, "val/b": 1}))
    with pytest.raises(UsageError, match=r"--split s.txt splits the images, but \S*parted\S* has its own"):
        open_data(data_config(root, split="s.txt"))


def test_groups_stay_whole_and_divided_groups_are_reported(tmp_path):
    names = StringTable(f"{i}.png" for i in range(40))
    source = type("Grouped", (), {
        "names": names, "name": "x", "classes": ("a", "b"), "targets": np.arange(40) % 2, "groups": np.arange(40) // 4,
        "__len__": lambda self: 40,
    })()  # fmt: skip
    for strategy in (SplitStrategy(), SplitStrategy(folds=3, fold=2)):
        train, val, rule, notes = strategy.of(source, "single-label")
        assert sorted([*train, *val]) == list(range(40))
        assert not set(source.groups[train]) & set(source.groups[val])
        assert "whole groups" in rule
        assert notes == ()
    Path("s.txt").write_text("0.png\n1.png\n2.png\n3.png\n4.png\n")
    _, val, _, notes = SplitStrategy(split_file="s.txt").of(source, "single-label")
    assert val.tolist() == [0, 1, 2, 3, 4]
    assert notes == ("split s.txt: 1 groups have images in both training and validation",)
