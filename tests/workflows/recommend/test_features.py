"""Extracted features and batch-norm shift, against direct computation."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from zoo.data import data_config, make_loader, open_data
from zoo.data.loader import LoaderOptions
from zoo.models import Model, build
from zoo.training.inference import Normalize
from zoo.workflows.recommend.features import ExtractedFeatures, ExtractionSettings, extract_features


def _extract(
    model: Model, folder: Path, *, random: bool = False, flipped: bool = False
) -> tuple[ExtractedFeatures, np.ndarray, torch.Tensor]:
    data = open_data(data_config(str(folder)), seed=0)
    indices = np.arange(len(data.train))[::2]
    settings = ExtractionSettings(
        model.preprocess.with_size(32, 32), device=torch.device("cpu"), amp_dtype=None, workers=0, data="small"
    )
    found = extract_features(
        model, data.train, indices, settings, random=random, flipped=flipped, measure_shift=not flipped
    )
    loader = make_loader(
        data.train, preprocess=model.preprocess.with_size(32, 32), batch_size=64, train=False, augment=None, seed=0,
        workers=0, options=LoaderOptions(indices=indices),
    )  # fmt: skip
    images = torch.cat([batch for batch, _ in loader])
    return found, indices, Normalize(model.preprocess)(images)


def _expected(module: nn.Module, head: str, images: torch.Tensor) -> torch.Tensor:
    inputs: list[torch.Tensor] = []
    hook = module.get_submodule(head).register_forward_pre_hook(lambda _, args: inputs.append(args[0]))
    module.eval()
    with torch.no_grad():
        module(images)
    hook.remove()
    return inputs[0].flatten(1)


def test_features_are_the_inputs_of_the_head_and_are_cached(
    small: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ZOO_CACHE", str(tmp_path / "cache"))
    model = build("zoo_tiny", classes=4)
    found, _, images = _extract(model, small)
    expected = _expected(model.module, "fc", images)
    np.testing.assert_allclose(found.features, expected.numpy(), atol=1e-4)
    assert found.computed == len(expected)
    again, _, _ = _extract(build("zoo_tiny", classes=4), small)
    assert again.computed == 0
    np.testing.assert_array_equal(again.features, found.features)
    assert found.shift is not None
    assert again.shift is not None
    assert again.shift.value == pytest.approx(found.shift.value, rel=1e-3)


def test_the_shift_agrees_with_its_definition(small: Path) -> None:
    model = build("zoo_tiny", classes=4)
    found, _, images = _extract(model, small)
    module = model.module.eval()
    inputs: dict[str, torch.Tensor] = {}
    for name, part in module.named_modules():
        if isinstance(part, nn.modules.batchnorm._BatchNorm):
            part.register_forward_pre_hook(lambda _, args, name=name: inputs.update({name: args[0]}))
    with torch.no_grad():
        module(images)
    values = []
    for name, x in inputs.items():
        layer = module.get_submodule(name)
        variance, mean = torch.var_mean(x.double(), dim=(0, 2, 3), correction=0)
        running = layer.running_var.double() + layer.eps  # type: ignore[union-attr, operator]
        ours = variance + layer.eps  # type: ignore[operator]
        distance = (mean - layer.running_mean.double()) ** 2  # type: ignore[union-attr, operator]
        values.append((0.5 * ((running / ours).log() + (ours + distance) / running - 1)).median().item())
    # numpy and torch define the median of an even number of channels differently.
    assert found.shift is not None
    assert found.shift.value == pytest.approx(np.mean(values), rel=0.05)


def test_a_random_network_gets_statistics_of_these_images(small: Path) -> None:
    torch.manual_seed(0)
    model = build("zoo_tiny", classes=4, weights="none")
    found, _, _ = _extract(model, small, random=True)
    assert found.shift is None
    norm = next(p for p in model.module.modules() if isinstance(p, nn.BatchNorm2d))
    assert norm.running_mean is not None
    assert float(norm.running_mean.abs().max()) > 0
    assert np.isfinite(found.features).all()


def test_a_network_without_batch_norm_has_no_shift(small: Path) -> None:
    found, indices, _ = _extract(build("test_vit", classes=4, weights="none", img_size=32), small)
    assert found.shift is None
    assert found.features.shape[0] == len(indices)


def test_images_can_be_flipped(small: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ZOO_CACHE", str(tmp_path / "cache"))
    model = build("zoo_tiny", classes=4)
    found, _, images = _extract(model, small)
    flipped, _, _ = _extract(model, small, flipped=True)
    expected = _expected(model.module, "fc", images.flip(3))
    np.testing.assert_allclose(flipped.features, expected.numpy(), atol=1e-4)
    assert flipped.shift is None
    again, _, _ = _extract(model, small)  # their cache entries are separate
    np.testing.assert_array_equal(again.features, found.features)
