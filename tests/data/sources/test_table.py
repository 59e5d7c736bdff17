"""CSV and TSV tables: what is read, and errors."""

from __future__ import annotations

import os
import pickle
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from zoo.data import Columns, data_config, open_data, open_eval
from zoo.errors import DataError, UsageError

PETS = "image,label\n" + "".join(f"img/{kind}{i}.png,{kind}\n" for kind in ("dog", "cat") for i in range(5))


def labels(source) -> dict[str, object]:
    """File name → class name, label names, or numbers."""
    found = {}
    for i, target in enumerate(source.targets):
        if source.targets.ndim == 1:
            value: object = source.classes[target]
        elif source.targets.dtype == np.float32 and set(np.unique(source.targets)) <= {0, 1}:
            value = {c for c, flag in zip(source.classes, target, strict=True) if flag}
        else:
            value = tuple(target.tolist())
        found[os.path.basename(source.where(i))] = value
    return found


def everything(data) -> dict[str, object]:
    return {**labels(data.train), **labels(data.val)}


def test_a_table_of_classes_is_split_like_a_folder(make_table):
    data = open_data(data_config(make_table(PETS)))
    assert (data.task, data.classes, data.name, data.flips_ok) == ("single-label", ("cat", "dog"), "t", True)
    assert (len(data.train), len(data.val)) == (8, 2)
    assert everything(data) == {f"{k}{i}.png": k for k in ("cat", "dog") for i in range(5)}
    assert data.train.targets.dtype == np.int64
    assert data.train.read(0).shape == (5, 6, 3)
    assert data.notes == (
        "t.csv: images from column 'image', labels from 'label'; single-label, because 'label' contains text",
    )
    assert data.rule == "validation: 2 of 10 images (20% per class, at least one, seed 0)"
    assert pickle.loads(pickle.dumps(data.train)).where(3) == data.train.where(3)


def test_paths_are_relative_to_the_table_or_absolute(make_table, tmp_path, monkeypatch):
    (tmp_path / "tables").mkdir()
    absolute = tmp_path / "elsewhere" / "a.png"
    absolute.parent.mkdir()
    Image.new("RGB", (3, 3)).save(absolute)
    rows = f"file,class\n../img/x.png,u\n../img/y.png,v\n{absolute},u\n../img/z.png,v\n"
    for name in ("img/x.png", "img/y.png", "img/z.png"):
        make_table(f"{name}\n", "unused.txt")
    (tmp_path / "tables" / "t.csv").write_text(rows)
    monkeypatch.chdir("/")
    data = open_data(data_config(str(tmp_path / "tables" / "t.csv"), val_fraction=0.5))
    assert everything(data) == {"x.png": "u", "y.png": "v", "a.png": "u", "z.png": "v"}


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("t.csv", "\ufeff{}"),
        ("t.CSV", "{}"),
        ("t.csv", "\n\n{}\n,\n  \n"),
        ("t.csv", "crlf{}"),
        ("t.csv", ";{}"),
        ("t.csv", "\t{}"),
        ("t.tsv", "\t{}"),
        ("t.csv", "spaces{}"),
        ("t.csv", "index{}"),
    ],
)
def test_table_formats_give_the_same_data(make_table, name, text):
    mark = text.replace("{}", "")
    body = PETS
    if mark == "crlf":
        body = body.replace("\n", "\r\n")
    elif mark in (";", "\t"):
        body = body.replace(",", mark)
    elif mark == "spaces":
        body = body.replace(",", " , ")
    elif mark == "index":  # as pandas writes
        body = "\n".join(f"{i - 1 if i else ''},{line}" for i, line in enumerate(body.splitlines()))
    else:
        body = text.replace("{}", body)
    data = open_data(data_config(make_table(body, name)))
    assert everything(data) == everything(open_data(data_config(make_table(PETS, "plain.csv"))))


def test_names_and_labels_in_any_script_with_quotes_and_spaces(make_table, tmp_path):
    for name in ("a, b.png", "ü 漢.png", "c.png", "d.png"):
        Image.new("RGB", (3, 3)).save(tmp_path / name)
    text = 'path,label\n"a, b.png","red, ""dark"""\nü 漢.png,naïve\nc.png,naïve\nd.png, "red, ""dark"""\n'
    data = open_data(data_config(make_table(text, images=False), val_fraction=0.5))
    assert data.classes == ("naïve", 'red, "dark"')
    assert everything(data)["a, b.png"] == 'red, "dark"'


def test_a_separator_makes_several_labels_and_an_empty_cell_none(make_table):
    text = "image,tags\na.png,sun|sea\nb.png,\nc.png, sea | sand |\nd.png,sun|sun\n"
    data = open_data(data_config(make_table(text), Columns(separator="|"), val_fraction=0.5))
    assert (data.task, data.classes) == ("multi-label", ("sand", "sea", "sun"))
    assert everything(data) == {"a.png": {"sun", "sea"}, "b.png": set(), "c.png": {"sea", "sand"}, "d.png": {"sun"}}
    assert data.train.targets.dtype == np.float32
    assert data.train.targets.shape == (2, 3)
    assert any(n.endswith("1 of the 3 labels: sand") for n in data.notes)


def test_columns_of_0_and_1_are_labels_in_sorted_order(make_table):
    text = "image,sun,sea\n" + "".join(f"{i}.png,{i % 2},{'True' if i < 3 else 'false'}\n" for i in range(6))
    data = open_data(data_config(make_table(text)))
    assert (data.task, data.classes) == ("multi-label", ("sea", "sun"))
    assert everything(data)["1.png"] == {"sea", "sun"}
    assert everything(data)["4.png"] == set()


def test_rows_of_the_same_image_combine_their_labels(make_table):
    text = "image,label\n" + "".join(f"{i}.png,a\n{i}.png,b\n" for i in range(4)) + "./3.png,c\n"
    with pytest.raises(DataError) as e:
        open_data(data_config(make_table(text)))
    assert "another label in an earlier line, such as '0.png (line 2)': lines 3, 5, 7, 9, 10" in e.value.message
    assert "--task multi-label" in e.value.hint
    data = open_data(data_config("t.csv", val_fraction=0.5), task="multi-label")
    assert everything(data) == {**{f"{i}.png": {"a", "b"} for i in range(3)}, "3.png": {"a", "b", "c"}}
    assert any("5 repeated rows of the same image: labels combined" in n for n in data.notes)


def test_the_same_row_twice_counts_once(make_table):
    data = open_data(data_config(make_table(PETS + "img/cat1.png,cat\n")))
    assert len(everything(data)) == len(data.train) + len(data.val) == 10
    assert "1 repeated row of the same image: ignored, the labels are equal" in data.notes


def test_numbers_keep_their_columns_order(make_table):
    text = "image,y,x\n" + "".join(f"{i}.png,{i / 4},{-i}.5e0\n" for i in range(8))
    data = open_data(data_config(make_table(text)))
    assert (data.task, data.classes, data.flips_ok) == ("regression", ("y", "x"), False)
    assert everything(data)["3.png"] == (0.75, -3.5)
    assert data.train.targets.dtype == np.float32
    data = open_data(data_config("t.csv", Columns(labels=("x", "y"))))
    assert everything(data)["3.png"] == (-3.5, 0.75)
    assert open_data(data_config("t.csv"), expected_classes=("x", "y")).train.targets.shape == (6, 2)
    assert everything(open_data(data_config("t.csv"), expected_classes=("x", "y"))) == everything(data)


@pytest.mark.parametrize("column", ["split", "Set"])
def test_a_split_column_is_used(make_table, column):
    parts = ["train", "Training", "train", "val", "VAL", "test"]
    text = f"image,label,{column}\n" + "".join(f"{i}.png,{'ab'[i % 2]},{p}\n" for i, p in enumerate(parts))
    data = open_data(data_config(make_table(text)))
    assert sorted(labels(data.train)) == ["0.png", "1.png", "2.png"]
    assert sorted(labels(data.val)) == ["3.png", "4.png"]
    assert data.rule == "given: 3 training images in t.csv, 2 validation images in t.csv, val"
    assert f"not used: rows of test in column {column!r}" in data.notes
    assert list(labels(open_eval(data_config("t.csv"), ("a", "b"))[0])) == ["3.png", "4.png"]
    assert list(labels(open_eval(data_config("t.csv"), ("b", "a", "c"), split="Test")[0])) == ["5.png"]
    with pytest.raises(DataError, match="no rows of split 'tset'"):
        open_eval(data_config("t.csv"), ("a", "b"), split="tset")


def test_a_named_split_column_and_test_without_val(make_table):
    text = "image,label,part\n" + "".join(f"{i}.png,{'ab'[i % 2]},{'train' if i < 4 else 'test'}\n" for i in range(6))
    with pytest.raises(DataError, match=r"'part' of t\.csv has the values dev, test but no train"):
        open_data(data_config(make_table(text.replace("train", "dev")), Columns(split="part")))
    data = open_data(data_config(make_table(text), Columns(split="part")))
    assert sorted(labels(data.val)) == ["4.png", "5.png"]


def test_a_validation_table_has_the_same_columns(make_table):
    make_table("image,label\nv.png,cat\n", "v.csv")
    data = open_data(data_config(make_table(PETS), val="v.csv"))
    assert (len(data.train), labels(data.val)) == (10, {"v.png": "cat"})
    assert "no validation image for 1 of the 2 classes: dog" in data.notes
    make_table("image,label\nv.png,bird\n", "v.csv")
    with pytest.raises(DataError, match=r"v\.csv has classes without training images: bird"):
        open_data(data_config("t.csv", val="v.csv"))
    make_table("image,label\nimg/../img/cat1.png,cat\n", "v.csv", images=False)
    with pytest.raises(DataError, match=r"1 image is in both training \(t\.csv\) and validation \(v\.csv\)"):
        open_data(data_config("t.csv", val="v.csv"))
    make_table("image,species\nv.png,cat\n", "v.csv")
    with pytest.raises(UsageError, match=r"v\.csv has no column 'label'"):
        open_data(data_config("t.csv", val="v.csv"))
    with pytest.raises(UsageError, match="is a table, but --val img is not"):
        open_data(data_config("t.csv", val="img"))


def test_changed_labels_rows_and_files_change_the_fingerprint(make_table, tmp_path):
    before = open_data(data_config(make_table(PETS)))
    assert open_data(data_config("t.csv")).fingerprint() == before.fingerprint()
    seen = {before.fingerprint()}
    moved, renamed = PETS.replace("dog1.png,dog", "dog1.png,cat"), PETS.replace("dog\n", "hound\n")
    for text in (moved, renamed, PETS + "new.png,cat\n"):
        seen.add(open_data(data_config(make_table(text))).fingerprint())
    path = tmp_path / "img" / "cat1.png"
    path.write_bytes(path.read_bytes() + b"more")
    seen.add(open_data(data_config(make_table(PETS))).fingerprint())
    assert len(seen) == 5
    numbers = "image,age\n" + "".join(f"{i}.png,{i}.25\n" for i in range(6))
    first = open_data(data_config(make_table(numbers))).fingerprint()
    assert open_data(data_config(make_table(numbers.replace("3.25", "3.5")))).fingerprint() != first


@pytest.mark.parametrize(
    ("text", "message", "hint"),
    [
        ("", "t.csv is empty", "the first line must name the columns"),
        ("\n \n", "t.csv is empty", ""),
        ("image,label\n", "t.csv has a header but no rows", ""),
        ("a.png,cat\nb.png,dog\n", "the first line of t.csv contains 'a.png': data", "add a first line"),
        ("image,label,label\na.png,x,y\n", "more than one column 'label'", "its own name"),
        ("image,label\na.png,x,y\nb.png\nc.png,x\n", "3 cells, but the header has 2: line 2\n", "quote cells"),
        ("image,label\na.png,\nb.png,y\nc.png,\n", "no label in column 'label': lines 2, 4", "fix"),
        ("image,label\n,x\nb.png,y\n", "no image path: line 2", "fix"),
        ('image,label\na.png,"x\nb.png,y\n', "line 2: a quote that opens here is not closed", "fix the line"),
        ('image,label\na.png,"x"y\n', "line 2: ',' expected after '\"'", ""),
        (b"image,label\na.png,x\0y\n", "line 2: a NUL byte", "UTF-8"),
        ("image,label\na.png,café\n".encode("latin-1"), "not UTF-8: byte 0xe9 in line 2, after 'a.png,caf'", "iconv"),
        ("image,label\na.png,x\n".encode("utf-16"), "t.csv is UTF-16", "UTF-8"),
        (b"image,label\ra.png,x\rb.png,y\r", "carriage returns", ""),
        ("image,label\na.png,x\n" + "y" * 200_000, "line 3: a cell of more than 131,072 characters", "fix"),
        ("image,label\na.png,x\n" + "y" * (2 << 20), "line 3: longer than a megabyte", ""),
        ("image,label\na.png,x\nb.png,x\n", "only one class in t.csv: x", "two"),
        ("image,split,label\na.png,train,x\nb.png,,y\nc.png,,y\n", "no split in column 'split': lines 3, 4", "every"),
        ("image\na.png\n", "no label column", ""),
        ("label,colour\nx,red\n", "no column of t.csv looks like image paths: 'label', 'colour'", "--image-column"),
        ("image,a,b\nu.png,x,y\n", "2 columns of t.csv may be the label: 'a', 'b'", "--label-column"),
        ("image,label,class\nu.png,x,y\n", "2 columns of t.csv may be the label: 'label', 'class'", ""),
        ("image,label\na.png,x\n" * 1 + "b.png,y\n", "with one image only: 'x', 'y'", "--val"),
        ("image;age\na.png;1,5\nb.png;2,25\n", "decimal comma, such as '1,5', '2,25'", "point"),
        ("image,age\na.png,1.5\nb.png,1.5\n", "the target 'age' is 1.5 for every image of t.csv", "omit this column"),
    ],
)  # fmt: skip
def test_errors_of_tables(make_table, text, message, hint):
    with pytest.raises(DataError) as e:
        open_data(data_config(make_table(text)))
    assert message in e.value.message
    assert hint in e.value.hint


def test_invalid_numbers_are_listed_with_their_lines(make_table):
    text = "image,age,height\n" + "".join(f"{i}.png,{i}.5,{i}.25\n" for i in range(20))
    text = (
        text.replace("3.5,3.25", "NA,3.25").replace("7.5,7.25", "nan,inf").replace("9.5,", ",").replace("11.25", "1_0")
    )
    with pytest.raises(DataError) as e:
        open_data(data_config(make_table(text)), task="regression")
    assert "not a finite number in column 'age', such as 'NA': lines 5, 9, 11" in e.value.message
    assert "not a finite number in column 'height', such as 'inf': lines 9, 13" in e.value.message
    with pytest.raises(DataError, match=r"lines 5, 9, 11"):
        open_data(data_config("t.csv", Columns(labels=("age",))))
    many = "image,age\n" + "".join(f"{i}.png,{i}.5\n{i}x.png,1e99\n" for i in range(15))
    with pytest.raises(DataError, match=r"such as '1e99': lines 3, 5, .*21, … \(15 in all\)"):
        open_data(data_config(make_table(many)))


def test_unknown_splits_and_invalid_flags_are_listed(make_table):
    text = "image,label,split\na.png,x,train\nb.png,y,trian\nc.png,y,7\n"
    with pytest.raises(DataError, match="unknown split in column 'split', such as 'trian': lines 3, 4"):
        open_data(data_config(make_table(text), Columns(split="split")))
    text = "image,u,v\na.png,0,1\nb.png,1,2\nc.png,1,\n"
    with pytest.raises(DataError) as e:
        open_data(data_config(make_table(text), Columns(labels=("u", "v"))), task="multi-label")
    assert "neither 0 nor 1 in column 'v', such as '2': lines 3, 4" in e.value.message


def test_missing_images_are_counted_and_the_first_named(make_table, tmp_path):
    make_table(PETS)
    rows = PETS + "".join(f"gone/{i}.png,dog\n" for i in range(14))
    (tmp_path / "t.csv").write_text(rows)
    with pytest.raises(DataError) as e:
        open_data(data_config("t.csv"))
    assert e.value.message.startswith("14 of the 24 images of t.csv do not exist:\n  line 12: gone/0.png: no such")
    assert e.value.message.count("\n  line") == 10
    assert "and 4 more" in e.value.message
    assert str(tmp_path) in e.value.hint
    data = open_data(data_config("t.csv", unreadable="skip"))
    assert len(everything(data)) == 10
    assert len(data.problems) == 14
    assert data.problems[0].reason == "no such file or directory (line 12)"
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "t.csv").write_text(PETS)
    with pytest.raises(DataError, match=r"10 of the 10 images of t\.csv do not exist"):
        open_data(data_config("other/t.csv", unreadable="skip"))


def test_unreadable_images_follow_the_policy(make_table, tmp_path, hostile):
    hostile.make_hostile(tmp_path)
    names = [*hostile.UNREADABLE, *hostile.READABLE]
    text = PETS + "".join(f'"{name}",cat\n' for name in names)
    make_table(PETS)
    (tmp_path / "t.csv").write_text(text)
    with pytest.raises(DataError) as e:
        open_data(data_config("t.csv"))
    assert e.value.message.startswith(f"{len(hostile.UNREADABLE)} unreadable files:\n  ./empty.jpg: empty file")
    assert "(line 12)" in e.value.message
    data = open_data(data_config("t.csv", unreadable="skip"))
    assert set(everything(data)) == {*hostile.READABLE, *(f"{k}{i}.png" for k in ("cat", "dog") for i in range(5))}
    assert {Path(p.path).name for p in data.problems} == set(hostile.UNREADABLE)


def test_unknown_columns_and_tasks_get_the_nearest_name(make_table):
    make_table(PETS)
    with pytest.raises(UsageError) as e:
        open_data(data_config("t.csv", Columns(labels=("lable",))))
    assert (e.value.message, e.value.hint) == ("t.csv has no column 'lable'", "did you mean 'label'?")
    with pytest.raises(UsageError, match="is given two roles"):
        open_data(data_config("t.csv", Columns(image="label", labels=("label",))))
    with pytest.raises(UsageError, match="separator is empty"):
        open_data(data_config("t.csv", Columns(separator="")))
    with pytest.raises(UsageError, match="no task named 'regresion'"):
        open_data(data_config("t.csv"), task="regresion")
    with pytest.raises(UsageError, match="img is not a table and has no columns"):
        open_data(data_config("img", Columns(image="x")))


def test_files_that_are_no_tables(tmp_path, make_table):
    make_table(PETS)
    (tmp_path / "photos.csv").mkdir()
    with pytest.raises(DataError, match=r"no images in photos\.csv"):
        open_data(data_config("photos.csv"))
    os.mkfifo(tmp_path / "pipe.csv")
    with pytest.raises(DataError, match=r"pipe\.csv is not a file but a FIFO"):
        open_data(data_config("pipe.csv"))
    with pytest.raises(DataError, match=r"no such path: s\.csv \(did you mean t\.csv"):
        open_data(data_config("s.csv"))
    with pytest.raises(DataError) as e:
        open_data(data_config("img"))
    assert "directly in img" in e.value.message
    (tmp_path / "img" / "labels.csv").touch()
    with pytest.raises(DataError) as e:
        open_data(data_config("img"))
    assert e.value.hint == "give the table of their labels, for example img/labels.csv"


def test_evaluation_uses_the_models_classes(make_table):
    source, problems = open_eval(data_config(make_table(PETS)), ("dog", "bird", "cat"))
    assert (len(source), problems, source.classes) == (10, (), ("dog", "bird", "cat"))
    assert source.targets.tolist() == [0] * 5 + [2] * 5
    with pytest.raises(DataError, match=r"classes that the model does not know: dog \(the model knows cat, ape\)"):
        open_eval(data_config("t.csv"), ("cat", "ape"))


def test_evaluation_of_labels_and_numbers_finds_the_models_columns(make_table):
    text = "image,note,sun,sea\na.png,x,1,0\nb.png,y,1,1\n"
    source, _ = open_eval(data_config(make_table(text)), ("sun", "sea"), task="multi-label")
    assert source.targets.tolist() == [[1, 0], [1, 1]]
    separate = make_table("image,tags\na.png,sea\nb.png,\n", "s.csv")
    source, _ = open_eval(data_config(separate, Columns(separator="|")), ("sun", "sea"), task="multi-label")
    assert source.targets.tolist() == [[0, 1], [0, 0]]
    numbers = make_table("image,id,y,x\na.png,7,1,2.5\nb.png,8,3,4\n", "n.csv")
    source, _ = open_eval(data_config(numbers), ("x", "y"), task="regression")
    assert source.targets.tolist() == [[2.5, 1], [4, 3]]
    source, _ = open_eval(data_config(numbers, Columns(labels=("x",))), ("value",), task="regression")
    assert (source.classes, source.targets.tolist()) == (("value",), [[2.5], [4]])
    with pytest.raises(DataError, match="does not know: y"):
        open_eval(data_config(numbers, Columns(labels=("x", "y"))), ("x", "z"), task="regression")
    with pytest.raises(DataError, match="lacks targets of the model: z"):
        open_eval(data_config(numbers, Columns(labels=("x",))), ("x", "z"), task="regression")
