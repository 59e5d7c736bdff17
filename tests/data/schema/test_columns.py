"""Inference of the roles of columns, and of the task."""

from __future__ import annotations

import pytest

from zoo.data.schema.column_stats import ColumnStats
from zoo.data.schema.columns import Columns, infer_columns
from zoo.data.schema.infer_task import infer_task
from zoo.errors import DataError, UsageError


def column_stats(**columns: list[object]) -> list[ColumnStats]:
    found = []
    for name, cells in columns.items():
        stats = ColumnStats(name.replace("__", " "))
        for start in range(0, len(cells), 3):  # in blocks, as a table is read
            stats.update([str(c) for c in cells[start : start + 3]])
        found.append(stats)
    return found


IMAGES = [f"{i}.jpg" for i in range(40)]
TEXT = ["cat", "dog"] * 20
FLAGS = [0, 1] * 20
NUMBERS = [i / 8 for i in range(40)]
WHOLE = list(range(40))


@pytest.mark.parametrize(
    ("columns", "named", "image", "labels", "split"),
    [
        ({"label": TEXT, "Image": IMAGES}, {}, "Image", ["label"], None),
        ({"x": IMAGES, "y": TEXT}, {}, "x", ["y"], None),
        ({"file": WHOLE, "path": IMAGES, "label": TEXT}, {}, "path", ["label"], None),
        ({"image": WHOLE, "kind": TEXT}, {}, "image", ["kind"], None),
        ({"image": IMAGES, "id": WHOLE, "Category": TEXT}, {}, "image", ["Category"], None),
        ({"": WHOLE, "image": IMAGES, "kind": TEXT, "note": [""] * 40}, {}, "image", ["kind"], None),
        ({"Unnamed: 0": WHOLE, "image": IMAGES, "kind": TEXT}, {}, "image", ["kind"], None),
        ({"image": IMAGES, "a": FLAGS, "b": FLAGS, "c": FLAGS}, {}, "image", ["a", "b", "c"], None),
        ({"image": IMAGES, "x": NUMBERS, "y": NUMBERS}, {}, "image", ["x", "y"], None),
        ({"image": IMAGES, "x": NUMBERS, "n": WHOLE}, {"task": "regression"}, "image", ["x", "n"], None),
        ({"image": IMAGES, "split": ["train", "VAL"] * 20, "kind": TEXT}, {}, "image", ["kind"], "split"),
        ({"image": IMAGES, "split": TEXT}, {}, "image", ["split"], None),
        ({"image": IMAGES, "a": TEXT, "b": TEXT}, {"columns": Columns(labels=("b",))}, "image", ["b"], None),
        ({"left": IMAGES, "right": IMAGES, "k": TEXT}, {"columns": Columns("right", ("k",))}, "right", ["k"], None),
        ({"image": IMAGES, "n": TEXT, "a": FLAGS, "b": FLAGS}, {"task": "multi-label", "classes": ("b", "a")},
         "image", ["b", "a"], None),
    ],
)  # fmt: skip
def test_columns_are_inferred(columns, named, image, labels, split):
    found = column_stats(**columns)
    roles = infer_columns(found, **{"columns": Columns(), "table": "t.csv", **named})
    names = [f.name for f in found]
    assert names[roles.image] == image
    assert [names[i] for i in roles.labels] == labels
    assert (None if roles.split is None else names[roles.split]) == split


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"image": IMAGES, "a": TEXT, "b": TEXT}, "may be the label: 'a', 'b'"),
        ({"image": IMAGES, "a": TEXT, "b": FLAGS, "c": FLAGS}, "may be the label: 'a', 'b', 'c'"),
        ({"image": IMAGES, "n": WHOLE, "m": WHOLE}, "may be the label: 'n', 'm'"),
        ({"image": IMAGES, "x": NUMBERS, "n": WHOLE}, "may be the label: 'x', 'n'"),
        ({"image": IMAGES, "class": TEXT, "tags": TEXT, "n": WHOLE}, "2 columns of t.csv may be the label: 'class',"),
        ({"a": TEXT, "b": TEXT}, "no column of t.csv looks like image paths: 'a', 'b'"),
        ({"image": IMAGES}, "t.csv has no label column"),
    ],
)  # fmt: skip
def test_ambiguous_columns_raise(columns, message):
    with pytest.raises(DataError) as e:
        infer_columns(column_stats(**columns), Columns(), table="t.csv")
    assert message in e.value.message


@pytest.mark.parametrize(
    ("columns", "separator", "rows", "task", "why"),
    [
        ({"label": TEXT}, None, 40, "single-label", "because 'label' contains text"),
        ({"label": TEXT}, "|", 40, "multi-label", "because a label separator is given ('|')"),
        ({"a": FLAGS, "b": FLAGS}, None, 40, "multi-label", "because 'a' and 'b' contain only 0 and 1"),
        ({"a": FLAGS}, None, 40, "single-label", "because 'a' contains 2 different integers in 40 rows"),
        ({"a": NUMBERS}, None, 40, "regression", "because 'a' contains decimal numbers"),
        ({"a": [*NUMBERS, "NA"]}, None, 41, "regression", "because 'a' contains decimal numbers"),
        ({"a": NUMBERS, "b": WHOLE}, None, 40, "regression", "because 'a' and 'b' contain numbers"),
        ({"a": WHOLE}, None, 79, "regression", "because 'a' contains 40 different integers in 79 rows"),
        ({"a": WHOLE}, None, 80, "single-label", "because 'a' contains 40 different integers in 80 rows"),
        ({"a": list(range(100))}, None, 999, "single-label", ""),
        ({"a": list(range(101))}, None, 999, "regression", ""),
        ({"Label": list(range(101))}, None, 999, "single-label", ""),
        ({"target": list(range(101))}, None, 999, "regression", ""),
        ({"label": list(range(10_001))}, None, 99_999, "regression", "contains more than 10,000 different"),
        ({"a": ["1.0", "2.0"]}, None, 40, "single-label", ""),
        ({"tags": ["a|b", "b|c", "c"]}, None, 40, "single-label", "labels, use --label-separator '|'"),
    ],
)  # fmt: skip
def test_the_task_is_inferred_from_the_labels(columns, separator, rows, task, why):
    found, sentence = infer_task(column_stats(**columns), rows, Columns(separator=separator), table="t.csv")
    assert found == task
    assert sentence.startswith(f"{task}, ")
    assert why in sentence


@pytest.mark.parametrize("task", ["single-label", "multi-label", "regression"])
def test_a_requested_task_is_used(task):
    assert infer_task(column_stats(a=FLAGS), 40, Columns(), table="t.csv", task=task) == (task, f"{task}, as requested")


@pytest.mark.parametrize(
    ("columns", "separator", "task", "message"),
    [
        ({"a": TEXT}, None, "regression", "column 'a' of t.csv has non-numbers, such as 'cat', 'dog'"),
        ({"a": TEXT, "b": TEXT}, None, "single-label", "several label columns, but single-label needs one"),
        ({"a": FLAGS, "b": TEXT}, None, "multi-label", "'b' of t.csv has more than 0 and 1, such as 'cat', 'dog'"),
        ({"a": FLAGS, "b": TEXT}, None, "auto", "no task fits 'a' and 'b' of t.csv: they contain text and numbers"),
        ({"a": TEXT}, "|", "single-label", "a label separator means several labels per image"),
        ({"a": NUMBERS}, "|", "regression", "regression does not take a label separator"),
        ({"a": FLAGS, "b": FLAGS}, "|", "multi-label", "needs a single label column"),
        ({"a": [""]}, None, "auto", "column 'a' of t.csv has no labels"),
    ],
)  # fmt: skip
def test_a_task_that_does_not_fit_raises(columns, separator, task, message):
    with pytest.raises((DataError, UsageError)) as e:
        infer_task(column_stats(**columns), 40, Columns(separator=separator), table="t.csv", task=task)
    assert message in e.value.message
