"""A run on a device that is too small for its batches, and one that chooses its batch."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from zoo.errors import TrainingError, UsageError
from zoo.models import build
from zoo.recipe import load_values
from zoo.run import Run
from zoo.training.autotune import batch_size as measuring
from zoo.training.autotune.batch_size import StepCost
from zoo.workflows.evaluate import evaluate
from zoo.workflows.finetune import autotune
from zoo.workflows.finetune.build import build_session
from zoo.workflows.finetune.options import make_recipe
from zoo.workflows.finetune.run import finetune, resume
from zoo.workflows.lr_find import lr_find
from zoo.workflows.predict import predict

QUIET: dict[str, Any] = {"amp": False, "workers": 0, "weights": "none"}


@pytest.fixture
def memory(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """[n]: zoo_tiny takes n images at a time from here on; the list then grows by the images of each call."""
    met = [10**6]
    kind = type(build("zoo_tiny", classes=2, weights="none").module)
    forward = kind.forward

    def tight(self: Any, x: Tensor) -> Tensor:
        if len(x) > met[0]:
            raise torch.OutOfMemoryError("CUDA out of memory.")
        met.append(len(x))
        return forward(self, x)

    monkeypatch.setattr(kind, "forward", tight)
    return met


def test_a_run_continues_with_micro_batches_prints_it_once_and_resumes_with_them(
    small: Path, memory: list[int], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    memory[0] = 10
    run = finetune("zoo_tiny", data=small, epochs=3, output_dir="whole", **QUIET)
    stderr = capsys.readouterr().err
    assert run.status == "finished"
    assert run.info()["micro_batch_size"] == {"train": 8, "val": 6}  # 24 validation images
    assert stderr.count("continuing with micro-batches of 8; the effective batch size stays 32 (batch-norm") == 1
    assert stderr.count("continuing validation with batches of 6") == 1
    assert load_values(run.path)["data"]["batch_size"] == 32

    def stop(row: dict[str, Any]) -> None:
        if row["epoch"] == 2:
            raise TrainingError("stopped")

    with pytest.raises(TrainingError, match="stopped"):
        finetune("zoo_tiny", data=small, epochs=3, output_dir="broken", progress=False, on_epoch=stop, **QUIET)
    del memory[1:]
    resumed = resume("broken")
    assert "continuing with micro-batches of 8, as before" in capsys.readouterr().err
    assert max(memory[1:]) <= 8
    ours, theirs = run.weights(), resumed.weights()
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)


@pytest.mark.parametrize("freeze", ["none", "backbone", "3"])
def test_steps_before_and_after_the_epochs_use_micro_batches(small: Path, memory: list[int], freeze: str) -> None:
    """From default weights: linear probing, feature cache, batch norm re-estimated, Auto-RGN, WiSE-FT."""
    memory[0] = 3
    whole = freeze == "none"
    more = {"transfer.bn_reestimate": whole, "transfer.auto_rgn": whole, "transfer.wise_ft": whole}
    run = finetune("zoo_tiny", data=small, epochs=1, freeze=freeze, amp=False, workers=0, settings=more, progress=False)
    assert run.status == "finished"
    found = run.info().get("micro_batch_size", {})
    if freeze == "backbone":  # steps see one vector per image, and call only the head
        assert "train" not in found
    else:
        assert found["train"] <= 3


def test_one_image_that_does_not_fit_is_an_error(small: Path, memory: list[int]) -> None:
    memory[0] = 0
    with pytest.raises(TrainingError, match="out of memory on cpu with one image at a time") as e:
        finetune("zoo_tiny", data=small, epochs=1, output_dir="run", progress=False, **QUIET)
    assert "--freeze" in e.value.hint
    assert not Path("run").exists()


def test_one_image_that_no_longer_fits_stops_the_run_with_an_error(small: Path, memory: list[int]) -> None:
    def shrink(row: dict[str, Any]) -> None:
        memory[0] = 0

    with pytest.raises(TrainingError, match="out of memory on cpu with one image at a time"):
        finetune("zoo_tiny", data=small, epochs=2, output_dir="run", progress=False, on_epoch=shrink, **QUIET)
    assert Run(Path("run")).status == "failed"
    assert Run(Path("run")).info()["epochs_done"] == 1


def test_lr_find_uses_micro_batches(small: Path, memory: list[int]) -> None:
    memory[0] = 10
    found = lr_find("zoo_tiny", data=small, steps=20, progress=False, **QUIET)
    assert len(found.lrs) > 3


# --- --batch-size auto ---


def _costs(monkeypatch: pytest.MonkeyPatch, best: int) -> None:
    """Steps of up to `best` images take the same time."""
    monkeypatch.setattr(
        autotune, "step_profiler", lambda *_, **__: lambda size: StepCost(float(max(size, best)), 1.0, 0)
    )


def test_the_batch_size_is_chosen_recorded_and_printed_and_learning_rates_follow(
    small: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """96 training images leave 8 updates of 8; the recipe's rates are for 32."""
    _costs(monkeypatch, 10**6)
    run = finetune("zoo_tiny", data=small, epochs=1, batch_size="auto", **QUIET)
    written = load_values(run.path)
    assert written["data"]["batch_size"] == 8
    assert written["optimizer"]["lr"] == pytest.approx(3e-4 / 2)
    assert written["optimizer"]["head_lr"] == pytest.approx(1e-3 / 2)
    assert written["optimizer"]["lr_base_size"] is None
    assert (
        "batch size 8: 16 would leave fewer than 8 steps per epoch; learning rates x 0.50, by the square root of 8/32"
        in (capsys.readouterr().err)
    )
    again = finetune(recipe=run.path, progress=False)
    first, second = run.weights(), again.weights()
    assert all(torch.equal(first[name], second[name]) for name in first)


def test_learning_rates_set_by_the_user_are_not_scaled(
    small: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    _costs(monkeypatch, 10**6)

    def rates(**options: Any) -> tuple[float, float | None]:
        session = build_session(
            make_recipe(data=small, batch_size="auto", warmup_epochs=0, **{"model": "zoo_tiny", **QUIET, **options})
        )
        assert session.recipe.data.batch_size == 8
        assert max(len(x) for x, _ in session.train) == 8
        rates = session.trainer.learning_rates()
        assert rates["head"] == (session.recipe.optimizer.head_lr or session.recipe.optimizer.lr)
        return session.recipe.optimizer.lr, session.recipe.optimizer.head_lr

    assert rates(lr=0.01) == (0.01, 1e-3)
    assert rates(settings={"optimizer.head_lr": 0.5}) == (3e-4, 0.5)
    assert rates(opt="sgd") == pytest.approx((3e-4 / 4, 1e-3 / 4))
    # 8 batches of 64 an update are the recipe's: what is asked for is 8 batches of 8
    assert rates(recipe="large-similar") == (pytest.approx(5e-5 / 8**0.5, rel=1e-2), None)
    own = tmp_path / "own.yaml"
    own.write_text("data: {batch_size: auto}\noptimizer: {lr: 0.02}\n")
    assert rates(recipe=own) == (0.02, None)
    own.write_text("data: {batch_size: auto}\noptimizer: {lr: 0.02, lr_base_size: 2}\n")
    assert rates(recipe=own) == (0.04, None)


def test_a_measured_choice_is_a_power_of_two(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(measuring, "_SECONDS_PER_SIZE", 0.02)
    session = build_session(make_recipe("zoo_tiny", data="digits", batch_size="auto", freeze="backbone", **QUIET))
    assert session.recipe.data.batch_size in (32, 64, 128)
    assert any(note.startswith(f"batch size {session.recipe.data.batch_size}: ") for note in session.notes)


def test_no_memory_for_one_image_is_an_error(small: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(autotune, "free_memory", lambda device: 1000.0)
    with pytest.raises(TrainingError, match="out of memory on cpu with one image at a time"):
        build_session(make_recipe("zoo_tiny", data=small, batch_size="auto", **QUIET))


def test_flags_take_a_number_or_auto(zoo: Any, small: Path) -> None:
    result = zoo("finetune", "zoo_tiny", "--data", small, "--batch-size", "many")
    assert result.code == 2
    assert "--batch-size 'many' is neither a number nor auto" in result.err
    assert zoo("finetune", "zoo_tiny", "--data", small, "--batch-size", "0").code == 2


def test_evaluation_and_prediction_use_micro_batches(small: Path, memory: list[int]) -> None:
    run = finetune("zoo_tiny", data=small, epochs=1, progress=False, **QUIET)
    images = sorted(small.glob("*/*.png"))[:20]
    whole = [p.top[0][1] for p in predict(run, images)]
    report = evaluate(run, save=False).evaluation
    memory[0] = 6
    del memory[1:]
    assert [p.top[0][1] for p in predict(run, images)] == pytest.approx(whole, abs=1e-5)
    assert evaluate(run, save=False).evaluation.loss == pytest.approx(report.loss, abs=1e-5)
    assert max(memory[1:]) == 6
    memory[0] = 0
    with pytest.raises(UsageError, match="with one image at a time"):
        list(predict(run, images))
