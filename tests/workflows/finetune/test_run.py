"""What a fine-tuning promises: the same again, resumable, frozen parts untouched, nothing half-written."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch

from zoo.errors import DataError, Interrupted, ModelError, TrainingError, UsageError
from zoo.models import build
from zoo.recipe import shipped
from zoo.run import Run
from zoo.training.trainer import Trainer
from zoo.workflows.finetune.build import build_session
from zoo.workflows.finetune.loop import train
from zoo.workflows.finetune.options import make_recipe
from zoo.workflows.finetune.run import finetune, resume


def same(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[k], b[k]) for k in a)


@pytest.mark.parametrize("augment", ["none", "light"])
def test_the_recorded_recipe_gives_bit_identical_weights(small: Path, augment: str) -> None:
    first = finetune("zoo_tiny", data=small, epochs=2, settings={"augment.name": augment}, progress=False)
    second = finetune(recipe=first.path, progress=False)
    assert second.path != first.path
    assert same(first.weights(), second.weights())
    assert first.recipe_file.read_text() == second.recipe_file.read_text()
    drop = ("seconds", "images_per_second")
    strip = lambda rows: [{k: v for k, v in row.items() if k not in drop} for row in rows]
    assert strip(first.metrics()) == strip(second.metrics())


def test_another_seed_gives_other_weights(small: Path) -> None:
    runs = [finetune("zoo_tiny", data=small, epochs=1, seed=seed, progress=False) for seed in (0, 1)]
    assert not same(runs[0].weights(), runs[1].weights())


@pytest.mark.parametrize("sched", ["cosine", "plateau"])
def test_a_resumed_run_equals_an_unbroken_one(small: Path, monkeypatch: pytest.MonkeyPatch, sched: str) -> None:
    options: Any = {"data": small, "epochs": 3, "sched": sched, "progress": False, "amp": False}
    whole = finetune("zoo_tiny", output_dir="whole", **options)
    train_epoch = Trainer.train_epoch

    def interrupted(self: Trainer, batches: Any, epoch: int, on_batch: Any = None) -> Any:
        def stop_in_the_middle(batch: int, *_: Any) -> None:
            if epoch == 1 and batch == 2:
                raise KeyboardInterrupt

        return train_epoch(self, batches, epoch, stop_in_the_middle)

    monkeypatch.setattr(Trainer, "train_epoch", interrupted)
    with pytest.raises(Interrupted) as e:
        finetune("zoo_tiny", output_dir="broken", **options)
    assert e.value.exit_code == 130
    assert "zoo finetune --resume broken" in e.value.hint
    monkeypatch.setattr(Trainer, "train_epoch", train_epoch)
    broken = Run.open("broken")
    assert (broken.status, len(broken.metrics())) == ("interrupted", 1)
    resumed = resume("broken", progress=False)
    assert resumed.status == "finished"
    assert [row["epoch"] for row in resumed.metrics()] == [1, 2, 3]
    assert same(whole.weights(), resumed.weights())
    assert same(whole.checkpoint()[0], resumed.checkpoint()[0])
    assert [r["val_loss"] for r in whole.metrics()] == [r["val_loss"] for r in resumed.metrics()]
    with pytest.raises(UsageError, match="has finished"):
        resume("broken")


def test_a_run_killed_before_its_first_epoch_ended_can_be_resumed(small: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def killed(*_: Any) -> Any:
        raise KeyboardInterrupt

    whole = finetune("zoo_tiny", data=small, epochs=1, amp=False, progress=False)
    with monkeypatch.context() as m:
        m.setattr(Trainer, "train_epoch", killed)
        with pytest.raises(Interrupted):
            finetune("zoo_tiny", data=small, epochs=1, output_dir="early", amp=False, progress=False)
    assert same(resume("early", progress=False).weights(), whole.weights())


def test_a_run_with_changed_data_is_not_resumed(small: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = tmp_path / "data"
    shutil.copytree(small, data)
    with monkeypatch.context() as m:
        m.setattr(Trainer, "train_epoch", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(Interrupted):
            finetune("zoo_tiny", data=data, epochs=1, output_dir="r", progress=False)
    (data / "0" / "00.png").unlink()
    with pytest.raises(DataError, match="have changed"):
        resume("r", progress=False)


@pytest.mark.parametrize(
    ("name", "freeze"), [("test_resnet", "2"), ("test_vit", "stage1"), ("torchvision/resnet18", "backbone")]
)
def test_frozen_parameters_do_not_change_and_the_others_do(small: Path, name: str, freeze: str) -> None:
    recipe = make_recipe(name, data=small, weights="none", freeze=freeze, epochs=1, img_size=32, lr=0.01)
    session = build_session(recipe)
    before = {k: v.clone() for k, v in session.model.module.state_dict().items()}
    run = finetune(recipe, progress=False)
    after = run.weights()
    frozen = set(session.plan.frozen)
    for path in session.plan.frozen_modules:
        inside = session.model.module.get_submodule(path)
        frozen |= {f"{path}.{k}" for k in inside.state_dict()}
    assert frozen
    assert all(torch.equal(before[k], after[k]) for k in frozen)
    trainable = set(dict(session.model.module.named_parameters())) - frozen
    assert all(not torch.equal(before[k], after[k]) for k in trainable)
    statistics = [k for k in after if k.endswith("running_mean") and k not in frozen]
    assert all(not torch.equal(before[k], after[k]) for k in statistics)


@pytest.mark.parametrize("name", sorted(shipped()))
def test_every_shipped_recipe_runs(small: Path, name: str) -> None:
    """Four short epochs, after linear probing if there is one, are enough to separate the four digits."""
    shorter = {
        "train.epochs": 4,
        "train.linear_probe": "off",
        "schedule.warmup_epochs": 0.5,
        "train.grad_accum_steps": 1,
        "data.batch_size": 16,
    }
    run = finetune("zoo_tiny", data=small, recipe=name, progress=False, settings=shorter)
    rows = run.metrics()
    assert len(rows) == 4
    assert rows[-1]["val_top1"] > 0.75
    assert run.status == "finished"


def test_head_only_and_full_reach_their_expected_accuracy() -> None:
    """The figures of the README's demo: digits, a stratified fifth held out."""
    head = finetune("zoo_tiny", freeze="backbone", progress=False)
    full = finetune("zoo_tiny", weights=head.path, recipe="full", progress=False)
    assert head.info()["best"]["value"] >= 0.97
    assert full.info()["best"]["value"] >= 0.985


def test_the_best_weights_are_saved_not_the_last(small: Path) -> None:
    settings = {"schedule.name": "constant", "transfer.start": "plain"}
    run = finetune("zoo_tiny", data=small, epochs=4, lr=0.003, progress=False, settings=settings)
    ranked = sorted(run.metrics(), key=lambda row: (-row["val_top1"], row["val_loss"]))
    best = run.info()["best"]
    assert (best["epoch"], best["value"]) == (ranked[0]["epoch"], ranked[0]["val_top1"])
    from zoo.workflows.evaluate import evaluate

    assert evaluate(run).evaluation.top1 == pytest.approx(best["value"])


def test_four_channels_and_one() -> None:
    run = finetune("test_resnet", weights="none", in_chans=1, epochs=1, img_size=32, progress=False)
    assert run.weights()["conv1.0.weight"].shape[1] == 1
    assert run.model_record()["preprocess"]["input_size"] == [1, 32, 32]


def test_build_session_writes_nothing_and_does_not_change_the_model(small: Path, tmp_path: Path) -> None:
    session = build_session(make_recipe("zoo_tiny", data=small, seed=3))
    assert list(tmp_path.iterdir()) == []
    torch.manual_seed(3)
    fresh = build("zoo_tiny", classes=4)
    assert same(fresh.module.state_dict(), session.model.module.state_dict())
    assert session.recipe.model.classes == 4
    assert session.recipe.train.amp_dtype in ("bf16", "fp32")


def test_a_full_disk_ends_in_a_clear_error_and_a_readable_run(small: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import resource

    saves = iter(range(100))
    save_checkpoint = Run.save_checkpoint

    def limited(self: Run, tensors: Any, values: Any) -> None:
        if next(saves) == 2:  # the checkpoint of the second epoch
            _, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
            resource.setrlimit(resource.RLIMIT_FSIZE, (1_000_000, hard))
            try:
                save_checkpoint(self, tensors, values)
            finally:
                resource.setrlimit(resource.RLIMIT_FSIZE, (hard, hard))
        else:
            save_checkpoint(self, tensors, values)

    monkeypatch.setattr(Run, "save_checkpoint", limited)
    monkeypatch.setattr("zoo.workflows.finetune.checkpoint._TRAIN_TO_WRITE_RATIO", 0.0)
    with pytest.raises(TrainingError, match="no space left to write"):
        finetune("zoo_tiny", data=small, epochs=3, output_dir="full", progress=False)
    monkeypatch.setattr(Run, "save_checkpoint", save_checkpoint)
    run = Run.open("full")
    assert run.status == "failed"
    assert not list(run.path.rglob("*.tmp"))
    assert json.loads(run.checkpoint()[1]["zoo"])["epoch"] == 1
    assert resume("full", progress=False).status == "finished"


def test_short_epochs_are_written_together(small: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    options: dict[str, Any] = {"data": small, "epochs": 4, "progress": False}
    monkeypatch.setattr("zoo.workflows.finetune.checkpoint._TRAIN_TO_WRITE_RATIO", 0.0)
    each = finetune("zoo_tiny", output_dir="each", **options)

    saves = []
    save_checkpoint = Run.save_checkpoint

    def counted(self: Run, tensors: Any, values: Any) -> None:
        saves.append(json.loads(values["zoo"])["epoch"])
        save_checkpoint(self, tensors, values)

    monkeypatch.setattr(Run, "save_checkpoint", counted)
    monkeypatch.setattr("zoo.workflows.finetune.checkpoint._TRAIN_TO_WRITE_RATIO", 1e9)
    together = finetune("zoo_tiny", output_dir="together", **options)
    assert saves == [0, 4]
    assert same(each.weights(), together.weights())
    assert same(each.checkpoint()[0], together.checkpoint()[0])
    assert each.info()["best"] == together.info()["best"]

    def stop(row: dict[str, Any]) -> None:
        if row["epoch"] == 3:
            raise KeyboardInterrupt

    with pytest.raises(Interrupted, match="has the 3 finished epochs"):
        finetune("zoo_tiny", output_dir="stopped", on_epoch=stop, **options)
    stopped = Run.open("stopped")
    assert json.loads(stopped.checkpoint()[1]["zoo"])["epoch"] == len(stopped.metrics()) == 3
    assert same(resume("stopped", progress=False).weights(), each.weights())


def test_mixed_precision_is_recorded_and_used(small: Path) -> None:
    run = finetune("zoo_tiny", data=small, epochs=1, amp_dtype="bf16", progress=False)
    assert run.info()["precision"] == "bf16"
    assert "amp_dtype: bf16" in run.recipe_file.read_text()
    plain = finetune("zoo_tiny", data=small, epochs=1, amp=False, progress=False)
    assert plain.info()["precision"] == "fp32"
    assert not same(run.weights(), plain.weights())


def test_a_file_that_becomes_unreadable_during_training_is_skipped_and_reported(
    small: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Between the check of all files and the first epoch one of them is cut short."""
    data = tmp_path / "data"
    shutil.copytree(small, data)
    recipe = make_recipe("zoo_tiny", data=data, epochs=2, settings={"data.unreadable": "skip", "augment.name": "none"})
    session = build_session(recipe)
    victim = Path(session.data.train.where(0))
    victim.write_bytes(victim.read_bytes()[:40])
    run = Run.create(tmp_path / "r", default_name="x")
    run.update(status="running")
    train(run, session, first=None, best=None, progress=True)
    assert [entry["path"] for entry in run.info()["skipped_files"]] == [str(victim)]
    assert capsys.readouterr().err.count(str(victim)) == 1
    assert run.status == "finished"


def test_a_file_that_becomes_unreadable_during_training_stops_the_run_by_default(small: Path, tmp_path: Path) -> None:
    data = tmp_path / "data"
    shutil.copytree(small, data)
    session = build_session(make_recipe("zoo_tiny", data=data, epochs=2))
    victim = Path(session.data.train.where(0))
    victim.write_bytes(victim.read_bytes()[:40])
    run = Run.create(tmp_path / "r", default_name="x")
    run.update(status="running")
    with pytest.raises(DataError, match=victim.name):
        train(run, session, first=None, best=None, progress=False)
    assert run.status == "failed"


@pytest.mark.parametrize(
    ("monitor", "row", "best", "expected"),
    [
        ("top1", {"val_top1": 0.5, "val_loss": 1.0}, None, True),
        ("top1", {"val_top1": 0.6, "val_loss": 2.0}, {"value": 0.5, "val_loss": 1.0}, True),
        ("top1", {"val_top1": 0.5, "val_loss": 0.9}, {"value": 0.5, "val_loss": 1.0}, True),
        ("top1", {"val_top1": 0.5, "val_loss": 1.1}, {"value": 0.5, "val_loss": 1.0}, False),
        ("top1", {"val_top1": 0.4, "val_loss": 0.1}, {"value": 0.5, "val_loss": 1.0}, False),
        ("loss", {"val_loss": 0.9}, {"value": 1.0, "val_loss": 1.0}, True),
        ("loss", {"val_loss": 1.0}, {"value": 1.0, "val_loss": 1.0}, False),
    ],
)
def test_with_equal_accuracy_the_epoch_with_the_lower_loss_is_better(
    monitor: str, row: dict[str, float], best: dict[str, float] | None, expected: bool
) -> None:
    from zoo.workflows.finetune.early_stopping import is_better

    assert is_better(row, monitor, best) is expected


def test_auxiliary_heads_are_trained_and_removed_for_evaluation_and_export(small: Path) -> None:
    import zoo

    recipe = make_recipe("torchvision/googlenet", data=small, weights="none", epochs=1, img_size=64, amp=False)
    session = build_session(recipe)
    assert session.trainer.auxiliary == pytest.approx(0.3)
    before = session.model.module.aux1.fc2.weight.clone()
    run = finetune(recipe, progress=False)
    assert not torch.equal(before, run.weights()["aux1.fc2.weight"])
    assert 0 <= zoo.evaluate(run).evaluation.top1 <= 1
    assert zoo.export(run).files


def test_model_options_reach_the_model(small: Path, capsys: pytest.CaptureFixture[str]) -> None:
    options: Any = {"data": small, "drop": 0.2, "drop_path": 0.1, "pool": "max", "img_size": 32}
    recipe = make_recipe("test_resnet", weights="none", settings={"model.head_init": "zero"}, **options)
    module = build_session(recipe).model.module
    assert (module.drop_rate, module.global_pool.pool_type) == (0.2, "max")
    assert not module.fc.weight.any()
    with pytest.raises(ModelError, match="resnet18"):
        build_session(make_recipe("torchvision/resnet18", weights="none", data=small, pool="max"))


def test_loaded_and_new_weights_are_printed_and_recorded(small: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = finetune("zoo_tiny", data=small, in_chans=1, epochs=1)
    assert "new head (4 classes), first convolution adapted 3 -> 1 channels; 0 missing, 0 unexpected" in (
        capsys.readouterr().err
    )
    weights = run.info()["weights"]
    assert weights["source"] == "builtin:zoo_tiny"
    assert weights["loaded"] == 84
    assert len(weights["sha256"]) == 64
