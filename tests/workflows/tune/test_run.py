"""A search over real runs: small, but whole."""

from __future__ import annotations

import json
import logging
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from zoo.errors import Interrupted, ModelError, RecipeError, TrainingError, UsageError
from zoo.recipe import load_values
from zoo.run import Run
from zoo.workflows.finetune.run import finetune
from zoo.workflows.tune import trials as trials_module
from zoo.workflows.tune.run import tune

SEARCH = {"optimizer.lr": {"low": 1e-4, "high": 1e-1, "log": True}, "loss.params.label_smoothing": [0.0, 0.1]}


@pytest.fixture
def short_run(small: Path) -> dict[str, Any]:
    """Head-only, 2 epochs: a trial of half a second."""
    settings = {"train.epochs": 2, "train.amp": False, "augment.name": "none"}
    return {"model": "zoo_tiny", "data": small, "settings": settings, "progress": False}


@pytest.fixture
def fake_finetune(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """Trials that train nothing: append what each should do. A number is its value, an exception is raised."""
    acts: list[Any] = []

    def finetune(recipe: Any, *, output_dir: Path, on_epoch: Any, progress: bool) -> Run:
        act = acts.pop(0)
        if isinstance(act, BaseException):
            raise act
        output_dir.mkdir()
        run = Run(output_dir)
        run.write_recipe("{}")
        for epoch, value in enumerate(act if isinstance(act, list) else [act], 1):
            on_epoch({"epoch": epoch, "val_top1": value})
        values = act if isinstance(act, list) else [act]
        run.update(status="finished", best={"epoch": len(values), "monitor": "top1", "value": max(values)})
        return run

    monkeypatch.setattr(trials_module, "finetune", finetune)
    return acts


def test_trials_are_runs_and_best_yaml_repeats_the_best(short_run: dict[str, Any], tmp_path: Path) -> None:
    found = tune("head-only", SEARCH, trials=2, output_dir="out", **short_run)
    assert [t.state for t in found.trials] == ["finished", "finished"]
    for trial in found.trials:
        run = Run.open(found.run_path(trial))
        assert run.path == Path(f"out/trial-{trial.number:04d}")
        assert run.info()["best"]["value"] == trial.value
        assert load_values(run.path)["optimizer"]["lr"] == trial.values["optimizer.lr"]
        assert load_values(run.path)["loss"]["params"]["label_smoothing"] == trial.values["loss.params.label_smoothing"]
    assert found.best == found.ranked()[0]
    assert found.best.value == max(t.value for t in found.trials)
    assert str(tmp_path / "out") not in Path("out/best.yaml").read_text()
    assert "importance is not available" in found.notes[0]
    again = finetune(recipe="out/best.yaml", progress=False)
    best = Run.open(found.run_path(found.best))
    assert all(torch.equal(v, best.weights()[k]) for k, v in again.weights().items())


def test_the_command_continues_prunes_and_prints_importance(
    short_run: dict[str, Any], capfd: pytest.CaptureFixture[str]
) -> None:
    wide = {"optimizer.lr": {"low": 1e-5, "high": 1e-1, "log": True}, "data.batch_size": [8, 32]}
    short_run |= {"progress": True, "monitor": "loss"}
    first = tune("head-only", wide, trials=5, output_dir="out", **short_run)
    level = logging.getLogger("optuna").level
    found = tune("head-only", wide, trials=9, output_dir="out", **short_run)
    assert logging.getLogger("optuna").level == level
    assert found.trials[:5] == first.trials
    states = [t.state for t in found.trials]
    assert len(states) == 9
    assert "pruned" in states
    assert found.best.value == min(t.value for t in found.trials if t.state == "finished")
    pruned = next(t for t in found.trials if t.state == "pruned")
    assert len(Run.open(found.run_path(pruned)).metrics()) == pruned.epochs == 1
    assert sum(found.importance.values()) == pytest.approx(1)
    assert found.importance["optimizer.lr"] > 0.5
    assert Path("out/importance.png").read_bytes()[:4] == Path("out/history.png").read_bytes()[:4] == b"\x89PNG"
    result = capfd.readouterr()
    assert result.out == ""
    assert "5 trials are already done" in result.err
    assert all(line.startswith(("search on", "trial ", "5 trials")) for line in result.err.splitlines())
    again = tune("head-only", wide, trials=9, output_dir="out", **short_run)
    assert again.to_dict() == found.to_dict()


def test_failed_trials_count_and_the_search_continues(short_run: dict[str, Any], fake_finetune: list[Any]) -> None:
    fake_finetune += [TrainingError("the loss became nan"), 0.5, ModelError("no such size"), 0.9, float("nan"), 0.7]
    found = tune("head-only", SEARCH, trials=6, output_dir="out", **short_run)
    assert [t.state for t in found.trials] == ["failed", "finished", "failed", "finished", "failed", "finished"]
    assert [t.reason for t in found.trials if t.reason] == [
        "the loss became nan",
        "no such size",
        "val_top1 is not a number",
    ]
    assert (found.best.number, found.best.value) == (3, 0.9)
    assert [t.number for t in found.ranked()] == [3, 5, 1]


def test_nothing_finished_is_an_error_with_the_reason(short_run: dict[str, Any], fake_finetune: list[Any]) -> None:
    fake_finetune += [TrainingError("the loss became nan")] * 2
    with pytest.raises(TrainingError, match="none of 2 trials has finished; trial 0: the loss became nan"):
        tune("head-only", SEARCH, trials=2, output_dir="out", **short_run)


def test_a_full_disk_stops_the_search_and_the_trial_is_repeated_later(
    short_run: dict[str, Any], fake_finetune: list[Any]
) -> None:
    full = TrainingError("no space left")
    full.__cause__ = OSError(28, "No space left on device")
    fake_finetune += [0.5, full]
    with pytest.raises(TrainingError, match="no space left"):
        tune("head-only", SEARCH, trials=3, output_dir="out", **short_run)
    fake_finetune += [0.6, 0.7]
    found = tune("head-only", SEARCH, trials=3, output_dir="out", **short_run)
    assert [t.state for t in found.trials] == ["finished", "interrupted", "finished", "finished"]
    assert found.trials[2].values == found.trials[1].values


@pytest.mark.parametrize("stop", [KeyboardInterrupt(), Interrupted("interrupted in epoch 1")])
def test_an_interrupted_search_can_be_continued(
    short_run: dict[str, Any], fake_finetune: list[Any], stop: BaseException
) -> None:
    fake_finetune += [0.5, stop]
    with pytest.raises(Interrupted, match="has 1 of 3 trials") as e:
        tune("head-only", SEARCH, trials=3, output_dir="out", **short_run)
    assert e.value.exit_code == 130
    fake_finetune += [0.6, 0.7]
    found = tune("head-only", SEARCH, trials=3, output_dir="out", **short_run)
    assert [t.state for t in found.trials] == ["finished", "interrupted", "finished", "finished"]
    assert found.trials[2].values == found.trials[1].values


def test_another_recipe_or_space_is_an_error(short_run: dict[str, Any], fake_finetune: list[Any]) -> None:
    fake_finetune += [0.5]
    tune("head-only", SEARCH, trials=1, output_dir="out", **short_run)
    with pytest.raises(UsageError, match=r"search of optimizer\.lr"):
        tune("head-only", {**SEARCH, "optimizer.lr": [1e-3]}, trials=2, output_dir="out", **short_run)
    with pytest.raises(UsageError, match=r"optimizer\.weight_decay: 0\.\d+ -> 0\.3"):
        tune("head-only", SEARCH, trials=2, output_dir="out", weight_decay=0.3, **short_run)
    fake_finetune += [0.6]
    assert len(tune("head-only", SEARCH, trials=2, output_dir="out", device="cpu", workers=0, **short_run).trials) == 2


def test_few_combinations_are_tried_once_each(short_run: dict[str, Any], fake_finetune: list[Any]) -> None:
    fake_finetune += [0.1, 0.2, 0.3, 0.4]
    choices = {"loss.params.label_smoothing": [0.0, 0.1], "optimizer.lr": [1e-3, 1e-2]}
    found = tune("head-only", choices, trials=50, output_dir="out", **short_run)
    assert len({json.dumps(t.values) for t in found.trials}) == len(found.trials) == 4


def test_the_same_values_are_not_trained_twice(short_run: dict[str, Any], fake_finetune: list[Any]) -> None:
    fake_finetune += [0.1, 0.2, 0.3]
    found = tune("head-only", {"train.epochs": [1, 2, 3]}, trials=2, output_dir="out", **_without_epochs(short_run))
    assert [t.duplicate_of for t in found.trials].count(None) + len(fake_finetune) == 3
    for trial in found.trials:
        if trial.duplicate_of is not None:
            assert trial.value == found.trials[trial.duplicate_of].value
            assert found.run_path(trial) == found.run_path(found.trials[trial.duplicate_of])


def _without_epochs(short_run: dict[str, Any]) -> dict[str, Any]:
    return {**short_run, "settings": {k: v for k, v in short_run["settings"].items() if k != "train.epochs"}}


def test_no_trial_starts_after_the_timeout(short_run: dict[str, Any], fake_finetune: list[Any]) -> None:
    with pytest.raises(TrainingError, match="none of 0 trials"):
        tune("head-only", SEARCH, trials=3, timeout=0.0, output_dir="out", **short_run)


def test_errors_are_reported_before_anything_is_written(short_run: dict[str, Any], tmp_path: Path) -> None:
    with pytest.raises(RecipeError) as e:
        tune("head-only", {"optimizer.lrr": [1, 2], "train.epochs": [1, 2], "freeze": 3}, trials=1, **short_run)
    assert len(e.value.problems) == 3
    with pytest.raises(RecipeError, match="with --monitor loss"):
        tune("head-only", SEARCH, trials=1, monitor="loss", **short_run)
    with pytest.raises(UsageError, match="1 or more"):
        tune("head-only", SEARCH, trials=0, **short_run)
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "mine.txt").touch()
    with pytest.raises(UsageError, match="has no study"):
        tune("head-only", SEARCH, trials=1, output_dir="full", **short_run)


def test_two_searches_do_not_share_a_folder(short_run: dict[str, Any]) -> None:
    from filelock import FileLock

    Path("out").mkdir()
    with FileLock("out/.lock"), pytest.raises(UsageError, match="in use by another zoo tune"):
        tune("head-only", SEARCH, trials=1, output_dir="out", **short_run)


def test_without_optuna_the_error_names_the_install_command(
    short_run: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "optuna", None)
    with pytest.raises(UsageError) as e:
        tune("head-only", SEARCH, trials=1, **short_run)
    assert "pip install 'zoo[tune]'" in e.value.hint
