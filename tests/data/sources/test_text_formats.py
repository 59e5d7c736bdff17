"""JSONL, lists of files, and folders with a table: equal to the folder of the same images."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from zoo.data import Columns, data_config, open_data, open_eval
from zoo.errors import DataError, UsageError

CLASSES = ("cat", "dog")


def test_jsonl_equals_the_folder(photos, same_as_folder, write_json_lines):
    write_json_lines("t.jsonl", [{"image": p, "label": c, "box": {"x": 1}, "points": [[1, 2]]} for p, c in photos])
    data = open_data(data_config("t.jsonl"))
    same_as_folder(data)
    assert data.name == "t"
    assert data.notes[0].startswith("t.jsonl: images from column 'image', labels from 'label'; single-label")


@pytest.mark.parametrize(
    ("labels", "task", "classes", "targets"),
    [
        ([["sea"], ["sea", "sand"], []] * 4, "multi-label", ("sand", "sea"), [[0, 1], [1, 1], [0, 0]]),
        ([["sea"], ["sea", "sand"], None] * 4, "multi-label", ("sand", "sea"), [[0, 1], [1, 1], [0, 0]]),
        ([[3, 12], [3], [5]] * 4, "multi-label", ("12", "3", "5"), [[1, 1, 0], [0, 1, 0], [0, 0, 1]]),
        ([[0, 1, 1], [1, 0, 0], [0, 0, 0]] * 4, "multi-label", ("0", "1", "2"), [[0, 1, 1], [1, 0, 0], [0, 0, 0]]),
        ([[0.5, 1], [2, 3], [4, 5.25]] * 4, "regression", ("label[0]", "label[1]"), [[0.5, 1], [2, 3], [4, 5.25]]),
        ([0.5, 2.0, 4.25] * 4, "regression", ("label",), [[0.5], [2], [4.25]]),
        ([3, 7, 7] * 4, "single-label", ("3", "7"), [0, 1, 1]),
        ([True, False, True] * 4, "single-label", ("false", "true"), [1, 0, 1]),
    ],
)
def test_labels_in_jsonl(photos, labels, task, classes, targets, seen, write_json_lines):
    write_json_lines("t.jsonl", [{"image": p, "label": v} for (p, _), v in zip(photos, labels, strict=True)])
    data = open_data(data_config("t.jsonl"))
    assert (data.task, data.classes) == (task, classes)
    assert seen(data.train, data.val) == {
        pixels: (classes[v] if isinstance(v, int) else tuple(v))
        for pixels, v in zip(seen(open_eval(data_config("photos"), CLASSES)[0]), targets * 4, strict=True)
    }


@pytest.mark.parametrize(
    ("lines", "task", "message"),
    [
        (["{", '{"image": "photos/cat/0.png", "label": "x"}'], "auto", "t.jsonl: not JSON, such as 'Expecting"),
        (["[1]", '"x"'], "auto", "not a JSON object, such as '[1]': lines 1, 2"),
        (['{"image": "a.png", "label": "\\ud800"}'], "auto", "half of a surrogate pair, which is not text: line 1"),
        ([], "auto", "t.jsonl is empty"),
        (['{"image": "photos/cat/0.png", "label": null}', '{"image": "photos/cat/1.png", "label": "x"}'], "auto",
         "no label in column 'label': line 1"),
        (['{"image": null, "label": "x"}', '{"image": "photos/cat/1.png", "label": "x"}'], "auto",
         "no image path: line 1"),
        (['{"image": "photos/cat/0.png", "label": ["x"]}'], "single-label", "'label' of t.jsonl contains lists"),
        (['{"image": "photos/cat/0.png", "label": [1]}', '{"image": "photos/cat/1.png", "label": [1, 2.5]}'],
         "regression", "contains lists of different lengths"),
        (['{"image": "photos/cat/0.png", "label": [1, 2.5]}', '{"image": "photos/cat/1.png"}'], "auto",
         "not a list in column 'label' instead of 2: line 2"),
        (['{"image": "photos/cat/0.png", "label": [1, 2.5]}', '{"image": "photos/cat/1.png", "label": [3.5, "x"]}'],
         "regression", "not a finite number in column 'label[1]', such as 'x': line 2"),
        (['{"image": "photos/cat/0.png", "label": ["x"], "tag": "y"}'], "auto", "2 columns of t.jsonl may be"),
    ],
)  # fmt: skip
def test_errors_of_jsonl(photos, lines, task, message):
    Path("t.jsonl").write_text("\n".join(lines))
    with pytest.raises(DataError) as e:
        open_data(data_config("t.jsonl"), task=task)
    assert message in e.value.message


def test_objects_are_no_labels(photos, write_json_lines):
    write_json_lines("t.jsonl", [{"image": p, "kind": c, "box": {"x": 1}} for p, c in photos])
    assert open_data(data_config("t.jsonl")).classes == CLASSES
    with pytest.raises(DataError, match=r"'box' of t\.jsonl contains objects"):
        open_data(data_config("t.jsonl", Columns(labels=("box",))))
    write_json_lines("t.jsonl", [{"image": p, "kind": [c]} for p, c in photos])
    with pytest.raises(UsageError, match="lists, which need no separator"):
        open_data(data_config("t.jsonl", Columns(separator="|")))


def test_validation_labels_are_read_like_training_labels(photos, write_json_lines):
    write_json_lines(
        "t.jsonl", [{"image": p, "label": ["0", "1", "2"][: i % 3 + 1]} for i, (p, _) in enumerate(photos)]
    )
    shutil.copy(photos[0][0], "v.png")
    write_json_lines("v.jsonl", [{"image": "v.png", "label": ["1", "0"]}])  # alone they would be two flags
    data = open_data(data_config("t.jsonl", val="v.jsonl"))
    assert data.val.targets.tolist() == [[1, 1, 0]]


def test_lists_of_files_equal_the_folder(photos, same_as_folder):
    Path("a.txt").write_text("".join(f"{p}\n" for p, _ in photos))
    Path("b.txt").write_text("\ufeff" + "".join(f"{p} {c}\r\n\r\n" for p, c in photos))
    Path("c.txt").write_text("".join(f"{p}\t{c}\n" for p, c in photos))
    for name in ("a.txt", "b.txt", "c.txt"):
        same_as_folder(open_data(data_config(name)))
    assert len({open_data(data_config(name)).fingerprint() for name in ("a.txt", "b.txt", "c.txt")}) == 1


def test_a_list_may_have_spaces_numbers_several_labels_and_a_list_for_validation(tmp_path, photos):
    spaced = tmp_path / "my photos" / "small dog.jpeg.png"
    spaced.parent.mkdir()
    shutil.copy(photos[0][0], spaced)
    Path("t.txt").write_text("my photos/small dog.jpeg.png big cat\nphotos/dog/1.png small dog\n")
    Path("v.txt").write_text("photos/dog/2.png small dog\n")
    data = open_data(data_config("t.txt", val="v.txt"))
    assert (data.classes, len(data.train), len(data.val)) == (("big cat", "small dog"), 2, 1)
    Path("n.txt").write_text("".join(f"{p} {i}.5\n" for i, (p, _) in enumerate(photos)))
    assert (open_data(data_config("n.txt")).task, open_data(data_config("n.txt")).classes) == ("regression", ("label",))
    Path("m.txt").write_text("".join(f"{p} {c},{c}s\n" for p, c in photos))
    assert open_data(data_config("m.txt", Columns(separator=","))).classes == ("cat", "cats", "dog", "dogs")
    with pytest.raises(UsageError, match=r"t\.txt is a table, but --val photos is not"):
        open_data(data_config("t.txt", val="photos"))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "t.txt is empty"),
        (
            "photos/cat/0.png\nthe quick brown fox\n",
            "no path with an image extension, such as 'the quick brown fox': line 2",
        ),
        ("photos/cat/0.png x\nphotos/cat/1.png\n", "no label in column 'label': line 2"),
        ("photos/cat/0.png\nphotos/dog/9.png\n", "line 2: photos/dog/9.png: no such file"),
        ("photos/cat/0.png x\n./photos/cat/0.png y\n", "an image with another label in an earlier line"),
    ],
)
def test_errors_of_lists(photos, text, message):
    Path("t.txt").write_text(text)
    with pytest.raises(DataError) as e:
        open_data(data_config("t.txt"))
    assert message in e.value.message


@pytest.mark.parametrize("kind", ["csv", "jsonl"])
def test_a_folder_with_metadata_is_its_table(tmp_path, photos, kind, same_as_folder, write_json_lines):
    (tmp_path / "flat").mkdir()
    for i, (path, _) in enumerate(photos):
        shutil.copy(path, tmp_path / "flat" / f"{i}.png")
    rows = [{"file_name": f"{i}.png", "label": c} for i, (_, c) in enumerate(photos)]
    if kind == "jsonl":
        write_json_lines("flat/metadata.jsonl", rows)
    else:
        Path("flat/metadata.csv").write_text(
            "file_name,label\n" + "".join(f"{r['file_name']},{r['label']}\n" for r in rows)
        )
    data = open_data(data_config("flat"))
    same_as_folder(data)
    assert data.name == "flat"
    assert len(open_eval(data_config("flat"), CLASSES)[0]) == 12


def test_metadata_of_train_and_validation(tmp_path, photos, same_as_folder, write_json_lines):
    for part, chosen in (("train", photos[::2]), ("validation", photos[1::2])):
        (tmp_path / "set" / part).mkdir(parents=True)
        for i, (path, _) in enumerate(chosen):
            shutil.copy(path, tmp_path / "set" / part / f"{i}.png")
        rows = [{"file_name": f"{i}.png", "label": c} for i, (_, c) in enumerate(chosen)]
        write_json_lines(f"set/{part}/metadata.jsonl", rows)
    data = open_data(data_config("set"))
    assert (len(data.train), len(data.val)) == (6, 6)
    same_as_folder(data)
    assert len(open_eval(data_config("set"), CLASSES, split="train")[0]) == 6
    with pytest.raises(DataError, match="has no split 'test'"):
        open_eval(data_config("set"), CLASSES, split="test")
    Path("set/validation/metadata.jsonl").unlink()
    with pytest.raises(DataError, match=r"has no metadata\.csv, but train has"):
        open_data(data_config("set"))


def test_metadata_next_to_class_folders_is_ambiguous(photos, same_as_folder, write_json_lines):
    Path("photos/notes.csv").write_text("file_name,label\n")
    Path("photos/metadata.csv").write_text("path,label\ncat/0.png,x\n")
    assert len(open_data(data_config("photos")).train) + len(open_data(data_config("photos")).val) == 12
    write_json_lines("photos/metadata.jsonl", [{"file_name": p[7:], "label": c} for p, c in photos])
    with pytest.raises(DataError, match=r"photos contains metadata\.jsonl and class folders \(cat, dog"):
        open_data(data_config("photos"))
    data = open_data(data_config("photos/metadata.jsonl"))
    Path("photos/metadata.jsonl").rename("unused.jsonl")
    same_as_folder(data)
