"""Training on kept features of the frozen part is training."""

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
from zoo.workflows.finetune.options import make_recipe
from zoo.workflows.finetune.run import build_session, finetune, resume
from zoo.workflows.finetune.session import TrainingSession
from zoo.workflows.lr_find import lr_find


def _run(data: Path, where: str, /, name: str = "zoo_tiny", epochs: int = 3, **options: Any) -> Run:
    settings = {"augment.name": "none", **options.pop("settings", {})}
    return finetune(
        name, data=data, epochs=epochs, amp=False, progress=False, output_dir=where, settings=settings, **options
    )


def _both(data: Path, **options: Any) -> tuple[Run, Run]:
    settings = options.pop("settings", {})
    cached = _run(data, "kept", settings={**settings, "train.feature_cache": "on"}, **options)
    uncached = _run(data, "anew", settings={**settings, "train.feature_cache": "off"}, **options)
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
def test_the_same_weights_as_without(small: Path, name: str, plan: str, settings: dict[str, Any]) -> None:
    options = {"weights": "none", "img_size": 32} if name != "zoo_tiny" else {}
    _assert_same(*_both(small, name=name, freeze=plan, settings={**settings, "train.clip_grad": 1.0}, **options))


def test_as_many_views_as_epochs_are_what_augmentation_would_have_drawn(small: Path) -> None:
    settings = {"augment.name": "light", "transfer.start": "plain"}
    cached = _run(small, "kept", freeze="backbone", settings={**settings, "train.views": 3})
    uncached = _run(small, "anew", freeze="backbone", settings={**settings, "train.feature_cache": "off"})
    _assert_same(cached, uncached)
    twice = _run(small, "twice", freeze="backbone", settings={**settings, "train.views": 1})
    assert twice.metrics()[0]["train_loss"] == pytest.approx(uncached.metrics()[0]["train_loss"], rel=1e-4)
    assert twice.metrics()[1]["train_loss"] != pytest.approx(uncached.metrics()[1]["train_loss"], rel=1e-4)


def test_the_next_run_finds_them(
    small: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("ZOO_CACHE", str(tmp_path / "own"))
    options: dict[str, Any] = {"data": small, "freeze": "backbone", "epochs": 1, "amp": False}
    finetune("zoo_tiny", output_dir="one", **options)
    assert "features: 120 computed, 0 found" in capsys.readouterr().err
    finetune("zoo_tiny", output_dir="two", lr=0.1, **options)
    assert "features: 0 computed, 120 found" in capsys.readouterr().err
    (store,) = list_entries("features")
    assert store.info["model"] == "zoo_tiny"
    shard = next(store.path.glob("*.safetensors"))
    shard.write_bytes(shard.read_bytes()[:-1])
    finetune("zoo_tiny", output_dir="four", **options)
    said = capsys.readouterr().err
    assert "damaged" in said
    assert re.search("features: (24|96) computed, (96|24) found", said)  # training and validation have a shard each


def test_another_image_or_weight_is_another_row(small: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
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


def test_a_resumed_run_goes_on_with_them(small: Path) -> None:
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


def test_what_keeps_them_from_being_kept_is_said(small: Path) -> None:
    def note(**settings: Any) -> str:
        session = build_session(make_recipe("zoo_tiny", data=small, freeze="stage2", amp=False, settings=settings))
        assert session.feature_cache is None
        return next(n for n in session.notes if "computed anew" in n)

    assert "--views K" in note(**{"augment.name": "light"})
    assert "mixup" in note(**{"augment.name": "none", "augment.mixup": 0.2})
    assert "unfreeze_every" in note(**{"augment.name": "none", "transfer.unfreeze_every": 1})
    with pytest.raises(RecipeError, match=r"train\.features"):
        note(**{"augment.name": "none", "augment.mixup": 0.2, "train.feature_cache": "on"})
    free = build_session(make_recipe("zoo_tiny", data=small, settings={"augment.name": "none"}))
    assert free.feature_cache is None
    assert not any("features" in n for n in free.notes)


def test_numbers_are_learned_from_them(small: Path) -> None:
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


def test_the_head_start_of_the_next_run_opens_no_image_and_learns_the_same(
    small: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ZOO_CACHE", str(tmp_path / "own"))
    without, uncached = _begin(small, "anew", **{"train.feature_cache": "off"})
    assert not list_entries("features")
    first, one = _begin(small, "one")
    second, two = _begin(small, "two")
    assert without == 120  # each once: the training images, and those of validation
    assert first >= 120
    assert second == 0
    for name, value in uncached.trainer.module.state_dict().items():
        assert torch.allclose(one.trainer.module.state_dict()[name], value, atol=1e-4), name
        assert torch.equal(two.trainer.module.state_dict()[name], one.trainer.module.state_dict()[name]), name
    rows = [Run(Path(where)).info()["start"]["head"] for where in ("anew", "one", "two")]
    assert rows[1]["val_loss"] == pytest.approx(rows[0]["val_loss"], rel=1e-4)
    assert rows[2]["val_loss"] == rows[1]["val_loss"]
    flags = {name: p.requires_grad for name, p in uncached.trainer.module.named_parameters()}
    assert {name: p.requires_grad for name, p in two.trainer.module.named_parameters()} == flags


def test_a_head_start_and_a_run_on_a_frozen_backbone_share_them(
    small: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("ZOO_CACHE", str(tmp_path / "own"))
    _begin(small, "start")
    capsys.readouterr()
    finetune("zoo_tiny", data=small, freeze="backbone", amp=False, output_dir="frozen")
    assert "features: 0 computed, 120 found" in capsys.readouterr().err
    # Of images that are met more than once, one row is kept.
    _, balanced = _begin(small, "balanced", **{"data.balance": "oversample"})
    assert balanced.uses_lp_ft
    assert len(list_entries("features")) == 1


def test_where_files_may_be_left_out_nothing_is_kept(
    small: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ZOO_CACHE", str(tmp_path / "own"))
    _begin(small, "skip", **{"data.unreadable": "skip"})
    assert not list_entries("features")


def test_the_range_test_and_the_trials_of_a_search_train_on_what_is_kept(
    small: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ZOO_CACHE", str(tmp_path / "own"))
    _run(small, "one", freeze="stage3", epochs=1)
    passed = []

    def counted(*args: Any, **named: Any) -> Any:
        with _Passes() as passes:
            found = range_test(*args, **named)
        passed.append(passes.images)
        return found

    monkeypatch.setattr("zoo.workflows.lr_find.range_test", counted)
    settings = {"augment.name": "none"}
    found = lr_find("zoo_tiny", data=small, freeze="stage3", amp=False, steps=20, progress=False, settings=settings)
    (store,) = [s for s in list_entries("features") if s.info["end"] == "layer3"]
    settings["train.feature_cache"] = "off"
    other = lr_find("zoo_tiny", data=small, freeze="stage3", amp=False, steps=20, progress=False, settings=settings)
    assert passed[0] < passed[1]
    assert store.bytes
    assert found.losses == pytest.approx(other.losses, rel=1e-2)
