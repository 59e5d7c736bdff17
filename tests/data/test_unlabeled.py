from __future__ import annotations

import io
import shutil

import numpy as np
import pytest

from zoo.data import fit, iter_paths, open_images, read_image


def test_files_folders_and_stdin_are_expanded_in_order(make_folder, monkeypatch):
    root = make_folder("set", {"b/deep": 2, "a": 1})
    (root / "a" / "note.txt").touch()
    monkeypatch.setattr("sys.stdin", io.StringIO("set/a\r\n\nx y.jpg\n"))
    assert list(iter_paths(["one.jpg", str(root), "-"])) == [
        "one.jpg",
        *(str(root / n) for n in ("a/000.png", "b/deep/000.png", "b/deep/001.png")),
        "set/a/000.png",
        "x y.jpg",
    ]


def test_images_are_in_order_and_bad_files_separate(make_folder, hostile, preprocess):
    root = make_folder("set", {"a": 5})
    hostile.make_hostile(root)
    (root / "empty").mkdir()
    paths, problems, images = [], [], []
    for batch in open_images([str(root), "gone.jpg", "set/empty"], preprocess=preprocess, batch_size=4):
        assert len(batch.paths) == len(batch.images) <= 4
        paths += batch.paths
        problems += batch.problems
        images += list(batch.images.permute(0, 2, 3, 1).numpy())
    assert len(paths) == 5 + len(hostile.READABLE)
    assert paths == sorted(paths)
    reasons = {p.path: p.reason for p in problems}
    assert len(reasons) == len(hostile.UNREADABLE) + len(hostile.LINKS) + 2
    assert reasons["gone.jpg"] == "no such file or directory"
    assert reasons["set/empty"] == "a folder without images"
    for path, image in zip(paths, images, strict=True):
        assert np.array_equal(image, fit(read_image(path, 3), preprocess))


def test_at_most_one_batch_is_read_ahead(make_folder, preprocess):
    root = make_folder("set", {"a": 1})
    asked = []

    def endless():
        while True:
            asked.append(1)
            yield str(root / "a" / "000.png")

    batches = open_images(endless(), preprocess=preprocess, batch_size=3)
    assert not asked
    assert len(next(batches).paths) == 3
    assert len(asked) <= 7
    batches.close()


@pytest.mark.parametrize("channels", [1, 3])
def test_no_paths_give_no_batches(preprocess, channels):
    assert list(open_images([], preprocess=preprocess, batch_size=3)) == []


def test_a_deleted_folder_is_reported(make_folder, preprocess):
    root = make_folder("set", {"a": 3})
    batches = open_images([str(root)], preprocess=preprocess, batch_size=1)
    next(batches)
    shutil.rmtree(root)
    assert sum(len(b.problems) for b in batches) >= 1
