"""A run with an image cache gives the same result as a run that decodes the files."""

from __future__ import annotations

import errno
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from zoo.cache import CACHES, CacheKind
from zoo.data.cache import image_store
from zoo.data.file_dataset import FileDataset
from zoo.errors import Interrupted
from zoo.run import Run
from zoo.training.trainer import Trainer
from zoo.workflows.finetune.build import build_session
from zoo.workflows.finetune.image_cache import LoadingTimes, speedup_justifies_cache
from zoo.workflows.finetune.options import make_recipe
from zoo.workflows.finetune.run import finetune, resume


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ZOO_CACHE", str(tmp_path / "cache"))


def _run(data: Path, where: str, /, image_cache: str = "on", augment: str = "light", **options: Any) -> Run:
    settings = {
        "augment.name": augment,
        "transfer.start": "plain",
        "execution.compile": "off",
        "execution.memory_format": "channels_last",
        "execution.threads": 1,
    }
    given = {"epochs": 2, "amp": False, "workers": 0, "batch_size": 8, **options}
    return finetune(
        "zoo_tiny", data=data, output_dir=where, image_cache=image_cache, settings=settings, progress=False, **given
    )


def _same(a: Run, b: Run) -> bool:
    one, other = a.weights(), b.weights()
    return all(torch.equal(one[name], other[name]) for name in one)


def test_without_random_augmentation_nothing_changes(photo_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    uncached = _run(photo_folder, "uncached", "off", "none")
    assert not Path("cache/images").exists()
    cached = _run(photo_folder, "cached", "on", "none")
    assert _same(cached, uncached)
    assert [r["val_loss"] for r in cached.metrics()] == [r["val_loss"] for r in uncached.metrics()]


def test_the_same_pixels_with_and_without_a_cache(photo_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = _run(photo_folder, "first")
    written = sorted(p.name for p in Path("cache/images").rglob("*.images"))
    assert len(written) == 2
    found = finetune(make_recipe(recipe=first.path), output_dir="found", progress=False)
    assert sorted(p.name for p in Path("cache/images").rglob("*.images")) == written
    shutil.rmtree("cache/images")

    def full(*_: object) -> Any:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(image_store, "_write_shard", full)
    refused = _run(photo_folder, "refused")
    assert not list(Path("cache/images").rglob("*.images"))
    assert all(_same(run, first) for run in (found, refused))


def test_only_the_steps_before_the_epochs_read_files(photo_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _run(photo_folder, "first", epochs=1)
    begun = []
    train_epoch, read = Trainer.train_epoch, FileDataset.read

    def count(self: Trainer, *args: Any) -> Any:
        begun.append(1)
        return train_epoch(self, *args)

    def never(self: FileDataset, *args: Any) -> Any:
        assert not begun
        return read(self, *args)

    monkeypatch.setattr(Trainer, "train_epoch", count)
    monkeypatch.setattr(FileDataset, "read", never)
    _run(photo_folder, "second")
    assert len(begun) == 2


def test_an_interrupted_run_resumes_with_the_same_pixels(photo_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = _run(photo_folder, "whole")
    train_epoch = Trainer.train_epoch

    def interrupted(self: Trainer, batches: Any, epoch: int, on_batch: Any = None) -> Any:
        if epoch == 1:
            raise KeyboardInterrupt
        return train_epoch(self, batches, epoch, on_batch)

    with monkeypatch.context() as m:
        m.setattr(Trainer, "train_epoch", interrupted)
        with pytest.raises(Interrupted):
            _run(photo_folder, "broken")
    shutil.rmtree("cache/images")
    monkeypatch.setitem(CACHES, "images", CacheKind("", 30_000))  # and less space than before
    assert _same(resume("broken", progress=False), whole)
    assert sum(p.stat().st_size for p in Path("cache/images").rglob("*.images")) < 40_000


def test_the_choice_is_measured_printed_and_recorded(photo_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def choice(**options: Any) -> tuple[str, str]:
        session = build_session(make_recipe("zoo_tiny", data=photo_folder, amp=False, **options))
        message = [n for n in session.notes if n.startswith("image cache o")]
        return session.recipe.data.image_cache, message[0] if message else ""

    assert choice()[0] == "off"
    assert "image cache off: " in choice()[1]
    monkeypatch.setattr("zoo.workflows.finetune.image_cache._MIN_SPEEDUP", 0.0)
    monkeypatch.setattr("zoo.workflows.finetune.image_cache._MIN_SECONDS_SAVED", -100.0)
    cached, message = choice()
    assert cached == "on"
    assert "random crops allow" in message
    assert "x as fast" in message
    assert choice(image_cache="off") == ("off", "")
    assert choice(epochs=1) == ("off", "")
    assert choice(freeze="backbone", settings={"augment.name": "none"})[0] == "off"
    monkeypatch.setitem(CACHES, "images", CacheKind("", 1000))
    assert choice()[0] == "off"
    assert "are available" in choice()[1]
    assert choice(image_cache="on")[0] == "on"
    assert build_session(make_recipe("zoo_tiny", data="digits", image_cache="on")).recipe.data.image_cache == "off"


def test_when_the_speedup_justifies_the_cache() -> None:
    large = LoadingTimes(0.05, 0.06, 0.004, 0.05, 0.001, 5e5, 150e3)
    small = LoadingTimes(0.05, 0.004, 0.003, 0.003, 0.001, 5e5, 150e3)
    assert speedup_justifies_cache(large, (2000, 400), 10, parallelism=2) == (True, "an epoch should be 2.1x as fast")
    assert not speedup_justifies_cache(small, (2000, 400), 10, parallelism=2)[0]
    assert not speedup_justifies_cache(large, (20, 4), 10, parallelism=2)[0]  # it would spare two seconds
    assert not speedup_justifies_cache(large, (2000, 400), 1, parallelism=2)[0]
    assert not speedup_justifies_cache(large, (2000, 400), 10, parallelism=-8)[
        0
    ]  # eight processes are quicker than the device
    assert speedup_justifies_cache(large, (2000, 400), 10, parallelism=-1)[0]


def test_the_cache_lists_and_clears_them(photo_folder: Path, zoo: Callable[..., Any]) -> None:
    args = ("--data", photo_folder, "--epochs", 1, "--no-amp", "--workers", 0, "-o", "run")
    result = zoo("finetune", "zoo_tiny", *args, "--image-cache", "on")
    assert result.code == 0
    assert "image cache: 24 decoded, 0 found" in result.err
    (stored,) = [s for s in json.loads(zoo("cache", "--json").out) if s["kind"] == "images"]
    assert stored["data"] == photo_folder.name
    assert stored["bytes"] > 24 * 32 * 32 * 3
    assert json.loads(zoo("cache", "clear", "--json").out)["freed"] >= stored["bytes"]
    assert not Path(stored["path"]).exists()
