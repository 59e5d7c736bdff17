"""`zoo.inspect_file`: contents of weights files and runs."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import timm
import torch
from safetensors.torch import save_file

from zoo.errors import DataError, ModelError, WeightsError, ZooError
from zoo.workflows.inspect_file import inspect_file, is_weights_path

if TYPE_CHECKING:
    from zoo.run import Run

State = dict[str, torch.Tensor]


@pytest.fixture(scope="module")
def state() -> State:
    torch.manual_seed(0)
    return timm.create_model("test_resnet", num_classes=7, in_chans=1).state_dict()


def test_a_safetensors_file(state: State, tmp_path: Path) -> None:
    path = tmp_path / "w.safetensors"
    save_file(state, path, metadata={"format": "pt", "author": "me"})
    found = inspect_file(path)
    assert found.path == str(path)
    assert found.bytes == path.stat().st_size
    assert found.sha256 == hashlib.sha256(path.read_bytes()).hexdigest()
    assert (found.format, found.wrapping, found.prefix, found.others) == ("safetensors", (), "", {})
    assert found.metadata == {"format": "pt", "author": "me"}
    module = timm.create_model("test_resnet", num_classes=7, in_chans=1)
    assert found.tensors == len(state)
    assert found.params == sum(p.numel() for p in module.parameters())
    assert sum(found.dtypes.values()) == len(state)
    assert set(found.dtypes) == {"float32", "int64"}
    assert found.non_finite == ()
    assert (found.classes, found.in_chans) == (7, 1)
    assert found.fits[0].names == ("test_resnet",)
    assert found.fits[0].exact
    json.dumps(found.to_dict())


@pytest.mark.parametrize(
    ("wrap", "wrapping", "prefix"),
    [
        (lambda s: s, (), ""),
        (lambda s: {"state_dict": s}, ("state_dict",), ""),
        (lambda s: {"model": {f"module.{k}": v for k, v in s.items()}}, ("model",), "module."),
        (lambda s: {"state_dict": dict.fromkeys(s, torch.zeros(1)), "model_ema": s}, ("model_ema",), ""),
    ],
)
def test_wrappings_of_pickled_files(
    wrap: Callable[[State], dict[str, object]], wrapping: tuple[str, ...], prefix: str, state: State, tmp_path: Path
) -> None:
    path = tmp_path / "w.pth"
    torch.save(wrap(dict(state)), path)
    found = inspect_file(path)
    assert (found.format, found.wrapping, found.prefix) == ("pytorch", wrapping, prefix)
    assert found.first == ("conv1.0.weight", (16, 1, 3, 3))
    assert found.last == ("fc.bias", (7,))
    assert found.fits[0].names == ("test_resnet",)


def test_other_entries_of_a_file(state: State, tmp_path: Path) -> None:
    path = tmp_path / "w.pt"
    values = {"epoch": 3, "arch": "x" * 100, "optimizer": {"state": {}}, "scale": torch.zeros(2, 3), "best": None}
    torch.save({**values, "state_dict": state}, path, _use_new_zipfile_serialization=False)
    found = inspect_file(path)
    assert found.format == "pytorch, legacy"
    assert found.others == {
        "epoch": "3",
        "arch": f"'{'x' * 60}…'",
        "optimizer": "dict of 1",
        "scale": "tensor of 2x3",
        "best": "None",
    }


def test_non_finite_tensors_are_named(state: State, tmp_path: Path) -> None:
    spoilt = {k: v.clone() for k, v in state.items()}
    spoilt["fc.bias"][3] = float("nan")
    spoilt["conv1.0.weight"][0, 0, 0, 0] = float("-inf")
    torch.save(spoilt, tmp_path / "w.bin")
    assert inspect_file(tmp_path / "w.bin").non_finite == ("conv1.0.weight", "fc.bias")


def test_8_bit_floats(tmp_path: Path) -> None:
    torch.save({"fc.weight": torch.ones(2, 2).to(torch.float8_e4m3fn)}, tmp_path / "w.pth")
    assert inspect_file(tmp_path / "w.pth").dtypes == {"float8_e4m3fn": 1}


def test_tensors_of_an_unknown_architecture(tmp_path: Path) -> None:
    tensors = {"stem.weight": torch.zeros(8, 4, 3, 3), "body.bias": torch.zeros(8), "fc.weight": torch.zeros(5, 8)}
    torch.save(tensors, tmp_path / "w.pth")
    found = inspect_file(tmp_path / "w.pth")
    assert found.fits == ()
    assert (found.classes, found.in_chans) == (5, 4)
    torch.save({"a": torch.zeros(3)}, tmp_path / "w.pth")
    found = inspect_file(tmp_path / "w.pth")
    assert (found.classes, found.in_chans) == (None, None)


def test_tensors_of_one_module(state: State, tmp_path: Path) -> None:
    torch.save(state, tmp_path / "w.pth")
    found = inspect_file(tmp_path / "w.pth", params="fc")
    assert [(s.name, s.shape) for s in found.summaries] == [
        ("fc.weight", (7, state["fc.weight"].shape[1])),
        ("fc.bias", (7,)),
    ]
    assert found.summaries[0].mean == pytest.approx(float(state["fc.weight"].double().mean()))
    with pytest.raises(ModelError, match="no module or tensor 'fd'") as caught:
        inspect_file(tmp_path / "w.pth", params="fd")
    assert "did you mean fc" in caught.value.hint


def test_a_run(make_run: Callable[..., Run]) -> None:
    run = make_run("test_vit", ("cat", "dog"), in_chans=1)
    found = inspect_file(run.path)
    assert found.path == str(run.weights_file)
    assert found.run is not None
    assert (found.run.status, found.run.model, found.run.source) == ("finished", "test_vit", "timm")
    assert (found.run.classes, found.run.input_size[0], found.run.data) == (("cat", "dog"), 1, "digits")
    assert (found.run.epochs, found.run.epochs_done) == (3, 2)
    assert found.run.best == {"epoch": 2, "monitor": "top1", "value": 0.5}
    assert "test_vit" in found.fits[0].names
    assert (found.classes, found.in_chans) == (2, 1)
    json.dumps(found.to_dict())


def test_a_run_without_weights_and_a_damaged_one(make_run: Callable[..., Run]) -> None:
    run = make_run(status="interrupted")
    run.model_file.write_text("{")
    with pytest.raises(DataError, match=r"model\.json"):
        inspect_file(run.path)
    run.model_file.write_text(json.dumps({"model": {"name": "x"}, "classes": [], "preprocess": {}}))
    with pytest.raises(DataError, match="'source' is missing"):
        inspect_file(run.path)
    run.weights_file.unlink()
    with pytest.raises(WeightsError, match="has no weights yet"):
        inspect_file(run.path)


class _Evil:
    def __reduce__(self) -> tuple[object, tuple[str]]:
        return (os.system, ("touch executed",))


def test_nothing_is_executed(tmp_path: Path) -> None:
    torch.save({"state_dict": {"a": torch.zeros(1)}, "more": _Evil()}, tmp_path / "w.pth")
    with pytest.raises(WeightsError, match="would execute code"):
        inspect_file(tmp_path / "w.pth")
    assert not Path("executed").exists()


@pytest.mark.parametrize("name", ["w.safetensors", "w.pth", "w.bin", "w.txt"])
@pytest.mark.parametrize("content", [b"", b"not weights at all, only words" * 9])
def test_invalid_weights_files(name: str, content: bytes, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(WeightsError):
        inspect_file(tmp_path / name)


@pytest.mark.parametrize("name", ["absent.pth", "absent/", "."])
def test_missing_paths(name: str, tmp_path: Path) -> None:
    with pytest.raises(ZooError) as caught:
        inspect_file(name)
    assert caught.value.exit_code == 4
    assert caught.value.hint


def test_a_file_without_tensors(tmp_path: Path) -> None:
    torch.save({"epoch": 3}, tmp_path / "w.pth")
    with pytest.raises(WeightsError, match="has no tensors"):
        inspect_file(tmp_path / "w.pth")


def test_a_model_name_has_priority_over_a_folder(tmp_path: Path) -> None:
    (tmp_path / "resnet34").mkdir()
    (tmp_path / "mine").mkdir()
    assert not is_weights_path("resnet34")
    assert not is_weights_path("torchvision/resnet34.IMAGENET1K_V1")
    assert not is_weights_path("no_such_model")
    for text in ("./resnet34", "mine", "mine/", "absent.pth", "/absent", "~/runs"):
        assert is_weights_path(text)
