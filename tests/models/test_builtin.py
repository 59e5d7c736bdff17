"""The built-in backbone: the file is what the table says, and it transfers."""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import safetensors.torch
import timm
import torch
from sklearn.datasets import load_digits
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler

from zoo.models.builtin import BUILTIN, weights_path

sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks" / "zoo_tiny"))
from pretrain import PretrainConfig, pretrain, save
from strokes import IMAGE_SIZE, make_classes, render

MAX_BYTES = 2_000_000
NAMES = sorted(BUILTIN)


def _model(name: str, pretrained: bool, num_classes: int = 0) -> torch.nn.Module:
    spec = BUILTIN[name]
    torch.manual_seed(0)
    model = timm.create_model(spec.architecture, num_classes=num_classes, **spec.model_args)
    if pretrained:
        missing, unexpected = model.load_state_dict(
            safetensors.torch.load_file(weights_path(name)), strict=num_classes == 0
        )
        assert not unexpected
        assert all(key.startswith(spec.pretrained_cfg["classifier"] + ".") for key in missing)
    return model.eval()


def test_table_is_read_without_torch() -> None:
    code = "import sys, zoo.models.builtin; print([m for m in ('torch', 'timm', 'numpy') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize("name", NAMES)
def test_file_is_the_recorded_one(name: str) -> None:
    content = weights_path(name).read_bytes()
    assert len(content) <= MAX_BYTES
    assert hashlib.sha256(content).hexdigest() == BUILTIN[name].sha256
    assert all(value.isfinite().all() for value in safetensors.torch.load(content).values())


@pytest.mark.parametrize("name", NAMES)
def test_model_args_survive_json(name: str) -> None:
    args = BUILTIN[name].model_args
    assert json.loads(json.dumps(args)) == args


@pytest.mark.parametrize("name", NAMES)
def test_loads_into_plain_timm(name: str) -> None:
    spec = BUILTIN[name]
    model = _model(name, pretrained=True)  # strict
    assert sum(p.numel() for p in model.parameters()) == spec.params
    assert model.get_parameter(spec.pretrained_cfg["first_conv"] + ".weight").shape[1] == 3
    with_head = _model(name, pretrained=True, num_classes=7)
    size = spec.pretrained_cfg["input_size"]
    assert with_head(torch.zeros(2, *size)).shape == (2, 7)


@pytest.mark.parametrize("name", NAMES)
def test_macs_are_as_recorded(name: str) -> None:
    total = 0

    def count(module: torch.nn.Module, _: object, output: torch.Tensor) -> None:
        nonlocal total
        assert isinstance(module, torch.nn.Conv2d)
        total += output.numel() * module.weight[0].numel()

    model = _model(name, pretrained=False)
    for module in model.modules():
        if isinstance(module, torch.nn.Conv2d):
            module.register_forward_hook(count)
    model(torch.zeros(1, *BUILTIN[name].pretrained_cfg["input_size"]))
    assert total == BUILTIN[name].macs


def test_strokes_are_a_function_of_the_seed() -> None:
    labels = torch.arange(16) % 5

    def draw(class_seed: int, image_seed: int) -> torch.Tensor:
        return render(make_classes(5, class_seed), labels, torch.Generator().manual_seed(image_seed))

    first = draw(0, 0)
    assert first.shape == (16, 3, IMAGE_SIZE, IMAGE_SIZE)
    assert first.min() >= 0
    assert first.max() <= 1
    assert torch.equal(first, draw(0, 0))
    assert not torch.equal(first, draw(0, 1))
    assert not torch.equal(first, draw(1, 0))


def test_strokes_leave_the_global_generator_alone() -> None:
    state = torch.get_rng_state()
    render(make_classes(3, 0), torch.arange(3), torch.Generator().manual_seed(0))
    assert torch.equal(state, torch.get_rng_state())


def test_pretraining_is_rerunnable(tmp_path) -> None:
    config = PretrainConfig(seed=3, classes=4, steps=2, batch_size=8)
    for file in ("a", "b"):
        save(pretrain("zoo_tiny", config), "zoo_tiny", config, tmp_path / file)
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a", "b"]


def _few_shot(features: np.ndarray, labels: np.ndarray, seed: int) -> float:
    """Accuracy of logistic regression with 10 images per class; in full: benchmarks/builtin_transfer.py."""
    rng = np.random.default_rng(seed)
    train = np.concatenate([rng.permutation(np.flatnonzero(labels == c))[:10] for c in range(10)])
    test = np.setdiff1d(np.arange(len(labels)), train)
    scaler = StandardScaler().fit(features[train])
    head = LogisticRegression(C=0.1, max_iter=1000).fit(scaler.transform(features[train]), labels[train])
    return float(head.score(scaler.transform(features[test]), labels[test]))


def test_zoo_tiny_transfers_to_digits() -> None:
    digits = load_digits()
    images = torch.from_numpy(digits.images).float()[:, None] / 16
    images = torch.nn.functional.interpolate(images, size=(32, 32), mode="bilinear").expand(-1, 3, -1, -1)
    images = (images - 0.5) / 0.5

    def accuracy(pretrained: bool) -> float:
        with torch.inference_mode():
            features = _model("zoo_tiny", pretrained)(images).numpy()
        return float(np.mean([_few_shot(features, digits.target, seed) for seed in range(2)]))

    tuned, random = accuracy(True), accuracy(False)
    assert tuned >= 0.93
    assert random < tuned - 0.1
