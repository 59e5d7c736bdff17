"""Folds, saved splits and balance from the command line to the run and back."""

from __future__ import annotations

import shutil

import numpy as np
import pytest
import torch
from PIL import Image

import zoo
from zoo.data import data_config, open_data
from zoo.errors import DataError, Interrupted, RecipeError
from zoo.recipe import load_values
from zoo.run import Run
from zoo.workflows.finetune import loop
from zoo.workflows.finetune.build import build_session
from zoo.workflows.finetune.run import resolve_options

QUICK = {"transfer.start": "plain", "augment.name": "light", "model.img_size": 32}


def train(folder, where, **options):
    settings = QUICK | options.pop("settings", {})
    return zoo.finetune(
        "test_resnet", data=str(folder), weights="none", epochs=options.pop("epochs", 1), output_dir=where,
        settings=settings, progress=False, **options,
    )  # fmt: skip


@pytest.fixture
def photos(photo_folder, tmp_path):
    return shutil.copytree(photo_folder, tmp_path / "photos")


def test_a_run_writes_its_split_for_other_runs_and_evaluation(photos):
    first = train(photos, "a", seed=4, folds=4, fold=3)
    held_out = open_data(data_config(str(photos), folds=4, fold=3), seed=4).val.names
    assert [n for n in first.split_file.read_text().splitlines() if n[0] != "#"] == list(held_out)
    for i in range(3):  # the data grow: a new random split would differ
        Image.new("RGB", (40, 40)).save(photos / "china" / f"0new{i}.jpg")
    second = train(photos, "b", split="a")
    assert [n for n in second.split_file.read_text().splitlines() if n[0] != "#"] == list(held_out)
    assert second.split_file.read_text().splitlines()[1] == "# images: 21 for training, 6 for validation"
    recorded = load_values(second.path)["data"]
    assert (recorded["split"], recorded["folds"]) == (str(first.path.resolve()), None)
    for split, warnings in ((None, 1), (str(first.path), 0)):
        again = resolve_options("test_resnet", data=str(photos), weights=str(first.path), split=split, settings=QUICK)
        assert sum("may have been trained on" in note for note in build_session(again).notes) == warnings
    shutil.rmtree(first.path)
    found = zoo.evaluate(second, save=False)
    assert found.notes == ()
    assert len(found.targets) == 6
    assert found.rule == second.info()["data"]["rule"]


def test_a_run_is_evaluated_on_its_held_out_images_after_the_data_have_grown(photos):
    run = train(photos, "a")
    before = zoo.evaluate(run, save=False)
    for i in range(8):
        Image.new("RGB", (40, 40)).save(photos / "flower" / f"0new{i}.jpg")
    after = zoo.evaluate(run, save=False)
    assert torch.equal(before.outputs, after.outputs)
    assert before.notes == ()
    assert len(after.notes) == 2
    assert after.notes[0].endswith("have changed since the run: evaluating on the held-out images that remain")
    assert after.notes[1] == f"split {run.split_file}: 8 images more than when it was made are for training"
    run.split_file.unlink()  # as runs from before: by the rule
    assert zoo.evaluate(run, save=False).notes[0].endswith("the evaluation may include training images")


def test_a_missing_split_file_is_an_error_if_no_rule_replaces_it(photos):
    train(photos, "a")
    run = train(photos, "b", split="a")
    run.split_file.unlink()
    with pytest.raises(DataError, match=r"split\.txt is missing: it lists the held-out images"):
        zoo.evaluate(run, save=False)


def test_no_split_is_written_if_validation_images_are_given(photos, tmp_path):
    whole = shutil.copytree(photos, tmp_path / "other")
    run = train(photos, "a", val=str(whole))
    assert not run.split_file.exists()
    assert len(zoo.evaluate(run, save=False).targets) == 24


@pytest.mark.parametrize("balance", ["oversample", "sqrt"])
def test_a_resumed_run_continues_with_the_same_batches(photos, monkeypatch, balance):
    for i in range(9):
        (photos / "flower" / f"{i:02d}.jpg").unlink()
    settings = {"data.batch_size": 5, "train.amp": False, "augment.name": "medium"}
    options = {"balance": balance, "epochs": 3, "device": "cpu", "settings": settings}
    whole = train(photos, "whole", **options)

    real, done = loop._run_epoch, []

    def stop_in_the_second(*args):
        if done:
            raise KeyboardInterrupt
        done.append(1)
        return real(*args)

    monkeypatch.setattr(loop, "_run_epoch", stop_in_the_second)
    with pytest.raises(Interrupted):
        train(photos, "broken", **options)
    monkeypatch.setattr(loop, "_run_epoch", real)
    broken = Run.open("broken")
    zoo.resume(broken.path, progress=False)
    a, b = whole.checkpoint()[0], broken.checkpoint()[0]
    assert a.keys() == b.keys()
    assert all(torch.equal(a[k], b[k]) for k in a)
    rows = [[row["train_loss"] for row in run.metrics()] for run in (whole, broken)]
    assert rows[0] == rows[1]


def test_balance_is_printed(photos):
    for i in range(9):
        (photos / "flower" / f"{i:02d}.jpg").unlink()
    session = build_session(
        resolve_options("test_resnet", data=str(photos), weights="none", balance="oversample", settings=QUICK)
    )
    counts = np.bincount(session.data.train.targets)
    assert counts.tolist() == [10, 2]
    assert "balance oversample: an epoch draws 12 times: flower 6 (of 2), china 6 (of 10)" in session.notes
    seen = torch.cat([targets for _, targets in session.train])
    assert torch.bincount(seen).tolist() == [6, 6]


def test_invalid_balance_is_an_error():
    with pytest.raises(RecipeError, match=r"data.balance: sqrt needs classes, and regression has none"):
        build_session(resolve_options("test_resnet", data="digits", task="regression", weights="none", balance="sqrt"))
    with pytest.raises(RecipeError, match=r"data\.balance=oversample both correct the class balance"):
        build_session(resolve_options("test_resnet", weights="none", balance="oversample", class_weights="balanced"))
    with pytest.raises(RecipeError, match=r"data\.balance: should be 'none', 'oversample' or 'sqrt'"):
        resolve_options("test_resnet", balance="evenly")


def test_the_flags(zoo, photos):
    result = zoo("finetune", "test_resnet", "--data", photos, "--folds", 3, "--fold", 4, "--dry-run")
    assert result.code == 2
    assert "--fold 4 is not one of 3 folds" in result.err
    result = zoo("finetune", "test_resnet", "--data", photos, "--split", "nowhere", "--dry-run")
    assert result.code == 3
    assert "no such split: nowhere" in result.err
    result = zoo(
        "finetune", "test_resnet", "--data", photos, "--weights", "none", "--folds", 3, "--fold", 1,
        "--balance", "sqrt", "--dry-run",
    )  # fmt: skip
    assert result.code == 0
    assert "validation: 8 of 24 images (fold 1 of 3, seed 0)" in result.err
    assert "folds: 3\n" in result.out
    assert "balance: sqrt\n" in result.out
