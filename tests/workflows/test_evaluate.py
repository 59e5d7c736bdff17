"""Metrics of an evaluation, the evaluated images, and the files."""

from __future__ import annotations

import csv
import errno
import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import zoo
from zoo import run as run_module
from zoo.data import Columns, data_config, make_loader, open_data
from zoo.errors import DataError, TrainingError, UsageError
from zoo.run import Run
from zoo.training.inference import Normalize, forward_all
from zoo.workflows.load_run import load_run

MakeRun = Callable[..., Run]
FILES = ["confusion.csv", "confusion.png", "evaluation.json", "per_class.csv"]


def photo_run(make_run: MakeRun, folder: Path, classes: tuple[str, ...] = ("china", "flower"), **more: object) -> Run:
    return make_run("test_vit", classes, img_size=32, data={"source": str(folder), **more})


def test_evaluates_the_validation_images_of_the_run(make_run: MakeRun, photo_folder: Path) -> None:
    run = photo_run(make_run, photo_folder, seed=7, val_fraction=0.25)
    found = zoo.evaluate(run, batch_size=5, workers=0)
    data = open_data(data_config(str(photo_folder), val_fraction=0.25), seed=7)
    assert found.evaluation.images == len(data.val) == 6
    restored = load_run(run)
    loader = make_loader(
        data.val, preprocess=restored.preprocess, batch_size=9, train=False, augment=None, seed=0, workers=0
    )
    logits, targets = forward_all(
        restored.model.module, loader, Normalize(restored.preprocess), device=torch.device("cpu")
    )
    assert found.evaluation.top1 == pytest.approx(float((logits.argmax(1) == targets).float().mean()))
    assert found.evaluation.loss == pytest.approx(float(torch.nn.functional.cross_entropy(logits, targets)), rel=1e-5)
    assert found.notes == ()
    assert found.folder == run.path


def test_files_agree_with_the_result(make_run: MakeRun, photo_folder: Path) -> None:
    run = photo_run(make_run, photo_folder)
    found = zoo.evaluate(run).evaluation
    assert set(FILES) <= {p.name for p in run.path.iterdir()}
    stored = json.loads((run.path / "evaluation.json").read_text())
    assert stored["top1"] == found.top1
    assert stored["confusion"] == [list(row) for row in found.confusion]
    with (run.path / "per_class.csv").open(newline="") as f:
        rows = list(csv.DictReader(f))
    assert [r["class"] for r in rows] == ["china", "flower"]
    assert [int(r["support"]) for r in rows] == [c.support for c in found.per_class]
    with (run.path / "confusion.csv").open(newline="") as f:
        matrix = list(csv.reader(f))
    assert matrix[0][1:] == ["china", "flower"]
    assert [[int(v) for v in row[1:]] for row in matrix[1:]] == stored["confusion"]
    with Image.open(run.path / "confusion.png") as picture:
        assert picture.format == "PNG"


def test_other_data_matches_classes_by_name(make_run: MakeRun, photo_folder: Path, tmp_path: Path) -> None:
    """The model knows a third class and another order; the folder has images of one class only."""
    run = photo_run(make_run, photo_folder, ("zebra", "flower", "china"))
    (tmp_path / "more").mkdir()
    shutil.copytree(photo_folder / "china", tmp_path / "more" / "china")
    found = zoo.evaluate(run, str(tmp_path / "more"))
    assert [c.support for c in found.evaluation.per_class] == [0, 0, 12]
    assert found.folder == run.path / "evaluation-more"
    assert sorted(p.name for p in found.folder.iterdir()) == FILES
    assert not (run.path / "evaluation.json").exists()


def test_data_folders_with_the_same_name_do_not_overwrite_each_other(
    make_run: MakeRun, photo_folder: Path, tmp_path: Path
) -> None:
    run = photo_run(make_run, photo_folder)
    for parent in ("a", "b"):
        shutil.copytree(photo_folder, tmp_path / parent / "photos")
    names = [zoo.evaluate(run, str(tmp_path / p / "photos")).folder.name for p in ("a", "b", "a")]
    assert names == ["evaluation-photos", "evaluation-photos-2", "evaluation-photos"]


def test_notes_about_changed_images_and_training_images(make_run: MakeRun, photo_folder: Path, tmp_path: Path) -> None:
    folder = tmp_path / "photos"
    shutil.copytree(photo_folder, folder)
    data = open_data(data_config(str(folder)))
    sizes = {"train_images": len(data.train), "val_images": len(data.val)}
    run = photo_run(make_run, folder, fingerprint=data.fingerprint(), **sizes)
    assert zoo.evaluate(run, save=False).notes == ()
    (note,) = zoo.evaluate(run, str(folder), save=False).notes
    assert "training images" in note
    (folder / "china" / "00.jpg").unlink()
    (note,) = zoo.evaluate(run, save=False).notes
    assert "have changed" in note


@pytest.fixture
def table(photo_folder: Path, tmp_path: Path) -> Path:
    """All photographs with two values and two tags each, split by rows, in columns with unusual names."""
    lines = ["photo,warmth,size,tags,part"]
    for i, path in enumerate(sorted(photo_folder.rglob("*.jpg"))):
        tags = "|".join(t for t, given in (("even", i % 2 == 0), ("third", i % 3 == 0)) if given)
        lines.append(f"{path},{i / 2},{1000 + 7 * i},{tags},{'val' if i % 4 == 0 else 'train'}")
    file = tmp_path / "table.csv"
    file.write_text("\n".join(lines) + "\n")
    return file


def outputs_of(run: Run, folder: Path, numbers: range) -> np.ndarray:
    files = sorted(folder.rglob("*.jpg"))
    found = list(zoo.predict(run, [files[i] for i in numbers], top=None))
    return np.array([list(p.values.values()) for p in found])


NUMBERS = {"image_column": "photo", "label_column": ["warmth", "size"], "split_column": "part"}
TAGS = {"image_column": "photo", "label_column": ["tags"], "label_separator": "|", "split_column": "part"}


def test_regression_from_a_table(make_run: MakeRun, photo_folder: Path, table: Path) -> None:
    run = make_run(
        "test_vit", ("warmth", "size"), task="regression", img_size=32, data={"source": str(table), **NUMBERS}
    )
    found = zoo.evaluate(run, batch_size=4)
    rows = range(0, 24, 4)
    true = np.array([[i / 2, 1000 + 7 * i] for i in rows])
    said = outputs_of(run, photo_folder, rows)
    assert found.evaluation.task == "regression"
    assert found.evaluation.images == 6
    np.testing.assert_allclose(found.targets, true, rtol=1e-6)
    np.testing.assert_allclose(found.outputs, said, rtol=1e-5, atol=1e-5)
    assert [t.mean for t in found.evaluation.per_target] == pytest.approx(true.mean(0).tolist())
    errors = np.abs(said - true)
    assert [t.mae for t in found.evaluation.per_target] == pytest.approx(errors.mean(0).tolist(), rel=1e-4)
    assert found.evaluation.mae == pytest.approx(errors.mean(), rel=1e-4)
    assert sorted(p.name for p in found.save()) == ["evaluation.json", "per_target.csv", "scatter.png"]
    with (run.path / "per_target.csv").open(newline="") as f:
        (warmth, size) = csv.DictReader(f)
    assert (warmth["target"], size["target"]) == ("warmth", "size")
    assert float(size["rmse"]) == pytest.approx(found.evaluation.per_target[1].rmse)
    with Image.open(run.path / "scatter.png") as picture:
        assert picture.format == "PNG"
    assert json.loads((run.path / "evaluation.json").read_text())["task"] == "regression"


def test_multi_label_from_a_table(make_run: MakeRun, table: Path) -> None:
    run = make_run("test_vit", ("even", "third"), task="multi-label", img_size=32, data={"source": str(table), **TAGS})
    found = zoo.evaluate(run)
    assert found.targets.tolist() == [[1.0, float(i % 3 == 0)] for i in range(0, 24, 4)]
    assert [s.support for s in found.evaluation.per_label] == [6, 2]
    chosen = found.outputs.sigmoid() >= 0.5
    assert found.evaluation.subset_accuracy == pytest.approx(
        float((chosen == (found.targets > 0.5)).all(1).float().mean())
    )
    assert sorted(p.name for p in found.save()) == ["evaluation.json", "labels.png", "per_label.csv"]
    with (run.path / "per_label.csv").open(newline="") as f:
        rows = list(csv.DictReader(f))
    assert (rows[0]["label"], rows[0]["support"], rows[0]["auroc"]) == ("even", "6", "")


def test_another_table_with_other_column_names(make_run: MakeRun, table: Path, tmp_path: Path) -> None:
    """Some columns are named in the call; the others have the names of the run's table."""
    run = make_run(
        "test_vit", ("warmth", "size"), task="regression", img_size=32, data={"source": str(table), **NUMBERS}
    )
    other = tmp_path / "other.csv"
    lines = table.read_text().replace("part", "fold", 1).replace("val", "test").splitlines()
    other.write_text("\n".join(lines) + "\n")
    found = zoo.evaluate(run, str(other), split="test", columns=Columns(split="fold"), save=False)
    assert found.evaluation.images == 6
    assert found.rule == "the 6 images of test"
    found = zoo.evaluate(run, str(other), split="train", columns=Columns(split="fold"), save=False)
    assert found.evaluation.images == 18
    with pytest.raises(UsageError, match="--data"):
        zoo.evaluate(run, split="test")


@pytest.mark.parametrize(("task", "names"), [("multi-label", tuple("0123456789")), ("regression", ("value",))])
def test_digits_in_every_task(make_run: MakeRun, task: str, names: tuple[str, ...]) -> None:
    run = make_run("test_vit", names, task=task, img_size=32)
    found = zoo.evaluate(run, save=False)
    assert found.evaluation.task == task
    images = len(open_data(data_config("digits"), task=task).val)
    assert found.evaluation.images == images
    assert found.targets.shape == found.outputs.shape == (images, len(names))


def test_unreadable_files_follow_the_policy_of_the_run(make_run: MakeRun, photo_folder: Path, tmp_path: Path) -> None:
    folder = tmp_path / "photos"
    shutil.copytree(photo_folder, folder)
    (folder / "china" / "zz.jpg").write_bytes(b"no image")
    with pytest.raises(DataError, match=r"zz\.jpg"):
        zoo.evaluate(photo_run(make_run, photo_folder), str(folder))
    found = zoo.evaluate(
        make_run("test_vit", ("china", "flower"), img_size=32, data={"unreadable": "skip"}, where="b"), str(folder)
    )
    assert found.evaluation.images == 24
    assert [Path(b.path).name for b in found.skipped_files] == ["zz.jpg"]


def test_unknown_classes_are_an_error(make_run: MakeRun, photo_folder: Path) -> None:
    with pytest.raises(DataError, match="flower"):
        zoo.evaluate(photo_run(make_run, photo_folder, ("china", "zebra")), str(photo_folder))


@pytest.mark.parametrize(
    ("options", "message"),
    [({"batch_size": 0}, "batch-size"), ({"workers": -1}, "workers"), ({"device": "tpu9"}, "tpu9")],
)
def test_invalid_options_are_errors(make_run: MakeRun, options: dict, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        zoo.evaluate(make_run(), **options)


def test_a_full_disk_keeps_the_previous_files(
    make_run: MakeRun, photo_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = photo_run(make_run, photo_folder)
    (run.path / "evaluation.json").write_text("{}")

    def full(source: object, target: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(run_module.os, "replace", full)
    with pytest.raises(TrainingError, match="no space left") as e:
        zoo.evaluate(run)
    assert "not saved" in e.value.hint
    assert (run.path / "evaluation.json").read_text() == "{}"
    assert not list(run.path.glob(".*tmp"))


def test_one_grey_channel(make_run: MakeRun, tmp_path: Path) -> None:
    for name in ("dark", "light"):
        (tmp_path / "grey" / name).mkdir(parents=True)
        for i in range(2):
            level = np.full((20 + i, 30, 3), 200 if name == "light" else 20, np.uint8)
            Image.fromarray(level).save(tmp_path / "grey" / name / f"{i}.png")
    run = make_run("test_vit", ("dark", "light"), in_chans=1, img_size=32)
    assert zoo.evaluate(run, str(tmp_path / "grey")).evaluation.images == 4
