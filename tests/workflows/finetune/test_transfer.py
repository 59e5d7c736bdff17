"""The ways from pretrained weights to a new task, as fields of a recipe: what each does to a whole run."""

from __future__ import annotations

import math
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

import zoo
from zoo.errors import Interrupted, RecipeError, TrainingError, ZooError
from zoo.models import build
from zoo.recipe import load_values
from zoo.run import Run
from zoo.training.trainer import Trainer
from zoo.workflows.finetune.build import build_session
from zoo.workflows.finetune.options import make_recipe
from zoo.workflows.finetune.run import finetune, resume

Tensors = dict[str, torch.Tensor]


def same(a: Tensors, b: Tensors) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[k], b[k]) for k in a)


@pytest.fixture(scope="module")
def vit(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file with weights of a ViT of four blocks, 64 wide, and of 1,000 classes."""
    torch.manual_seed(1)
    path = tmp_path_factory.mktemp("weights") / "vit.safetensors"
    save_file(build("test_vit", classes=1000, weights="none").module.state_dict(), path)
    return path


def _run(small: Path | str, where: str, /, name: str = "zoo_tiny", epochs: int = 3, **options: Any) -> Run:
    settings = {"augment.name": "none", **options.pop("settings", {})}
    return finetune(
        name, data=small, epochs=epochs, amp=False, progress=False, output_dir=where, settings=settings, **options
    )


# --- the start -------------------------------------------------------------------------------------------------------


def test_a_pretrained_backbone_starts_with_linear_probing(small: Path) -> None:
    """LP-FT is the default; the first epoch then begins where plain fine-tuning has still to come."""
    led = _run(small, "led", epochs=1)
    plain = _run(small, "plain", epochs=1, settings={"transfer.start": "plain"})
    head = led.info()["start"]["head"]
    assert head["first_loss"] == pytest.approx(math.log(4))  # of zero weights
    assert head["last_loss"] < head["first_loss"]
    assert (head["images"], head["epochs"], head["method"]) == (96, 0, "l-bfgs")
    assert led.metrics()[0]["train_loss"] < plain.metrics()[0]["train_loss"]
    assert "start" not in plain.info()
    assert load_values(led.path)["transfer"]["start"] == "lp-ft"
    assert load_values(plain.path)["transfer"]["start"] == "plain"


def test_the_probing_phase_fits_the_head_that_head_only_fits(small: Path) -> None:
    tuned = _run(small, "tuned", epochs=1, settings={"transfer.wise_ft": True})
    probe = finetune("zoo_tiny", data=small, freeze="backbone", amp=False, progress=False, output_dir="probe")
    start, (row,) = tuned.info()["start"]["head"], probe.metrics()
    assert start["penalty"] == probe.info()["linear_probe"]["penalty"]
    assert start["last_loss"] == pytest.approx(row["train_loss"], rel=1e-4)
    assert start["val_loss"] == pytest.approx(row["val_loss"], rel=1e-3)


@pytest.mark.parametrize(
    "settings", [{"loss.name": "focal"}, {"data.balance": "oversample"}, {"loss.name": "focal", "freeze": "backbone"}]
)
def test_a_head_that_is_trained_by_steps_starts_from_zero(
    small: Path, monkeypatch: pytest.MonkeyPatch, settings: dict[str, Any]
) -> None:
    """An initialisation as wide as that of timm's EfficientNets must not show."""
    seen: list[float] = []

    def zeroed(self: Trainer, *args: Any, **more: Any) -> Any:
        seen.append(float(self.module.fc.weight.detach().abs().max()))
        return train_epoch(self, *args, **more)

    train_epoch = Trainer.train_epoch
    monkeypatch.setattr(Trainer, "train_epoch", zeroed)
    run = _run(small, "r", epochs=1, settings=settings)
    if "freeze" in settings:
        assert seen == [0]
    else:
        head = run.info()["start"]["head"]
        assert head["epochs"] == 20
        assert "method" not in head
        assert head["last_loss"] < head["first_loss"] < math.log(4)


def test_runs_without_a_probing_phase(small: Path, vit: Path) -> None:
    assert not build_session(make_recipe("zoo_tiny", data=small, freeze="backbone")).uses_lp_ft
    assert not build_session(make_recipe("test_vit", data=small, weights="none", img_size=32)).uses_lp_ft
    trained = _run(small, "trained", epochs=1)
    assert not build_session(make_recipe("zoo_tiny", data=small, weights=trained.path)).uses_lp_ft  # its head is loaded
    with pytest.raises(RecipeError, match=r"transfer\.start"):
        build_session(make_recipe("zoo_tiny", data=small, weights="none", settings={"transfer.start": "lp-ft"}))
    with pytest.raises(RecipeError, match=r"transfer\.wise_ft"):
        build_session(make_recipe("zoo_tiny", data=small, weights="none", settings={"transfer.wise_ft": True}))


def test_a_run_killed_during_linear_probing_starts_again(small: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def killed(*_: Any, **__: Any) -> Any:
        raise KeyboardInterrupt

    whole = _run(small, "whole", epochs=1)
    with monkeypatch.context() as m:
        m.setattr("zoo.workflows.finetune.linear_probing.phase.run_probing_phase", killed)
        with pytest.raises(Interrupted):
            _run(small, "early", epochs=1)
    assert not Run(Path("early")).checkpoint_file.exists()
    assert same(resume("early", progress=False).weights(), whole.weights())


# --- resuming --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "settings"),
    [
        ("zoo_tiny", {"train.model_ema": True, "train.model_ema_decay": 0.9}),
        ("zoo_tiny", {"transfer.l2_sp": 0.1, "transfer.wise_ft": True}),
        ("zoo_tiny", {"transfer.unfreeze_every": 1, "transfer.bn_reestimate": True}),
        ("zoo_tiny", {"transfer.auto_rgn": True}),
        ("test_vit", {"transfer.lora.rank": 2}),
        ("test_vit", {"transfer.lora.rank": 2, "transfer.unfreeze_every": 1, "train.model_ema": True}),
    ],
    ids=["ema", "l2-sp", "unfreeze", "auto-rgn", "lora", "lora-unfreeze-ema"],
)
def test_a_resumed_run_equals_an_unbroken_one_and_needs_no_weights_file(
    small: Path, vit: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, settings: dict[str, Any]
) -> None:
    weights = shutil.copy(vit, tmp_path / "w.safetensors") if name == "test_vit" else None
    options: Any = {"name": name, "weights": weights, "img_size": 32, "settings": settings}
    whole = _run(small, "whole", **options)
    train_epoch = Trainer.train_epoch

    def interrupted(self: Trainer, batches: Any, epoch: int, on_batch: Any = None) -> Any:
        if epoch == 2:
            raise KeyboardInterrupt
        return train_epoch(self, batches, epoch, on_batch)

    with monkeypatch.context() as m:
        m.setattr(Trainer, "train_epoch", interrupted)
        with pytest.raises(Interrupted):
            _run(small, "broken", **options)
    if weights is not None:
        Path(weights).unlink()
    resumed = resume("broken", progress=False)
    assert same(whole.weights(), resumed.weights())
    assert same(whole.checkpoint()[0], resumed.checkpoint()[0])
    assert [r["val_loss"] for r in whole.metrics()] == [r["val_loss"] for r in resumed.metrics()]
    assert whole.info()["best"] == resumed.info()["best"]


# --- the ways --------------------------------------------------------------------------------------------------------


def test_gradual_unfreezing_adds_one_group_at_a_time_from_the_head(small: Path) -> None:
    session = build_session(make_recipe("zoo_tiny", data=small, settings={"transfer.unfreeze_every": 1}))
    names = [g.name for g in session.model.groups]
    module = session.model.module

    def trainable() -> set[str]:
        wanted = {n for n, p in module.named_parameters() if p.requires_grad}
        return {g.name for g in session.model.groups if wanted & set(g.parameters)}

    for epoch in range(len(names)):
        session.trainer.set_train_mode(epoch)
        assert trainable() == set(names[len(names) - 1 - epoch :])
    run = _run(small, "r", epochs=1, settings={"transfer.unfreeze_every": 1, "transfer.start": "plain"})
    before, after = build("zoo_tiny", classes=4).module.state_dict(), run.weights()
    head = session.model.groups[-1]
    moved = {k for k in after if not torch.equal(before[k], after[k])}
    assert moved == set(head.parameters)


def test_lora_trains_a_tenth_and_the_run_has_merged_weights(small: Path, vit: Path) -> None:
    settings = {"transfer.lora": {"rank": 4}}
    session = build_session(make_recipe("test_vit", data=small, weights=vit, img_size=32, settings=settings))
    trainable = sum(p.numel() for p in session.model.module.parameters() if p.requires_grad)
    total = sum(p.numel() for p in build("test_vit", classes=4, weights="none", img_size=32).module.parameters())
    assert trainable < 0.1 * total
    assert session.plan.trainable == trainable
    run = _run(
        small, "r", name="test_vit", weights=vit, img_size=32, lr=0.01, settings={**settings, "transfer.start": "plain"}
    )
    plain = build("test_vit", classes=4, weights="none", img_size=32).module.state_dict()
    assert run.weights().keys() == plain.keys()
    old, new = load_file(vit), run.weights()
    assert not torch.equal(old["blocks.0.attn.qkv.weight"], new["blocks.0.attn.qkv.weight"])
    assert torch.equal(old["blocks.0.mlp.fc1.weight"], new["blocks.0.mlp.fc1.weight"])
    best = run.info()["best"]
    assert zoo.evaluate(run).evaluation.top1 == pytest.approx(best["value"])
    with pytest.raises(ZooError, match="has no attention layer"):
        build_session(make_recipe("zoo_tiny", data=small, settings=settings))


def test_fixed_batch_norm_statistics_do_not_change(small: Path) -> None:
    run = _run(small, "r", epochs=1, lr=0.01, settings={"transfer.fixed_bn_stats": True, "transfer.start": "plain"})
    pretrained = build("zoo_tiny", classes=4).module.state_dict()
    statistics = [name for name in pretrained if name.endswith(("running_mean", "running_var"))]
    assert statistics
    assert all(torch.equal(run.weights()[name], pretrained[name]) for name in statistics)
    scale = next(name for name in statistics).replace("running_mean", "weight")
    assert not torch.equal(run.weights()[scale], pretrained[scale])


def test_a_size_below_that_of_the_pretraining_is_mentioned(small: Path, vit: Path) -> None:
    def notes(**options: Any) -> str:
        return "\n".join(build_session(make_recipe("test_vit", data=small, **options)).notes)

    assert "32x32: the model was trained at 160x160" in notes(weights=vit, img_size=32)
    assert "was trained at" not in notes(weights=vit, img_size=160)
    assert "was trained at" not in notes(weights="none", img_size=32)


def test_l2_sp_keeps_the_backbone_near_its_initial_weights(small: Path) -> None:
    free = _run(small, "free", lr=0.003)
    held = _run(small, "held", lr=0.003, settings={"transfer.l2_sp": 3.0})
    start = build("zoo_tiny", classes=4).module.state_dict()
    far = lambda run: sum(
        float((start[k] - t).square().sum())
        for k, t in run.checkpoint()[0].items()
        for k in [k.removeprefix("model.")]
        if k in start
        and t.is_floating_point()
        and "running" not in k
        and not k.startswith(("fc", "head", "classifier"))
    )
    assert far(held) < 0.5 * far(free)


def test_the_ema_is_validated_and_saved(small: Path) -> None:
    run = _run(small, "r", epochs=2, settings={"train.model_ema": True, "train.model_ema_decay": 0.8})
    tensors = run.checkpoint()[0]
    average = {k.removeprefix("ema.module."): t for k, t in tensors.items() if k.startswith("ema.module.")}
    last = {k[6:]: t for k, t in tensors.items() if k.startswith("model.")}
    assert not same(average, last)
    best = run.info()["best"]
    if best["epoch"] == 2:
        assert all(torch.equal(t, average[k]) for k, t in run.weights().items() if k in average)
    assert zoo.evaluate(run).evaluation.top1 == pytest.approx(best["value"])


def test_a_weight_average_is_used_only_if_it_validates_better(small: Path) -> None:
    settings = {"transfer.wise_ft": True}
    mixed = _run("digits", "mixed", epochs=1, lr=0.001, monitor="loss", settings=settings)
    best = mixed.info()["best"]
    assert 0 < best["wise_ft"] < 1
    assert best["value"] < min(mixed.metrics()[-1]["val_loss"], mixed.info()["start"]["head"]["val_loss"])
    start, mixed_weights, last = mixed.start(), mixed.weights(), mixed.checkpoint()[0]
    name = "fc.weight"
    assert torch.allclose(mixed_weights[name], start[name].lerp(last[f"model.{name}"], best["wise_ft"]), atol=1e-6)
    # The head alone separates these four digits; no epoch can be better.
    alone = _run(small, "alone", epochs=1, lr=0.05, settings=settings)
    assert alone.info()["best"]["epoch"] == 0
    assert "wise_ft" not in alone.info()["best"]
    assert same(alone.weights(), alone.start())
    assert zoo.evaluate(alone).evaluation.top1 == pytest.approx(alone.info()["best"]["value"])


def test_relative_gradient_norms_set_the_learning_rates(small: Path) -> None:
    run = _run(small, "r", epochs=2, settings={"transfer.auto_rgn": True, "schedule.name": "constant"})
    first, second = (row["lr"] for row in run.metrics())
    assert max(first) == pytest.approx(max(3e-4, 1e-3), rel=1.0)
    assert len(set(first)) > 10
    assert first != second


# --- stopping, tasks, weights ----------------------------------------------------------------------------------------


def test_early_stopping(small: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = finetune(
        "zoo_tiny", data=small, epochs=30, patience=2, freeze="backbone", linear_probe="off", amp=False, output_dir="r",
        progress=True,
    )  # fmt: skip
    rows, info = run.metrics(), run.info()
    assert info["status"] == "finished"
    assert info["stopped_early"] is True
    assert len(rows) == info["best"]["reached"] + 2 < 30
    assert max(row["val_top1"] for row in rows) == rows[info["best"]["reached"] - 1]["val_top1"]
    assert "no better top1 in 2 epochs" in capsys.readouterr().err


def test_on_epoch_gets_each_row_and_may_stop_the_run(small: Path) -> None:
    seen: list[int] = []

    def on_epoch(row: dict[str, Any]) -> None:
        seen.append(row["epoch"])
        if row["epoch"] == 2:
            raise TrainingError("enough")

    with pytest.raises(TrainingError, match="enough"):
        finetune("zoo_tiny", data=small, epochs=5, progress=False, output_dir="r", on_epoch=on_epoch)
    assert seen == [1, 2]
    assert Run(Path("r")).status == "failed"
    assert len(Run(Path("r")).metrics()) == 2


def test_regression_targets_stay_in_the_user_s_units(small: Path, tmp_path: Path) -> None:
    """Four digits as the numbers 0, 1000, 2000, 3000: far from where a network's outputs begin."""
    data = tmp_path / "data"
    for label in range(4):
        shutil.copytree(small / str(label), data / str(1000 * label))
    run = finetune("zoo_tiny", data=data, task="regression", epochs=8, amp=False, progress=False, output_dir="r")
    best, record = run.info()["best"], run.model_record()
    assert (best["monitor"], record["task"]) == ("rmse", "regression")
    assert best["value"] < 500  # the mean of all would be off by 1118
    rows = run.metrics()
    assert "train_top1" not in rows[0]
    assert rows[-1]["val_r2"] > 0.8
    summary = zoo.evaluate(run).evaluation.summary()
    assert summary["rmse"] == pytest.approx(best["value"], rel=1e-4)
    text = (run.path / "recipe.yaml").read_text()
    assert "task: regression" in text
    assert "name: mse" in text


def test_multi_label_targets_are_fitted_per_label(small: Path) -> None:
    run = finetune(
        "zoo_tiny", data=small, task="multi-label", epochs=4, amp=False, progress=False, class_weights="balanced"
    )
    best = run.info()["best"]
    assert best["monitor"] == "average_precision"
    assert best["value"] > 0.9
    assert zoo.evaluate(run).evaluation.summary()["average_precision"] == pytest.approx(best["value"], abs=1e-6)


def test_class_weights_change_the_weights(small: Path, tmp_path: Path) -> None:
    uneven = tmp_path / "uneven"
    shutil.copytree(small, uneven)
    for path in sorted((uneven / "3").iterdir())[5:]:
        path.unlink()
    options: Any = {"freeze": "backbone", "epochs": 1, "batch_size": 87}
    a = _run(uneven, "a", **options)
    b = _run(uneven, "b", class_weights="balanced", **options)
    assert a.metrics()[0]["train_loss"] != b.metrics()[0]["train_loss"]
    c = build_session(make_recipe("zoo_tiny", data=uneven, class_weights="balanced"))
    counts = torch.tensor([float((c.data.train.targets == i).sum()) for i in range(4)])
    expected = counts.sum() / (4 * counts)
    assert torch.allclose(c.trainer.loss.weight, expected)  # type: ignore[union-attr]


def test_ten_errors_are_ten_problems(tmp_path: Path) -> None:
    recipe = tmp_path / "bad.yaml"
    recipe.write_text(
        """
model: {name: resnt18}
data: {source: no-such-folder, batch_size: 0}
loss: {name: cros_entropy}
optimizer: {name: adamw, lr: fast, params: {beta: 0.9}}
schedule: {name: cosin, warmup: 3}
augment: {name: storng}
train: {monitor: top_1, epochs: -1}
transfer: {start: slowly}
"""
    )
    with pytest.raises(ZooError) as e:
        finetune(recipe=recipe, progress=False)
    lines = [line for line in e.value.message.splitlines() if line.startswith("  - ")]
    for part in (
        "resnt18", "no-such-folder", "data.batch_size", "cros_entropy", "optimizer.lr", "beta", "cosin",
        "schedule.warmup", "storng", "top_1", "train.epochs", "transfer.start",
    ):  # fmt: skip
        assert sum(part in line for line in lines) == 1, part
    assert len(lines) == 12
    assert list(tmp_path.iterdir()) == [recipe]
