from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from sklearn.utils.class_weight import compute_class_weight

from zoo.errors import UsageError
from zoo.losses import make_loss
from zoo.losses.class_weights import BETA, LIMIT, class_weights

CLASSES = ("cat", "dog", "eel")
NUMBERS = np.array([0] * 60 + [1] * 30 + [2] * 10)


def weights(kind: str, targets: np.ndarray = NUMBERS, task: str = "single-label") -> list[float]:
    found = class_weights(kind, targets, CLASSES, task=task)
    assert found is not None
    assert found.dtype == torch.float32
    return found.tolist()


def test_none_is_none() -> None:
    assert class_weights("none", NUMBERS, CLASSES, task="regression") is None


def test_balanced_is_scikit_learn_s() -> None:
    theirs = compute_class_weight("balanced", classes=np.arange(3), y=NUMBERS)
    assert weights("balanced") == pytest.approx(theirs)
    assert weights("balanced") == pytest.approx([100 / 180, 100 / 90, 100 / 30])


def test_balanced_classes_share_the_loss_equally() -> None:
    """With equal outputs everywhere each class adds a third of the weighted cross entropy's gradient."""
    x = torch.zeros(100, 3, requires_grad=True)
    loss = make_loss(
        "cross_entropy", {}, class_weights=class_weights("balanced", NUMBERS, CLASSES, task="single-label")
    )
    loss(x, torch.from_numpy(NUMBERS)).backward()
    assert x.grad is not None
    assert x.grad.sum(0).tolist() == pytest.approx([0, 0, 0], abs=1e-6)


def test_effective_is_the_paper_s_and_averages_one() -> None:
    raw = [(1 - BETA) / (1 - BETA**n) for n in (60, 30, 10)]
    assert weights("effective") == pytest.approx([3 * w / sum(raw) for w in raw], rel=1e-5)
    many = np.repeat([0, 1, 2], [60_000, 30_000, 10_000])
    assert weights("effective", many) == pytest.approx([1, 1, 1], abs=1e-3)


def test_a_class_without_images_gets_the_largest_weight() -> None:
    some = NUMBERS[NUMBERS != 2]
    assert weights("balanced", some) == pytest.approx([90 / 120, 90 / 60, 90 / 60])
    found = weights("effective", some)
    assert found[2] == found[1] > found[0]
    assert sum(found) == pytest.approx(3)
    assert weights("balanced", some[:0]) == [1, 1, 1]


def test_pixels_of_masks_are_counted_and_void_ones_left_out() -> None:
    masks = np.array([[[0, 0], [1, 255]], [[0, 2], [2, 255]]])
    assert weights("balanced", masks) == pytest.approx([6 / 9, 6 / 3, 6 / 6])


def test_labels_are_weighed_by_their_negatives() -> None:
    targets = np.zeros((200, 3), dtype=np.float32)
    targets[:50, 0], targets[:100, 1], targets[:160, 2] = 1, 1, 1
    assert weights("balanced", targets, "multi-label") == pytest.approx([3, 1, 0.25])
    effective = weights("effective", targets, "multi-label")
    assert effective == pytest.approx([(1 - BETA ** (200 - n)) / (1 - BETA**n) for n in (50, 100, 160)], rel=1e-5)
    targets[:, 0], targets[:, 1], targets[1:, 2] = 0, 1, 0
    assert weights("balanced", targets, "multi-label") == pytest.approx([1, 1 / LIMIT, LIMIT])


def test_regression_has_no_classes() -> None:
    with pytest.raises(UsageError, match="regression has none"):
        class_weights("balanced", np.zeros((4, 3)), CLASSES, task="regression")


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("w.json", '{"dog": 2, "cat": 0.5, "eel": 1e1}'),
        ("w.csv", "class,weight\ndog,2\n\ncat , 0.5\neel,10\n"),
        ("w.CSV", "\ufeffweight;images;Class\r\n2;7;dog\r\n0.5;;cat\r\n10;9;eel\r\n"),
        ("w.tsv", "class\tweight\ndog\t2\ncat\t0.5\neel\t10"),
    ],
)
def test_files(tmp_path: Path, name: str, text: str) -> None:
    (tmp_path / name).write_text(text, encoding="utf-8")
    assert weights(str(tmp_path / name)) == [0.5, 2, 10]


def test_every_problem_of_a_file_is_reported(tmp_path: Path) -> None:
    path = tmp_path / "w.csv"
    path.write_text("class,weight\ncat,1\ndgo,2\ncat,3\neel,nan\n")
    with pytest.raises(UsageError) as caught:
        weights(str(path))
    assert caught.value.message == (
        f"class weights {path}: 4 problems"
        "\n  - no class 'dgo'; did you mean 'dog'?"
        "\n  - 'cat' is given twice"
        "\n  - 'eel' has the weight 'nan': not a finite number from 0"
        "\n  - no weight for 'dog'"
    )
    assert caught.value.hint == "the classes are cat, dog, eel"


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("w.json", b"{", "are not JSON"),
        ("w.json", b"[1, 2]", "are not a mapping"),
        ("w.json", json.dumps({"cat": [1], "dog": True, "eel": "x"}).encode(), "3 problems"),
        ("w.json", b'{"cat": 1, "dog": 1, "eel": 1, "cat": 2}', "'cat' is given twice"),
        ("w.json", b'{"cat": 0, "dog": 0, "eel": 0}', "all weights are 0"),
        ("w.csv", b"cat,1\ndog,2\neel,3\n", "no columns class and weight"),
        ("w.csv", b'class,weight\n"cat,1\n', "are not a table"),
        ("w.csv", b"", "no columns class and weight"),
        ("w.csv", b"class,weight\ncat\ndog,1\neel,1\n", "'cat' has the weight '': not a finite number"),
        ("w.csv", "class,weight\ncaf\xe9,1\n".encode("latin1"), "are not UTF-8 text"),
        ("w.txt", b"cat 1", "have the unknown type '.txt'"),
    ],
)
def test_bad_files(tmp_path: Path, name: str, content: bytes, said: str) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(UsageError, match=said):
        weights(str(tmp_path / name))


def test_a_word_that_is_no_kind() -> None:
    with pytest.raises(UsageError, match=r"'balancd' are not none, balanced.*did you mean balanced"):
        weights("balancd")
