"""Groups of images that a split keeps whole: what tables say of them."""

from __future__ import annotations

import pytest

from zoo.data import Columns, data_config, open_data, open_eval
from zoo.errors import DataError, UsageError


@pytest.fixture
def grouped(write_json_lines):
    """`grouped(photos, groups)` writes the table g.jsonl with those in its column `who`."""

    def write(photos: list[tuple[str, str]], groups: list[object]) -> str:
        rows = [{"image": p, "label": c, "who": g} for (p, c), g in zip(photos, groups, strict=True)]
        return write_json_lines("g.jsonl", rows)

    return write


def test_groups_stay_on_one_side(photos, grouped):
    names = ["ann", "ann", "bob", "bob", "cy", "cy"] * 2
    data = open_data(data_config(grouped(photos, names), Columns(labels=("label",), group="who"), val_fraction=0.3))
    assert set(data.train.groups) & set(data.val.groups) == set()
    assert set(data.train.groups) | set(data.val.groups) == {0, 1, 2}
    assert data.train.source.groups.tolist() == [0, 0, 1, 1, 2, 2] * 2
    assert "whole groups" in data.rule
    assert open_eval(data_config("g.jsonl", Columns(labels=("label",), group="gone")), ("cat", "dog"))[0].groups is None


def test_group_errors_are_reported(photos, grouped):
    by_who = Columns(labels=("label",), group="who")
    with pytest.raises(DataError, match="no group in column 'who': lines 2, 12"):
        open_data(data_config(grouped(photos, ["a", None, *["b"] * 9, ""]), columns=by_who))
    with pytest.raises(UsageError, match="no column 'whom'"):
        open_data(data_config("g.jsonl", Columns(labels=("label",), group="whom")))
    grouped([*photos, photos[0]], [*["a", "b"] * 6, "b"])
    with pytest.raises(DataError, match="an image with another group in an earlier line"):
        open_data(data_config("g.jsonl", columns=by_who))
    with pytest.raises(UsageError, match="photos is not a table and has no columns"):
        open_data(data_config("photos", Columns(group="who")))
    with pytest.raises(UsageError, match="digits is not a table and has no columns"):
        open_data(data_config("digits", Columns(group="who")))


def test_groups_in_both_given_parts_are_reported(photos, write_json_lines):
    rows = [
        {"image": p, "label": c, "who": "x" if i < 3 else i, "split": "val" if i % 3 == 0 else "train"}
        for i, (p, c) in enumerate(photos)
    ]
    write_json_lines("t.jsonl", rows)
    data = open_data(data_config("t.jsonl", Columns(labels=("label",), group="who")))
    assert "1 groups of column 'who' have images in both training and validation" in data.notes
    write_json_lines("a.jsonl", [r for r in rows if r["split"] == "train"])
    write_json_lines("b.jsonl", [{k: v for k, v in r.items() if k != "who"} for r in rows if r["split"] == "val"])
    data = open_data(data_config("a.jsonl", Columns(labels=("label",), group="who"), val="b.jsonl"))
    assert data.val.groups is None
