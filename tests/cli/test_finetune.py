"""`zoo finetune` at the command line: what it prints, and every kind of bad input."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from zoo.run import Run

FAST = ("--epochs", "1", "--batch-size", "128", "--img-size", "32")


def test_stdout_is_the_run_and_messages_go_to_stderr(zoo: Callable[..., Any]) -> None:
    done = zoo("finetune", "zoo_tiny", "--classes", "10", "--freeze", "backbone", "--epochs", "2")
    assert done.code == 0, done.err
    assert done.out == "runs/zoo_tiny-digits\n"
    assert "no --data given: training on the digits of scikit-learn" in done.err
    assert "1,930 of 984,308 parameters trainable" in done.err
    assert "epoch 1/1" in done.err  # the head is fitted directly
    assert "next: zoo evaluate runs/zoo_tiny-digits" in done.err
    names = {p.name for p in Path("runs/zoo_tiny-digits").iterdir()}
    assert names == {
        "recipe.yaml", "run.json", "metrics.jsonl", "model.safetensors", "model.json", "split.txt", "checkpoint",
        "curves.png", "confusion.png",
    }  # fmt: skip


def test_json_is_the_only_thing_on_stdout(zoo: Callable[..., Any]) -> None:
    done = zoo("finetune", "zoo_tiny", "--freeze", "backbone", "--epochs", "1", "--json")
    printed = json.loads(done.out)
    assert printed["status"] == "finished"
    assert printed["best"]["value"] == printed["metrics"][0]["val_top1"] > 0.5


def test_dry_run_writes_nothing_and_prints_a_recipe_that_runs(zoo: Callable[..., Any], tmp_path: Path) -> None:
    done = zoo("finetune", "zoo_tiny", "--freeze", "backbone", "--dry-run")
    assert done.code == 0
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "mine.yaml").write_text(done.out)
    assert zoo("finetune", "--recipe", "mine.yaml", "--epochs", "1").code == 0


def test_resume_cannot_be_combined_with_other_options(zoo: Callable[..., Any]) -> None:
    done = zoo("finetune", "resnet18", "--resume", "runs/x")
    assert done.code == 2
    assert "cannot be combined with MODEL" in done.err
    assert zoo("finetune", "--resume", "auto").code == 2


def test_resume_auto_starts_continues_and_finishes(zoo: Callable[..., Any], tmp_path: Path) -> None:
    command = ("finetune", "zoo_tiny", "--freeze", "backbone", "--epochs", "1", "-o", "job", "--resume", "auto")
    assert zoo(*command).code == 0
    first = Run.open(tmp_path / "job").info()
    again = zoo(*command)
    assert again.code == 0
    assert Run.open(tmp_path / "job").info() == first


@pytest.fixture
def folders(tmp_path: Path, photo_folder: Path) -> Path:
    """One folder of each kind of bad data."""
    images = sorted((photo_folder / "china").iterdir())

    def fill(name: str, count: int) -> Path:
        folder = tmp_path / name
        folder.mkdir(parents=True)
        for image in images[:count]:
            shutil.copy(image, folder)
        return folder

    fill("one_class/a", 4)
    fill("lonely/a", 4), fill("lonely/b", 1)
    fill("good/a", 6), fill("good/b", 6)
    fill("loose", 3)
    (tmp_path / "empty").mkdir()
    for name, data in {
        "zero": b"", "html": b"<html><body>404</body></html>", "text": b"hello\n" * 9,
        "cut": images[0].read_bytes()[:900],
    }.items():  # fmt: skip
        fill(f"{name}/a", 6), fill(f"{name}/b", 6)
        (tmp_path / name / "a" / "bad.jpg").write_bytes(data)
    (tmp_path / "file.txt").write_text("x")
    (tmp_path / "losses_of_mine.py").write_text(
        "import torch\n"
        "def vector(output, target): return output.sum(1)\n"
        "def number(output, target): return 1\n"
        "def nan(output, target): return output.sum() * float('nan')\n"
        "def breaks(output, target): return output @ target\n"
        "state = {'n': 0}\n"
        "def later_nan(output, target):\n"
        "    state['n'] += 1\n"
        "    loss = torch.nn.functional.cross_entropy(output, target)\n"
        "    return loss * float('nan') if state['n'] > 40 else loss\n"
    )
    return tmp_path


BAD: dict[str, tuple[list[str], int, str, str]] = {
    # what: (arguments, exit code, part of the error, part of the hint)
    "no such model": (["resnet35"], 4, "no model named 'resnet35'", "resnet34"),
    "no model at all": ([], 2, "no model named", "zoo list"),
    "no such path": (["zoo_tiny", "--data", "godo"], 3, "godo", "good"),
    "a file as data": (["zoo_tiny", "--data", "file.txt"], 3, "file.txt", ""),
    "empty folder": (["zoo_tiny", "--data", "empty"], 3, "empty", ""),
    "images without class folders": (["zoo_tiny", "--data", "loose"], 3, "loose", ""),
    "one class": (["zoo_tiny", "--data", "one_class"], 3, "one class", ""),
    "a class with one image": (["zoo_tiny", "--data", "lonely"], 3, "b", ""),
    "wrong --classes": (
        ["zoo_tiny", "--data", "good", "--classes", "5"],
        3,
        "good has 2 classes: a, b",
        "leave out --classes",
    ),
    "zero bytes": (["zoo_tiny", "--data", "zero"], 3, "bad.jpg", "skip"),
    "html as jpg": (["zoo_tiny", "--data", "html"], 3, "bad.jpg", "skip"),
    "truncated": (["zoo_tiny", "--data", "cut"], 3, "bad.jpg", "skip"),
    "not an image": (["zoo_tiny", "--data", "text"], 3, "bad.jpg", "skip"),
    "unknown key": (["zoo_tiny", "--set", "train.epoch=3"], 2, "did you mean train.epochs?", "zoo recipes full"),
    "--set without a value": (["zoo_tiny", "--set", "epochs"], 2, "not of the form key=value", "--set"),
    "unknown recipe": (["zoo_tiny", "--recipe", "heads-only"], 2, "no recipe 'heads-only'", "head-only"),
    "unknown loss": (["zoo_tiny", "--loss", "crossentropy"], 2, "no loss named 'crossentropy'", "cross_entropy"),
    "unknown loss parameter": (
        ["zoo_tiny", "--set", "loss.params.smoothing=1"],
        2,
        "did you mean label_smoothing?",
        "",
    ),
    "unknown optimizer": (["zoo_tiny", "--opt", "adamz"], 2, "no optimizer named 'adamz'", "adam"),
    "unknown schedule": (["zoo_tiny", "--sched", "cosin"], 2, "no schedule named 'cosin'", "cosine"),
    "unknown augmentation": (["zoo_tiny", "--set", "augment.name=lite"], 2, "lite", "light"),
    "unknown metric": (["zoo_tiny", "--set", "train.monitor=top_1"], 2, "did you mean top1", ""),
    "a plan that matches nothing": (["zoo_tiny", "--freeze", "layer9.*"], 4, "matches nothing", "stem, stage1"),
    "a plan that freezes all": (["zoo_tiny", "--freeze", "*"], 4, "leaves no trainable parameters", "groups"),
    "fp16 on the CPU": (
        ["zoo_tiny", "--device", "cpu", "--amp-dtype", "fp16"],
        2,
        "fp16 does not train on the CPU",
        "bf16",
    ),
    "unknown precision": (["zoo_tiny", "--amp-dtype", "fp8"], 2, "fp8", ""),
    "no such device": (["zoo_tiny", "--device", "tpu"], 2, "no device 'tpu'", "cuda"),
    "workers": (["zoo_tiny", "--workers", "-2"], 2, "data.workers", ""),
    "negative rate": (["zoo_tiny", "--lr", "-1"], 2, "optimizer.lr", ""),
    "weights that are not there": (["zoo_tiny", "--weights", "gone.safetensors"], 4, "gone.safetensors", ""),
    "a loss that returns a vector": (
        ["zoo_tiny", "--loss", "losses_of_mine:vector"],
        2,
        "vector returned shape (8,)",
        "scalar",
    ),
    "a loss that returns an int": (
        ["zoo_tiny", "--loss", "losses_of_mine:number"],
        2,
        "losses_of_mine:number returned 1 (int)",
        "scalar",
    ),
    "a loss that is NaN": (
        ["zoo_tiny", "--loss", "losses_of_mine:nan"],
        5,
        "losses_of_mine:nan is nan before the first step",
        "",
    ),
    "a loss that fails": (
        ["zoo_tiny", "--loss", "losses_of_mine:breaks"],
        2,
        "the loss losses_of_mine:breaks failed on logits (8, 10)",
        "",
    ),
    "a warm-up without end": (
        ["zoo_tiny", "--epochs", "2", "--set", "schedule.warmup_epochs=2"],
        2,
        "not shorter than the run",
        "warmup",
    ),
    "output directory in use": (["zoo_tiny", "-o", "good"], 2, "good is in use", "--output-dir"),
    "output directory is a file": (["zoo_tiny", "-o", "file.txt"], 2, "file.txt is a file", "--output-dir"),
    "resuming what is not there": (["--resume", "nowhere"], 3, "no such run: nowhere", "zoo finetune"),
    "resuming what is no run": (["--resume", "good"], 3, "good is not a run", "zoo finetune"),
}


@pytest.mark.parametrize("what", BAD)
def test_bad_input(zoo: Callable[..., Any], folders: Path, what: str) -> None:
    arguments, code, expected, advice = BAD[what]
    before = sorted(str(p) for p in folders.rglob("*") if "__pycache__" not in p.parts)
    done = zoo("finetune", *arguments)
    assert "Traceback" not in done.err
    errors = [line for line in done.err.splitlines() if line.startswith("error: ")]
    hints = [line for line in done.err.splitlines() if line.startswith("hint: ")]
    assert len(errors) == 1, done.err
    tail = done.err[done.err.index("error: ") :]
    assert expected in tail
    assert advice in tail
    assert hints or not advice
    assert done.code == code
    assert done.out == ""
    assert sorted(str(p) for p in folders.rglob("*") if "__pycache__" not in p.parts) == before


def test_all_errors_are_reported_together(zoo: Callable[..., Any], folders: Path) -> None:
    done = zoo(
        "finetune",
        "resnet35",
        "--data",
        "one_class",
        "--loss",
        "focl",
        "--opt",
        "adamz",
        "--set",
        "loss.params.a=1",
        "-o",
        "good",
    )
    assert done.code == 2
    for part in (
        "no loss named 'focl'",
        "no optimizer named 'adamz'",
        "good is in use",
        "one class",
        "no model named 'resnet35'",
    ):
        assert part in done.err


def test_unreadable_files_can_be_skipped_and_are_named(zoo: Callable[..., Any], folders: Path) -> None:
    done = zoo("finetune", "zoo_tiny", "--data", "cut", "--set", "data.unreadable=skip", *FAST)
    assert done.code == 0, done.err
    assert "bad.jpg" in done.err
    left_out = Run.open("runs/zoo_tiny-cut").info()["skipped_files"]
    assert [Path(entry["path"]).name for entry in left_out] == ["bad.jpg"]


def test_a_loss_that_becomes_nan_keeps_the_last_good_weights(zoo: Callable[..., Any], folders: Path) -> None:
    import torch

    done = zoo(
        "finetune",
        "zoo_tiny",
        "--loss",
        "losses_of_mine:later_nan",
        "--set",
        "transfer.start=plain",
        "--epochs",
        "9",
        "--batch-size",
        "64",
        "--amp-dtype",
        "fp32",
        "-o",
        "n",
    )
    assert done.code == 5
    assert "the loss became nan in epoch 2" in done.err
    run = Run.open("n")
    assert run.status == "failed"
    assert all(torch.isfinite(v).all() for v in run.weights().values() if v.is_floating_point())
    assert len(run.metrics()) == 1
    assert (run.path / "curves.png").stat().st_size > 1000


def test_photographs_of_different_sizes(zoo: Callable[..., Any], photo_folder: Path) -> None:
    done = zoo(
        "finetune",
        "resnet18",
        "--data",
        photo_folder,
        "--weights",
        "none",
        "--epochs",
        "1",
        "--img-size",
        "64",
        "-o",
        "r",
    )
    assert done.code == 0, done.err
    assert Run.open("r").model_record()["classes"] == ["china", "flower"]
