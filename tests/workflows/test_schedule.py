from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

import zoo
from zoo.errors import RecipeError, UsageError, ZooError
from zoo.workflows.finetune import preprocessing

SETTINGS = {"augment.name": "none", "transfer.start": "plain"}
OPTIONS: dict[str, Any] = {"epochs": 3, "batch_size": 16, "settings": SETTINGS, "head_lr": 1e-2, "layer_decay": 0.5}


@pytest.mark.parametrize(
    ("sched", "warmup", "params"),
    [
        ("cosine", 1.0, {}),
        ("OneCycleLR", 0.0, {"max_lr": 0.1}),
        ("StepLR", 0.5, {"step_size": 1}),
        ("CosineLRScheduler", 0.0, {}),
        ("CyclicLR", 0.0, {"step_size_up": 2}),
    ],
)
def test_the_curves_are_those_of_the_training(small: Path, sched: str, warmup: float, params: dict[str, Any]) -> None:
    settings = {**SETTINGS, "schedule.params": params, "train.grad_accum_steps": 2}
    options = {**OPTIONS, "settings": settings, "sched": sched, "warmup_epochs": warmup, "data": small}
    drawn = zoo.schedule("full", model="zoo_tiny", **options)
    run = zoo.finetune("zoo_tiny", **options, amp=False, progress=False)
    for row, rates in zip(run.metrics(), drawn.by_epoch(), strict=True):
        assert tuple(row["lr_names"]) == drawn.names
        assert tuple(row["lr"]) == pytest.approx(rates, rel=1e-12)
    assert drawn.steps_per_epoch == 3  # 96 images, batches of 16, two batches per step
    assert all(len(rates) == 9 for rates in drawn.lrs)
    assert len(set(drawn.lrs[0])) > 1


def test_no_weights_are_loaded_and_nothing_is_written(
    small: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = list(tmp_path.iterdir())
    monkeypatch.setattr(preprocessing, "channel_statistics", lambda *_, **__: pytest.fail("all images were read"))
    drawn = zoo.schedule("full", model="resnet18", data=small, img_size=32, epochs=2)
    assert sum(drawn.parameters) == pytest.approx(11.2e6, rel=0.01)
    assert drawn.names[0] == "stem"
    assert any("LP-FT" in note for note in drawn.notes)
    assert list(tmp_path.iterdir()) == before


def test_a_plateau_is_drawn_as_if_nothing_improved(small: Path) -> None:
    drawn = zoo.schedule("full", data=small, sched="plateau", epochs=6, settings={"schedule.params.patience": 1})
    rates = [row[-1] for row in drawn.by_epoch()]
    # The first epoch is the best so far, the second is one without a better one, the third is one too many.
    assert rates[1] == rates[2] == pytest.approx(rates[3] * 10)
    assert any("never improved" in note for note in drawn.notes)
    assert any("zoo_tiny" in note for note in drawn.notes)  # the recipe names no model


def test_errors_are_those_of_finetune(small: Path) -> None:
    with pytest.raises(RecipeError, match=r"schedule\.name"):
        zoo.schedule("full", data=small, sched="cosinus")
    with pytest.raises(ZooError, match="3 problems"):
        zoo.schedule("full", data=small, sched="cosinus", opt="adamm", epochs=0)
    with pytest.raises(UsageError, match="not shorter than the run"):
        zoo.schedule("full", data=small, epochs=2, warmup_epochs=2)


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({"transfer.auto_rgn": True}, "only training shows"),
        ({"transfer.unfreeze_every": 2}, "every 2 epochs"),
        ({"train.patience": 3}, "before its last epoch"),
        ({"schedule.name": "torch.optim.lr_scheduler:ReduceLROnPlateau"}, "never improved"),
    ],
)
def test_notes_name_what_is_not_drawn(small: Path, settings: dict[str, Any], expected: str) -> None:
    drawn = zoo.schedule("full", data=small, epochs=2, settings=settings)
    assert any(expected in note for note in drawn.notes)
    assert not any(expected in note for note in zoo.schedule("full", data=small, epochs=2).notes)


def test_a_frozen_backbone_has_no_probing_phase(small: Path) -> None:
    drawn = zoo.schedule(data=small, epochs=2, freeze="backbone")
    assert drawn.names == ("head",)
    assert not any("LP-FT" in note for note in drawn.notes)


def test_the_picture_and_json(small: Path, tmp_path: Path) -> None:
    drawn = zoo.schedule("full", data=small, epochs=2, plot=tmp_path / "rates.png")
    assert (tmp_path / "rates.png").read_bytes().startswith(b"\x89PNG")
    found = json.loads(json.dumps(drawn.to_dict()))
    assert len(found["lrs"]) == len(found["names"])
    assert found["plot"] == str(tmp_path / "rates.png")
