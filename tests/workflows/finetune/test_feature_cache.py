"""Training on cached features of the frozen layers gives the same result as training on images."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import torch

from zoo.cache import list_entries
from zoo.errors import Interrupted, RecipeError
from zoo.run import Run
from zoo.training.lr_finder import range_test
from zoo.workflows.finetune import transfer
from zoo.workflows.finetune.build import build_session
from zoo.workflows.finetune.options import make_recipe
from zoo.workflows.finetune.run import finetune, resume
from zoo.workflows.finetune.session import TrainingSession
from zoo.workflows.lr_find import lr_find


def _run(data: Path, where: str, /, name: str = "zoo_tiny", epochs: int = 3, **options: Any) -> Run:
    settings = {"augment.name": "none", "train.linear_probe": "off", **options.pop("settings", {})}
    return finetune(
        name, data=data, epochs=epochs, amp=False, progress=False, output_dir=where, settings=settings, **options
    )


def _both(data: Path, **options: Any) -> tuple[Run, Run]:
    settings = options.pop("settings", {})
    cached = _run(data, "cached", settings={**settings, "train.feature_cache": "on"}, **options)
    uncached = _run(data, "uncached", settings={**settings, "train.feature_cache": "off"}, **options)
    return cached, uncached


def _assert_same(cached: Run, uncached: Run) -> None:
    for one, other in zip(cached.metrics(), uncached.metrics(), strict=True):
        assert one["train_loss"] == pytest.approx(other["train_loss"], rel=1e-4)
        assert one["val_loss"] == pytest.approx(other["val_loss"], rel=1e-4)
    start, end = uncached.weights(), cached.weights()
    for name, value in start.items():
        assert torch.allclose(end[name].float(), value.float(), atol=1e-4), name


@pytest.mark.parametrize(
    ("name", "plan", "settings"),
    [
        ("zoo_tiny", "backbone", {}),
        ("zoo_tiny", "stage3", {}),
        ("zoo_tiny", "stage3", {"train.model_ema": True, "transfer.bn_reestimate": True}),
        ("test_vit", "4", {}),
    ],
)
def test_the_same_weights_as_without_a_cache(small: Path, name: str, plan: str, settings: dict[str, Any]) -> None:
    options = {"weights": "none", "img_size": 32} if name != "zoo_tiny" else {}
    # Without LP-FT, whose fit chooses a penalty: on these separable images, last bits of the features can change it.
    settings = {**settings, "train.clip_grad": 1.0, "transfer.start": "plain"}
    _assert_same(*_both(small, name=name, freeze=plan, settings=settings, **options))


def test_as_many_views_as_epochs_equal_random_augmentation(small: Path) -> None:
    settings = {"augment.name": "light", "transfer.start": "plain"}
    cached = _run(small, "cached", freeze="backbone", settings={**settings, "train.views": 3})
    uncached = _run(small, "uncached", freeze="backbone", settings={**settings, "train.feature_cache": "off"})
    _assert_same(cached, uncached)
    twice = _run(small, "twice", freeze="backbone", settings={**settings, "train.views": 1})
    assert twice.metrics()[0]["train_loss"] == pytest.approx(uncached.metrics()[0]["train_loss"], rel=1e-4)
    assert twice.metrics()[1]["train_loss"] != pytest.approx(uncached.metrics()[1]["train_loss"], rel=1e-4)


def test_the_next_run_finds_the_cached_features(
    small: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("ZOO_CACHE", str(tmp_path / "own"))
    options: dict[str, Any] = {"data": small, "freeze": "backbone", "epochs": 1, "amp": False}
    finetune("zoo_tiny", output_dir="one", **options)
    assert "feature cache: 120 computed, 0 found" in capsys.readouterr().err
    finetune("zoo_tiny", output_dir="two", lr=0.1, **options)
    assert "feature cache: 0 computed, 120 found" in capsys.readouterr().err
    (store,) = list_entries("features")
    assert store.info["model"] == "zoo_tiny"
    shard = next(store.path.glob("*.safetensors"))
    shard.write_bytes(shard.read_bytes()[:-1])
    finetune("zoo_tiny", output_dir="four", **options)
    stderr = capsys.readouterr().err
    assert "damaged" in stderr
    assert re.search("feature cache: (24|96) computed, (96|24) found", stderr)  # of training or of validation


def test_another_image_or_weight_gives_another_cache_entry(
    small: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import shutil

    monkeypatch.setenv("ZOO_CACHE", str(tmp_path / "own"))
    data = tmp_path / "data"
    shutil.copytree(small, data)
    _run(data, "one", freeze="backbone", epochs=1)
    shutil.copy(data / "0" / "00.png", data / "1" / "00.png")  # the same name, another picture
    cached = _run(data, "two", freeze="backbone", epochs=1)
    uncached = _run(data, "three", freeze="backbone", epochs=1, settings={"train.feature_cache": "off"})
    _assert_same(cached, uncached)
    assert len(list_entries("features")) == 1
    _run(data, "four", freeze="backbone", epochs=1, weights="none")
    assert len(list_entries("features")) == 2


def test_a_resumed_run_uses_cached_features(small: Path) -> None:
    whole = _run(small, "whole", freeze="stage3")

    def stop(row: dict[str, Any]) -> None:
        if row["epoch"] == 2:
            raise KeyboardInterrupt

    with pytest.raises(Interrupted):
        _run(small, "broken", freeze="stage3", on_epoch=stop)
    again = resume("broken", progress=False)
    assert again.metrics()[-1]["val_loss"] == whole.metrics()[-1]["val_loss"]
    for name, value in whole.weights().items():
        assert torch.equal(again.weights()[name], value), name


def test_the_reason_for_no_cache_is_printed(small: Path) -> None:
    def note(**settings: Any) -> str:
        session = build_session(make_recipe("zoo_tiny", data=small, freeze="stage2", amp=False, settings=settings))
        assert session.feature_cache is None
        return next(n for n in session.notes if n.startswith("feature cache off: "))

    assert "--views K" in note(**{"augment.name": "light"})
    assert "mixup" in note(**{"augment.name": "none", "augment.mixup": 0.2})
    assert "unfreeze_every" in note(**{"augment.name": "none", "transfer.unfreeze_every": 1})
    with pytest.raises(RecipeError, match=r"train\.feature_cache"):
        note(**{"augment.name": "none", "augment.mixup": 0.2, "train.feature_cache": "on"})
    free = build_session(make_recipe("zoo_tiny", data=small, settings={"augment.name": "none"}))
    assert free.feature_cache is None
    assert not any("features" in n for n in free.notes)


def test_regression_with_cached_features(small: Path) -> None:
    cached, uncached = _both(small, freeze="backbone", task="regression")
    _assert_same(cached, uncached)


class _Passes:
    """Images that pass the first convolution of any model, while it is entered."""

    def __enter__(self) -> _Passes:
        self.images = 0

        def count(module: torch.nn.Module, args: tuple[torch.Tensor, ...], _: object) -> None:
            if isinstance(module, torch.nn.Conv2d) and module.in_channels == 3:
                self.images += len(args[0])

        self._hook = torch.nn.modules.module.register_module_forward_hook(count)
        return self

    def __exit__(self, *_: object) -> None:
        self._hook.remove()


def _begin(data: Path, where: str, **settings: Any) -> tuple[int, TrainingSession]:
    """Images that pass the network before the first epoch of a full fine-tuning."""
    session = build_session(
        make_recipe("zoo_tiny", data=data, amp=False, settings={"augment.name": "light", **settings})
    )
    with _Passes() as passes:
        assert transfer.begin(Run.create(Path(where), default_name=where), session, lambda _: None) is not None
    return passes.images, session


def test_the_next_probing_phase_reads_no_image_and_gives_the_same_head(
    small: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ZOO_CACHE", str(tmp_path / "own"))
    steps = {"loss.name": "focal"}  # fitting chooses a penalty, which last bits of the features can change
    without, uncached = _begin(small, "uncached", **{"train.feature_cache": "off"}, **steps)
    assert not list_entries("features")
    first, one = _begin(small, "one", **steps)
    second, two = _begin(small, "two", **steps)
    assert without == 120  # training and validation images, each once
    assert first >= 120
    assert second == 0
    for name, value in uncached.trainer.module.state_dict().items():
        assert torch.allclose(one.trainer.module.state_dict()[name], value, atol=1e-4), name
        assert torch.equal(two.trainer.module.state_dict()[name], one.trainer.module.state_dict()[name]), name
    rows = [Run(Path(where)).info()["start"]["head"] for where in ("uncached", "one", "two")]
    assert rows[1]["val_loss"] == pytest.approx(rows[0]["val_loss"], rel=1e-4)
    assert rows[2]["val_loss"] == rows[1]["val_loss"]
    flags = {name: p.requires_grad for name, p in uncached.trainer.module.named_parameters()}
    assert {name: p.requires_grad for name, p in two.trainer.module.named_parameters()} == flags


def test_the_probing_phase_and_a_frozen_backbone_share_the_feature_cache(
    small: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("ZOO_CACHE", str(tmp_path / "own"))
    _begin(small, "start")
    capsys.readouterr()
    finetune("zoo_tiny", data=small, freeze="backbone", amp=False, output_dir="frozen")
    assert "feature cache: 0 computed, 120 found" in capsys.readouterr().err
    # Of equal images, one row is stored.
    _, balanced = _begin(small, "balanced", **{"data.balance": "oversample"})
    assert balanced.uses_lp_ft
    assert len(list_entries("features")) == 1


def test_no_feature_cache_if_unreadable_files_are_skipped(
    small: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ZOO_CACHE", str(tmp_path / "own"))
    _begin(small, "skip", **{"data.unreadable": "skip"})
    assert not list_entries("features")


def test_lr_find_and_tune_use_cached_features(small: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ZOO_CACHE", str(tmp_path / "own"))
    _run(small, "one", freeze="stage3", epochs=1)
    passed = []

    def counted(*args: Any, **named: Any) -> Any:
        with _Passes() as passes:
            found = range_test(*args, **named)
        passed.append(passes.images)
        return found

    monkeypatch.setattr("zoo.workflows.lr_find.range_test", counted)
    settings = {"augment.name": "none", "transfer.start": "plain"}
    found = lr_find("zoo_tiny", data=small, freeze="stage3", amp=False, steps=20, progress=False, settings=settings)
    (store,) = [s for s in list_entries("features") if s.info["end"] == "layer3"]
    settings["train.feature_cache"] = "off"
    other = lr_find("zoo_tiny", data=small, freeze="stage3", amp=False, steps=20, progress=False, settings=settings)
    assert passed[0] < passed[1]
    assert store.bytes
    assert found.losses == pytest.approx(other.losses, rel=1e-2)
