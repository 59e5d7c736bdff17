"""The range test on a whole recipe: its curve, its notes, and that it changes nothing."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from zoo.errors import UsageError, ZooError
from zoo.training.trainer import Trainer
from zoo.workflows import lr_find as workflow
from zoo.workflows.lr_find import lr_find


@pytest.fixture
def updates(monkeypatch: pytest.MonkeyPatch) -> list[list[float]]:
    """The rates of the groups at every update."""
    seen: list[list[float]] = []
    train_epoch = Trainer.train_epoch

    def watched(self: Trainer, *given: Any, **more: Any) -> Any:
        seen.append([g["lr"] for g in self.optimizer.param_groups])
        return train_epoch(self, *given, **more)

    monkeypatch.setattr(Trainer, "train_epoch", watched)
    return seen


def test_groups_keep_their_ratios_whatever_the_schedule(small: Path, updates: list[list[float]]) -> None:
    found = lr_find(
        "zoo_tiny",
        data=small,
        weights="none",
        lr=1e-4,
        head_lr=1e-3,
        layer_decay=0.5,
        low=1e-6,
        high=1e-2,
        steps=20,
        sched="onecycle",
        warmup_epochs=1,
        progress=False,
    )
    assert len(found.lrs) == 20
    assert (found.lrs[0], found.lrs[-1]) == pytest.approx((1e-6, 1e-2))
    assert [row[-1] for row in updates] == pytest.approx([10 * rate for rate in found.lrs])
    assert [row[0] / row[-1] for row in updates] == pytest.approx([updates[0][0] / updates[0][-1]] * 20)
    assert updates[0][0] < found.lrs[0] / 2  # the stem's, decayed


def test_the_suggested_rate_trains_a_new_model_and_nothing_is_changed(
    small: Path, tmp_path: Path, make_run: Any
) -> None:
    run = make_run("zoo_tiny", tuple("0123"), img_size=16)
    before = {p: p.read_bytes() for p in tmp_path.rglob("*") if p.is_file()}
    found = lr_find("zoo_tiny", data=small, weights=run.path, steps=60, progress=False, plot="curve.png",
                    settings={"transfer.start": "plain", "augment.name": "none"})  # fmt: skip
    after = {p: p.read_bytes() for p in tmp_path.rglob("*") if p.is_file()}
    assert Path("curve.png").read_bytes()[:4] == b"\x89PNG"
    assert after.keys() - before.keys() == {tmp_path / "curve.png"}
    assert all(after[p] == text for p, text in before.items())
    assert found.suggestion is not None
    assert found.suggestion <= found.steepest
    assert found.head_lr == pytest.approx(found.suggestion * 1e-3 / 3e-4)  # the ratio of the recipe `full`
    assert any("the model has seen the images before" in note for note in found.notes)


def test_building_a_session_does_not_change_the_model(small: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    states: list[Any] = []
    original = workflow.range_test

    def watched(trainer: Trainer, *given: Any, **more: Any) -> Any:
        before = {k: v.clone() for k, v in trainer.module.state_dict().items()}
        found = original(trainer, *given, **more)
        states.append((before, trainer.module.state_dict()))
        return found

    monkeypatch.setattr(workflow, "range_test", watched)
    lr_find("zoo_tiny", data=small, steps=20, progress=False, settings={"transfer.probe_epochs": 1})
    ((before, after),) = states
    assert all(torch.equal(before[k], after[k]) for k in before)


def test_the_same_call_gives_the_same_curve(small: Path) -> None:
    once, again = (lr_find("zoo_tiny", data=small, weights="none", steps=20, progress=False) for _ in range(2))
    assert once == again


def test_an_unwritable_plot_path_is_an_error_before_training(
    small: Path, tmp_path: Path, updates: list[list[float]]
) -> None:
    with pytest.raises(ZooError, match="is a folder"):
        lr_find("zoo_tiny", data=small, plot=tmp_path, progress=False)
    with pytest.raises(ZooError, match="no such folder"):
        lr_find("zoo_tiny", data=small, plot=tmp_path / "none" / "lr.png", progress=False)
    assert updates == []


@pytest.mark.parametrize("wrong", [{"low": 1.0, "high": 0.1}, {"low": 0.0}, {"steps": 5}, {"high": float("inf")}])
def test_invalid_ranges(small: Path, wrong: dict[str, Any]) -> None:
    with pytest.raises(UsageError):
        lr_find("zoo_tiny", data=small, progress=False, **wrong)
