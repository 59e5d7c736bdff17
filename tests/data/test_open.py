from __future__ import annotations

import os
import shutil
import unicodedata
from pathlib import Path

import numpy as np
import pytest
from torchvision.datasets import ImageFolder

from zoo.data import data_config, open_data, open_eval
from zoo.data.dataset import flips_safe
from zoo.data.file_dataset import ImageFiles
from zoo.errors import DataError, UsageError


def names(source) -> list[str]:
    return [os.path.relpath(source.where(i)) for i in range(len(source))]


def test_a_folder_without_splits_is_split(make_folder):
    data = open_data(data_config(str(make_folder("pets", {"cat": 10, "dog": 20}))))
    assert data.classes == ("cat", "dog")
    assert (len(data.train), len(data.val)) == (24, 6)
    assert np.bincount(data.val.targets).tolist() == [2, 4]
    assert not set(names(data.train)) & set(names(data.val))
    assert data.rule.startswith("validation: 6 of 30 images")
    assert "seed 0" in data.rule
    assert (data.name, data.problems, data.flips_ok) == ("pets", (), True)
    assert data.train.read(0).shape == (12, 16, 3)
    assert open_data(data_config("pets"), channels=1).train.read(0).shape == (12, 16, 1)


def test_the_split_depends_on_the_seed_only(make_folder):
    root = str(make_folder("pets", {"cat": 10, "dog": 20}))
    first, again, other = (
        open_data(data_config(root)),
        open_data(data_config(root)),
        open_data(data_config(root), seed=1),
    )
    assert names(first.val) == names(again.val) != names(other.val)
    assert first.fingerprint() == again.fingerprint() != other.fingerprint()
    assert len(open_data(data_config(root, val_fraction=0.5)).val) == 15
    with pytest.raises(UsageError, match="between 0 and 1"):
        open_data(data_config(root, val_fraction=1.5))


def test_new_and_changed_files_change_the_fingerprint(make_folder):
    root = make_folder("pets", {"train/a": 2, "train/b": 2, "val/a": 1, "val/b": 1})
    before = open_data(data_config(str(root))).fingerprint()
    shutil.copy(root / "train/a/000.png", root / "train/a/new.png")
    added = open_data(data_config(str(root))).fingerprint()
    (root / "train/a/new.png").write_bytes((root / "train/a/new.png").read_bytes() + b"more")
    assert len({before, added, open_data(data_config(str(root))).fingerprint()}) == 3


@pytest.mark.parametrize("val", ["val", "validation", "valid", "test", "Validation"])
def test_given_splits_are_used(make_folder, val):
    root = make_folder("set", {"train/a": 3, "train/b": 2, f"{val}/a": 2, f"{val}/b": 1})
    data = open_data(data_config(str(root)))
    assert (len(data.train), len(data.val), data.rule.startswith("given: 5 training images")) == (5, 3, True)
    assert all(n.startswith(f"set/{val}/") for n in names(data.val))


def test_val_is_preferred_to_test_and_the_rest_is_noted(make_folder):
    root = make_folder("set", {"train/a": 1, "train/b": 1, "val/a": 1, "val/b": 1, "test/a": 9, "test/b": 9})
    data = open_data(data_config(str(root)))
    assert len(data.val) == 2
    assert data.notes == ("not used: test",)


def test_classes_equal_torchvisions_image_folder(make_folder):
    root = make_folder("set", {"b": 2, "B": 2, "10": 2, "9": 2, "é": 2, "a b": 2, "漢字": 2})
    reference = ImageFolder(str(root))
    data = open_data(data_config(str(root), val_fraction=0.5))
    assert list(data.classes) == reference.classes
    labels = {os.path.relpath(path): label for path, label in reference.samples}
    for part in (data.train, data.val):
        assert [labels[n] for n in names(part)] == part.targets.tolist()


def test_val_names_another_folder(make_folder):
    make_folder("one", {"a": 3, "b": 3})
    make_folder("two", {"a": 1, "b": 2})
    make_folder("whole", {"train/a": 2, "train/b": 2, "val/a": 1, "val/b": 1})
    assert len(open_data(data_config("one", val="two")).train) == 6
    data = open_data(data_config("whole", val="two"))
    assert (len(data.train), len(data.val)) == (4, 3)
    with pytest.raises(DataError, match="no such path: twoo"):
        open_data(data_config("one", val="twoo"))


def test_deep_nesting_unusual_names_links_and_ignored_files(make_folder):
    root = make_folder("set", {"cat/2020/may": 2, "dog": 2, "bird": 0})
    (root / "cat" / "IMG 1.PNG").write_bytes((root / "dog/000.png").read_bytes())
    (root / "cat" / "notes.txt").write_text("x")
    (root / "cat" / "Thumbs.db").write_text("x")
    for folder in (".ipynb_checkpoints", "__MACOSX", ".git"):
        (root / folder).mkdir()
        (root / folder / "x.png").write_bytes(b"junk")
        (root / "dog" / folder).mkdir()
        (root / "dog" / folder / "x.png").write_bytes(b"junk")
    (root / "dog" / "linked.png").symlink_to(root / "cat" / "IMG 1.PNG")
    (root / "dog" / "folder").symlink_to(root / "cat" / "2020")
    (root / "dog" / "round").symlink_to(root / "dog")
    (root / "dog" / "gone.png").symlink_to(root / "nowhere.png")
    data = open_data(data_config(str(root), val_fraction=0.3))
    assert np.bincount(np.concatenate([data.train.targets, data.val.targets])).tolist() == [3, 5]
    assert sorted(p.reason for p in data.problems) == [
        "broken symbolic link",
        "symbolic link to a parent folder",
    ]
    assert "ignored 1 file that is not an image (.txt 1)" in data.notes
    assert any("bird" in n for n in data.notes)


def test_class_names_are_unicode_nfc(make_folder):
    root = make_folder("set", {f"train/{unicodedata.normalize('NFD', 'käse')}": 1, "train/wurst": 1})
    for name in ("käse", "wurst"):
        shutil.copytree(root / "train" / "wurst", root / "val" / unicodedata.normalize("NFC", name))
    assert open_data(data_config(str(root))).classes == ("käse", "wurst")


def test_unreadable_files_raise_with_paths_and_reasons(make_folder, hostile):
    root = make_folder("set", {"cat": 3, "dog": 3, "hostile": 0})
    hostile.make_hostile(root / "hostile")
    with pytest.raises(DataError) as e:
        open_data(data_config(str(root)))
    assert e.value.message.startswith(f"{len(hostile.UNREADABLE)} unreadable files:")
    for name in sorted(hostile.UNREADABLE)[:10]:
        assert f"hostile/{name}: " in e.value.message
    assert f"and {len(hostile.UNREADABLE) - 10} more" in e.value.message
    assert e.value.exit_code == 3
    assert "skip" in e.value.hint


def test_unreadable_files_are_skipped_before_the_split_and_recorded(make_folder, hostile):
    root = make_folder("set", {"cat": 3, "dog": 3, "hostile": 0})
    hostile.make_hostile(root / "hostile")
    data = open_data(data_config(str(root), unreadable="skip"))
    assert {Path(p.path).name for p in data.problems} == {*hostile.UNREADABLE, *hostile.LINKS}
    readable = sorted(Path(n).name for n in names(data.train) + names(data.val) if "hostile" in n)
    assert readable == sorted(hostile.READABLE)
    for part in (data.train, data.val):
        for i in range(len(part)):
            assert part.read(i).shape[2] == 3
    assert open_data(data_config(str(root), unreadable="skip")).fingerprint() == data.fingerprint()
    with pytest.raises(UsageError, match="no policy 'ignore'"):
        open_data(data_config(str(root), unreadable="ignore"))


def test_the_list_of_unreadable_files_is_cut_at_ten(make_folder):
    root = make_folder("set", {"a": 2, "b": 2})
    for i in range(14):
        (root / "a" / f"bad{i:02d}.jpg").touch()
    with pytest.raises(DataError) as e:
        open_data(data_config(str(root)))
    assert e.value.message.count("zero bytes") == 10
    assert "and 4 more" in e.value.message


def _loose(root: Path) -> None:
    shutil.copy(root / "a" / "000.png", root / "loose.png")


def _spoil(root: Path) -> None:
    for f in (root / "a").iterdir():
        f.write_bytes(b"")


@pytest.mark.parametrize(
    ("folders", "change", "options", "expected"),
    [
        ({}, None, {}, ("no such path: set", "")),
        ({"a": 0, "b": 0}, None, {}, ("no images in set", "ROOT/<class>")),
        ({"a": 3}, None, {}, ("only one class in set: a", "two or more")),
        ({"inner/a": 3, "inner/b": 3}, None, {}, ("only one class in set: inner", "did you mean set/inner?")),
        ({"a": 1, "b": 3}, None, {}, ("class with one image only: 'a'", "--val")),
        ({"a": 2, "b": 3}, _loose, {}, ("1 image directly in set, for example loose.png", "move each")),
        (
            {"train/a": 2, "train/b": 2, "val/a": 2, "val/c": 2},
            None,
            {},
            ("only in set/train: b; only in set/val: c", "same class folders"),
        ),
        ({"val/a": 2, "test/a": 2}, None, {}, ("contains test, val but no train folder", "rename")),
        ({"a": 2, "b": 2}, None, {"channels": 4}, ("3 channels, not the 4 asked for", "")),
        ({"a": 2, "b": 2}, None, {"expected_classes": ("a", "c")}, ("has the classes a, b; expected a, c", "")),
        ({"a": 2, "b": 2}, _spoil, {}, ("no readable image of class a", "")),
    ],
)
def test_errors_of_folders(make_folder, folders, change, options, expected):
    message, hint = expected
    root = make_folder("set", folders)
    if change:
        change(root)
    with pytest.raises(DataError) as e:
        open_data(data_config("set", unreadable="skip" if change is _spoil else "error"), **options)
    assert message in e.value.message
    assert hint in e.value.hint


def test_a_missing_path_gets_the_nearest_names(make_folder):
    make_folder("photos", {"a": 1})
    with pytest.raises(DataError) as e:
        open_data(data_config("photo"))
    assert (e.value.message, e.value.hint) == ("no such path: photo", "did you mean photos?")
    with pytest.raises(DataError) as e:
        open_data(data_config("digit"))
    assert e.value.hint == "did you mean digits?"


def test_a_file_and_a_broken_link_raise(tmp_path):
    (tmp_path / "file.doc").touch()
    (tmp_path / "link").symlink_to(tmp_path / "gone")
    with pytest.raises(DataError, match=r"file\.doc is a file"):
        open_data(data_config("file.doc"))
    with pytest.raises(DataError, match="link is a broken symbolic link"):
        open_data(data_config("link"))


def test_names_that_are_not_unicode_can_be_read_and_printed(make_folder):
    root = make_folder("set", {"a": 2, "b": 2})
    odd = os.path.join(os.fsencode(root), b"a", b"\xff\xfe.png")
    shutil.copy(root / "b" / "000.png", odd)
    data = open_data(data_config(str(root), val_fraction=0.4))
    assert len(data.train) + len(data.val) == 5
    with open(odd, "wb"):
        pass
    with pytest.raises(DataError) as e:
        open_data(data_config(str(root)))
    e.value.message.encode("utf-8")


def test_expected_classes_set_the_order(make_folder):
    root = str(make_folder("set", {"a": 5, "b": 2}))
    data = open_data(data_config(root, val_fraction=0.3), expected_classes=("b", "a"))
    assert data.classes == ("b", "a")
    assert np.bincount(np.concatenate([data.train.targets, data.val.targets])).tolist() == [2, 5]


def test_large_sets_are_checked_by_their_first_bytes_and_a_sample(make_folder, monkeypatch, hostile):
    root = make_folder("set", {"a": 3, "b": 3})
    hostile.make_hostile(root / "a")
    monkeypatch.setattr("zoo.data.validate.FULL_CHECK", 5)
    monkeypatch.setattr("zoo.data.validate.DECODE_SAMPLE", 1)  # the first image
    data = open_data(data_config(str(root), unreadable="skip"))
    missed = set(hostile.UNREADABLE) - {Path(p.path).name for p in data.problems}
    assert missed >= {"half.jpg", "half.png", "nan.tif", "bomb.png"}
    assert not missed & {"empty.jpg", "page.JPG", "nonsense.webp", "pipe.jpg", "folder.png"}
    (root / "a" / "bomb.png").unlink()
    monkeypatch.setattr("zoo.data.validate.DECODE_SAMPLE", 1000)
    data = open_data(data_config(str(root), unreadable="skip"))
    assert {"half.jpg", "half.png", "nan.tif"} <= {Path(p.path).name for p in data.problems}


@pytest.mark.parametrize(
    ("classes", "safe"),
    [
        (("cat", "dog"), True),
        (tuple("0123456789"), False),
        (("a", "b", "c"), False),
        (("turn_left", "turn_right", "stop"), False),
        (("Left lung", "Right lung"), False),
        (("bright", "dark"), True),
    ],
)
def test_flips_are_off_if_they_change_the_label(classes, safe):
    assert flips_safe(classes) is safe


def test_digits():
    data = open_data(data_config("digits"))
    assert (len(data.train), len(data.val)) == (1437, 360)
    assert data.classes == tuple("0123456789")
    assert not data.flips_ok
    assert data.useful_size == 32
    assert np.bincount(data.val.targets).min() >= 34
    image = data.train.read(0)
    assert image.shape == (8, 8, 3)
    assert (image[:, :, 0] == image[:, :, 2]).all()
    levels = {int(v) for i in range(200) for v in np.unique(data.train.read(i))}
    assert levels == {round(k * 255 / 16) for k in range(17)}
    assert data.train.where(0).startswith("digits[")
    assert (
        data.fingerprint()
        == open_data(data_config("digits")).fingerprint()
        != open_data(data_config("digits"), seed=1).fingerprint()
    )
    with pytest.raises(UsageError, match="brings its own"):
        open_data(data_config("digits", val="somewhere"))


def test_digits_are_evaluated_on_the_held_out_images():
    source, problems = open_eval(data_config("digits"), tuple("0123456789"), seed=3)
    assert [source.where(i) for i in range(5)] == [
        open_data(data_config("digits"), seed=3).val.where(i) for i in range(5)
    ]
    assert problems == ()
    with pytest.raises(DataError, match="the model knows cat, dog"):
        open_eval(data_config("digits"), ("cat", "dog"))


def test_evaluation_uses_the_models_classes_and_allows_missing_ones(make_folder):
    make_folder("set", {"dog": 2, "ape": 1})
    source, _ = open_eval(data_config("set"), ("dog", "cat", "ape"))
    assert source.classes == ("dog", "cat", "ape")
    assert sorted(source.targets.tolist()) == [0, 0, 2]
    with pytest.raises(DataError, match="has classes that the model does not know: ape"):
        open_eval(data_config("set"), ("dog", "cat"))


def test_evaluation_chooses_the_split(make_folder):
    make_folder("set", {"train/a": 3, "val/a": 2, "test/a": 1})
    make_folder("only", {"train/a": 3})
    make_folder("parts", {"test/a": 4})
    assert len(open_eval(data_config("set"), ("a",))[0]) == 2
    assert len(open_eval(data_config("set"), ("a",), split="test")[0]) == 1
    assert len(open_eval(data_config("set"), ("a",), split="train")[0]) == 3
    assert len(open_eval(data_config("parts"), ("a",))[0]) == 4
    with pytest.raises(DataError, match="neither val nor test"):
        open_eval(data_config("only"), ("a",))
    with pytest.raises(DataError, match="no folder 'tset'"):
        open_eval(data_config("set"), ("a",), split="tset")


def test_class_folders_as_labels(make_folder):
    data = open_data(data_config(str(make_folder("pets", {"cat": 10, "dog": 20}))), task="multi-label")
    assert (data.task, data.classes, data.flips_ok) == ("multi-label", ("cat", "dog"), True)
    assert data.train.targets.dtype == np.float32
    assert data.val.targets.sum(0).tolist() == [2, 4]
    assert (data.train.targets.sum(1) == 1).all()
    folders = [Path(data.train.where(i)).parent.name for i in range(len(data.train))]
    assert [data.classes[i] for i in data.train.targets.argmax(1)] == folders
    source, _ = open_eval(data_config("pets"), ("dog", "bird", "cat"), task="multi-label")
    assert source.targets.sum(0).tolist() == [20, 0, 10]


def test_class_folders_as_numbers(make_folder):
    make_folder("ages", {"train/7": 4, "train/10.5": 4, "train/-3": 4, "val/8": 2})
    data = open_data(data_config("ages"), task="regression")
    assert (data.task, data.classes, data.flips_ok) == ("regression", ("value",), False)
    assert data.val.targets.tolist() == [[8], [8]]
    assert data.train.targets.dtype == np.float32
    for i, (target,) in enumerate(data.train.targets):
        assert float(Path(data.train.where(i)).parent.name) == target
    assert open_eval(data_config("ages"), ("value",), task="regression")[0].targets.tolist() == [[8], [8]]
    assert open_data(data_config("ages/train", val_fraction=0.25), task="regression").rule.startswith(
        "validation: 3 of 12 images"
    )
    with pytest.raises(DataError, match=r"lacks targets of the model: age|does not know: value"):
        open_eval(data_config("ages"), ("age",), task="regression")
    make_folder("mixed", {"1": 2, "two": 2, "nan": 2, "1_0": 2})
    with pytest.raises(DataError, match="names are not numbers: 1_0, nan, two"):
        open_data(data_config("mixed"), task="regression")
    make_folder("same", {"5": 4})
    with pytest.raises(DataError, match="'value' is 5 for every image"):
        open_data(data_config("same"), task="regression")


@pytest.mark.parametrize(
    ("task", "classes", "shape"), [("multi-label", tuple("0123456789"), (10,)), ("regression", ("value",), (1,))]
)
def test_digits_for_every_task(task, classes, shape):
    plain, data = open_data(data_config("digits")), open_data(data_config("digits"), task=task)
    assert (data.task, data.classes, data.flips_ok) == (task, classes, False)
    targets = np.concatenate([data.train.targets, data.val.targets])
    assert targets.shape == (1797, *shape)
    assert targets.dtype == np.float32
    digits = {plain.train.where(i): t for i, t in enumerate(plain.train.targets)}
    for i, target in enumerate(data.train.targets[:300]):
        digit = digits.get(data.train.where(i))
        assert digit is None or digit == (target.argmax() if task == "multi-label" else target[0])
    source, _ = open_eval(data_config("digits"), classes, task=task)
    assert source.targets.tolist() == data.val.targets.tolist()


def test_verified_files_are_not_read_again_until_they_change(make_folder, monkeypatch, tmp_path):
    monkeypatch.setenv("ZOO_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr("zoo.data.validate._MIN_CACHED_FILES", 1)
    root = make_folder("set", {"a": 4, "b": 4})
    read = []
    check = ImageFiles.check

    def counted(self, index, **asked):
        read.append(Path(self.where(index)).name)
        return check(self, index, **asked)

    monkeypatch.setattr(ImageFiles, "check", counted)
    open_data(data_config(str(root)))
    assert len(read) == 8
    read.clear()
    open_data(data_config(str(root)))
    assert read == []

    changed = sorted((root / "a").iterdir())[1]
    contents = changed.read_bytes()
    changed.write_bytes(contents[: len(contents) // 2])
    times = changed.stat()
    os.utime(changed, ns=(times.st_atime_ns, times.st_mtime_ns))
    with pytest.raises(DataError, match=changed.name):
        open_data(data_config(str(root)))
    assert read == [changed.name]
    read.clear()
    with pytest.raises(DataError, match=changed.name):  # what is bad is not remembered as sound
        open_data(data_config(str(root)))
    assert read == [changed.name]

    changed.write_bytes(contents)
    read.clear()
    open_data(data_config(str(root)), channels=1)  # another model reads other channels
    assert len(read) == 8
    for file in (tmp_path / "cache" / "verified").iterdir():
        file.write_bytes(b"damaged")
    read.clear()
    open_data(data_config(str(root)))
    assert len(read) == 8
