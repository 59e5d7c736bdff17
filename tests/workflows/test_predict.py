"""Predictions: values and order for any batch size, and unreadable files."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import zoo
from zoo.augment.fit import EvalView
from zoo.data import read_image
from zoo.errors import DataError, UsageError
from zoo.run import Run
from zoo.training.inference import Normalize
from zoo.workflows.load_run import load_run

MakeRun = Callable[..., Run]


@pytest.fixture
def run(make_run: MakeRun) -> Run:
    return make_run("test_vit", ("cat", "dog", "owl"), img_size=32)


def outputs_of(run: Run, path: Path) -> torch.Tensor:
    restored = load_run(run)
    view = EvalView(restored.preprocess)
    images = torch.from_numpy(read_image(str(path), 3, lambda h, w: view).copy()).permute(2, 0, 1)[None]
    with torch.inference_mode():
        return restored.model.module(Normalize(restored.preprocess)(images))[0]


def by_hand(run: Run, path: Path) -> torch.Tensor:
    """(K,) probabilities of one image, computed separately."""
    return outputs_of(run, path).softmax(0)


@pytest.mark.parametrize("batch_size", [1, 5, 100])
def test_probabilities_in_the_order_of_the_images(run: Run, photo_folder: Path, batch_size: int) -> None:
    files = sorted(photo_folder.rglob("*.jpg"))
    found = list(zoo.predict(run, photo_folder, top=2, batch_size=batch_size))
    assert [p.path for p in found] == [str(f) for f in files]
    for p in (found[0], found[13]):
        values, indices = by_hand(run, Path(p.path)).topk(2)
        assert [label for label, _ in p.top] == [("cat", "dog", "owl")[i] for i in indices]
        assert [share for _, share in p.top] == pytest.approx(values.tolist(), abs=1e-5)
        assert (p.label, p.probability) == p.top[0]


def test_files_and_folders_keep_their_order(run: Run, photo_folder: Path) -> None:
    a, b = photo_folder / "flower" / "01.jpg", photo_folder / "china"
    found = [p.path for p in zoo.predict(run, [a, b])]
    assert found == [str(a), *(str(p) for p in sorted(b.iterdir()))]


def test_top_is_limited_to_the_number_of_classes(run: Run, photo_folder: Path) -> None:
    (p,) = zoo.predict(run, photo_folder / "china" / "00.jpg", top=50)
    assert sorted(label for label, _ in p.top) == ["cat", "dog", "owl"]
    assert sum(share for _, share in p.top) == pytest.approx(1, abs=1e-5)


def test_multi_label_predicts_labels_above_the_threshold(make_run: MakeRun, photo_folder: Path) -> None:
    run = make_run("test_vit", tuple("abcdefgh"), task="multi-label", img_size=32)
    image = photo_folder / "china" / "04.jpg"
    probability = dict(zip("abcdefgh", outputs_of(run, image).sigmoid().tolist(), strict=True))
    ranked = sorted(probability, key=lambda name: -probability[name])
    (found,) = zoo.predict(run, image)
    assert found.labels == tuple(n for n in ranked if probability[n] >= 0.5)
    assert 0 < len(found.top) < 8
    assert [p for _, p in found.top] == pytest.approx([probability[n] for n in found.labels], abs=1e-5)
    cut = (probability[ranked[1]] + probability[ranked[2]]) / 2
    (found,) = zoo.predict(run, image, threshold=cut)
    assert found.labels == tuple(ranked[:2])
    assert [len(p.top) for t in (0.0, 1.0) for p in zoo.predict(run, image, threshold=t)] == [8, 0]
    (found,) = zoo.predict(run, image, threshold=1.0)
    assert found.to_dict() == {"path": str(image), "labels": []}
    (found,) = zoo.predict(run, image, top=6)
    assert found.labels == tuple(ranked[:6]), "whatever their probability"


def test_regression_predicts_a_value_for_each_target(make_run: MakeRun, photo_folder: Path) -> None:
    run = make_run("test_vit", ("width", "height"), task="regression", img_size=32)
    files = sorted((photo_folder / "china").iterdir())[:3]
    found = list(zoo.predict(run, files, batch_size=2))
    for p, file in zip(found, files, strict=True):
        assert list(p.values) == ["width", "height"]
        assert list(p.values.values()) == pytest.approx(outputs_of(run, file).tolist(), abs=1e-5)
        assert p.to_dict() == {"path": str(file), "values": p.values}
        assert p.top == ()


@pytest.mark.parametrize(
    ("task", "options", "message"),
    [
        ("single-label", {"threshold": 0.5}, "this is a single-label run"),
        ("regression", {"threshold": 0.5}, "this is a regression run"),
        ("regression", {"top": 2}, "predicts numbers"),
        ("multi-label", {"top": 2, "threshold": 0.5}, "exclude each other"),
        ("multi-label", {"threshold": 1.5}, "1.5 is not a probability"),
        ("multi-label", {"threshold": float("nan")}, "nan is not a probability"),
    ],
)
def test_options_of_another_task_are_errors(make_run: MakeRun, task: str, options: dict, message: str) -> None:
    run = make_run("test_vit", ("a", "b"), task=task, img_size=32)
    with pytest.raises(UsageError, match=message):
        zoo.predict(run, "x.jpg", **options)


def test_unreadable_files_are_reported_and_skipped(run: Run, photo_folder: Path, tmp_path: Path) -> None:
    (tmp_path / "bad.jpg").write_bytes(b"\xff\xd8\xff")
    good = [photo_folder / "china" / f"0{i}.jpg" for i in range(3)]
    paths = [good[0], tmp_path / "bad.jpg", good[1], tmp_path / "none.png", good[2]]
    bad: list = []
    found = list(zoo.predict(run, paths, batch_size=2, on_bad=bad.append))
    assert [p.path for p in found] == [str(g) for g in good]
    assert [Path(b.path).name for b in bad] == ["bad.jpg", "none.png"]
    with pytest.raises(DataError, match=r"bad\.jpg"):
        list(zoo.predict(run, paths))


def test_predictions_are_streamed(run: Run, photo_folder: Path) -> None:
    """An endless list of paths gives its first predictions."""

    def endless() -> Iterator[Path]:
        while True:
            yield photo_folder / "china" / "00.jpg"

    stream = zoo.predict(run, endless(), batch_size=2)
    assert [next(stream).label for _ in range(5)]


def test_no_image_is_an_error(run: Run, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no image"):
        list(zoo.predict(run, []))
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="empty"):
        list(zoo.predict(run, tmp_path / "empty"))


def test_arrays_as_images(run: Run, photo_folder: Path) -> None:
    files = [photo_folder / "china" / f"0{i}.jpg" for i in range(5)]
    arrays = []
    for file in files:
        with Image.open(file) as image:
            arrays.append(np.asarray(image.convert("RGB")))
    found = list(zoo.predict(run, iter(arrays), batch_size=2))
    assert [p.path for p in found] == ["0", "1", "2", "3", "4"]
    # A file is decoded at the size that is needed: within a grey level of the whole, resized.
    assert [p.probability for p in found] == pytest.approx([p.probability for p in zoo.predict(run, files)], abs=2e-3)
    with pytest.raises(DataError, match=r"image 1 is float32 \(4, 4, 3\)"):
        list(zoo.predict(run, [arrays[0], np.zeros((4, 4, 3), np.float32)]))


def test_one_channel_model_takes_arrays_without_channels(make_run: MakeRun) -> None:
    run = make_run("test_vit", ("a", "b"), in_chans=1, img_size=32)
    (p,) = zoo.predict(run, [np.zeros((9, 7), np.uint8)])
    assert p.label in "ab"


@pytest.mark.parametrize("options", [{"top": 0}, {"batch_size": 0}, {"device": "abacus"}])
def test_invalid_options_are_errors_at_the_call(run: Run, options: dict) -> None:
    with pytest.raises(UsageError):
        zoo.predict(run, "x.jpg", **options)


def test_an_unfinished_run_gives_a_note(make_run: MakeRun, photo_folder: Path) -> None:
    said: list[str] = []
    run = make_run("test_vit", img_size=32, status="failed")
    list(zoo.predict(run, photo_folder / "china" / "00.jpg", on_note=said.append))
    assert ["was failed" in s or "failed" in s for s in said] == [True]
