"""Loading the model of a run directory, and damaged run directories."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
import torch

from zoo.errors import DataError, WeightsError, ZooError
from zoo.run import Run
from zoo.workflows.load_run import load_run

MakeRun = Callable[..., Run]


def test_loads_the_weights_in_eval_mode(make_run: MakeRun) -> None:
    run = make_run("test_vit", ("a", "b"), in_chans=1, img_size=48)
    restored = load_run(run.path)
    saved = run.weights()
    state = restored.model.module.state_dict()
    assert state.keys() == saved.keys()
    assert all(torch.equal(state[name], saved[name]) for name in saved)
    assert not restored.model.module.training
    assert restored.classes == ("a", "b")
    assert restored.preprocess.input_size == (1, 48, 48)
    assert restored.note == ""


def test_an_unfinished_run_has_a_note(make_run: MakeRun) -> None:
    note = load_run(make_run(status="interrupted")).note
    assert "was interrupted after 2 of 3 epochs" in note
    assert "epoch 2" in note


def test_task_of_a_run_with_and_without_a_recorded_task(make_run: MakeRun) -> None:
    run = make_run(task="regression")
    assert load_run(run).task == "regression"
    change(run, lambda record: record.pop("task"))
    assert load_run(run).task == "single-label"


def damage_task(run: Run) -> None:
    change(run, lambda record: record.update(task="regresion"))


def damage_classes(run: Run) -> None:
    change(run, lambda record: record["classes"].pop())


def damage_size(run: Run) -> None:
    change(run, lambda record: record["preprocess"].update(input_size=3))


def damage_args(run: Run) -> None:
    change(run, lambda record: record["model"]["args"].update(num_classes=3))


def damage_source(run: Run) -> None:
    change(run, lambda record: record["model"].update(source="elsewhere"))


def damage_model(run: Run) -> None:
    change(run, lambda record: record["model"].clear())


def truncate(run: Run) -> None:
    run.weights_file.write_bytes(run.weights_file.read_bytes()[:5000])


def change(run: Run, edit: Callable[[Any], object]) -> None:
    record = json.loads(run.model_file.read_text())
    edit(record)
    run.model_file.write_text(json.dumps(record))


@pytest.mark.parametrize(
    ("damage", "kind", "message"),
    [
        (damage_classes, WeightsError, "9 classes, but its model has 10"),
        (damage_size, DataError, "model.json is damaged"),
        (damage_task, DataError, "model.json is damaged: no task named 'regresion'"),
        (damage_args, ZooError, "classes"),
        (damage_source, ZooError, "elsewhere"),
        (damage_model, ZooError, "damaged"),
        (truncate, DataError, "model.safetensors"),
        (lambda run: run.weights_file.unlink(), DataError, "model.safetensors is missing"),
        (lambda run: run.model_file.unlink(), DataError, "model.json is missing"),
        (lambda run: run.model_file.write_text("{"), DataError, "model.json"),
        (lambda run: run.info_file.unlink(), DataError, "is not a run"),
    ],
)
def test_damaged_files_are_named(
    make_run: MakeRun, damage: Callable[[Run], object], kind: type[ZooError], message: str
) -> None:
    run = make_run()
    damage(run)
    with pytest.raises(kind) as e:
        load_run(run.path)
    assert message in e.value.message
    assert e.value.hint


def test_weights_of_another_model_are_an_error(make_run: MakeRun) -> None:
    run, other = make_run(), make_run("test_vit", where="other")
    run.weights_file.write_bytes(other.weights_file.read_bytes())
    with pytest.raises(WeightsError, match="do not belong"):
        load_run(run)
