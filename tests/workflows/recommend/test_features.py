"""What a model sees: the features that its head would be given, and the moments of its batch norms."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from zoo.data import data_config, make_loader, open_data
from zoo.models import Model, build
from zoo.training.inference import Normalize
from zoo.workflows.recommend.features import extract_features


def _look(model: Model, folder: Path, **options: object) -> tuple[object, np.ndarray, torch.Tensor]:
    data = open_data(data_config(str(folder)), seed=0)
    indices = np.arange(len(data.train))[::2]
    found = extract_features(
        model, data.train, indices, model.preprocess.with_size(32, 32), device=torch.device("cpu"), amp_dtype=None,
        workers=0, random=bool(options.get("random", False)), data="small",
        mirrored=bool(options.get("mirrored", False)), measure_shift=not options.get("mirrored", False),
    )  # fmt: skip
    loader = make_loader(
        data.train, preprocess=model.preprocess.with_size(32, 32), batch_size=64, train=False, augment=None, seed=0,
        workers=0, only=indices,
    )  # fmt: skip
    images = torch.cat([batch for batch, _ in loader])
    return found, indices, Normalize(model.preprocess)(images)


def _expected(module: nn.Module, head: str, images: torch.Tensor) -> torch.Tensor:
    met: list[torch.Tensor] = []
    hook = module.get_submodule(head).register_forward_pre_hook(lambda _, args: met.append(args[0]))
    module.eval()
    with torch.no_grad():
        module(images)
    hook.remove()
    return met[0].flatten(1)


def test_features_are_what_the_head_is_given_and_are_found_again(
    small: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ZOO_CACHE", str(tmp_path / "cache"))
    model = build("zoo_tiny", classes=4)
    found, _, images = _look(model, small)
    expected = _expected(model.module, "fc", images)
    np.testing.assert_allclose(found.features, expected.numpy(), atol=1e-4)  # type: ignore[attr-defined]
    assert found.computed == len(expected)  # type: ignore[attr-defined]
    again, _, _ = _look(build("zoo_tiny", classes=4), small)
    assert again.computed == 0  # type: ignore[attr-defined]
    np.testing.assert_array_equal(again.features, found.features)  # type: ignore[attr-defined]
    assert again.shift.value == pytest.approx(found.shift.value, rel=1e-3)  # type: ignore[attr-defined]


def test_the_shift_is_that_of_the_definition(small: Path) -> None:
    model = build("zoo_tiny", classes=4)
    found, _, images = _look(model, small)
    module = model.module.eval()
    met: dict[str, torch.Tensor] = {}
    for name, part in module.named_modules():
        if isinstance(part, nn.modules.batchnorm._BatchNorm):
            part.register_forward_pre_hook(lambda _, args, name=name: met.update({name: args[0]}))
    with torch.no_grad():
        module(images)
    values = []
    for name, given in met.items():
        layer = module.get_submodule(name)
        variance, mean = torch.var_mean(given.double(), dim=(0, 2, 3), correction=0)
        kept = layer.running_var.double() + layer.eps  # type: ignore[union-attr, operator]
        ours = variance + layer.eps  # type: ignore[operator]
        away = (mean - layer.running_mean.double()) ** 2  # type: ignore[union-attr, operator]
        values.append((0.5 * ((kept / ours).log() + (ours + away) / kept - 1)).median().item())
    # Medians of an even number of channels differ by the convention.
    assert found.shift.value == pytest.approx(np.mean(values), rel=0.05)  # type: ignore[attr-defined]


def test_a_random_network_has_statistics_of_these_images(small: Path) -> None:
    torch.manual_seed(0)
    model = build("zoo_tiny", classes=4, weights="none")
    found, _, _ = _look(model, small, random=True)
    assert found.shift is None  # type: ignore[attr-defined]
    norm = next(p for p in model.module.modules() if isinstance(p, nn.BatchNorm2d))
    assert norm.running_mean is not None
    assert float(norm.running_mean.abs().max()) > 0
    assert np.isfinite(found.features).all()  # type: ignore[attr-defined]


def test_a_network_without_batch_norm_has_no_shift(small: Path) -> None:
    found, indices, _ = _look(build("test_vit", classes=4, weights="none", img_size=32), small)
    assert found.shift is None  # type: ignore[attr-defined]
    assert found.features.shape[0] == len(indices)  # type: ignore[attr-defined]


def test_mirrored_images_are_seen_mirrored(small: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ZOO_CACHE", str(tmp_path / "cache"))
    model = build("zoo_tiny", classes=4)
    found, _, images = _look(model, small)
    mirrored, _, _ = _look(model, small, mirrored=True)
    expected = _expected(model.module, "fc", images.flip(3))
    np.testing.assert_allclose(mirrored.features, expected.numpy(), atol=1e-4)  # type: ignore[attr-defined]
    assert mirrored.shift is None  # type: ignore[attr-defined]
    again, _, _ = _look(model, small)  # the one is not taken for the other
    np.testing.assert_array_equal(again.features, found.features)  # type: ignore[attr-defined]
