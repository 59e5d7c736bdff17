"""Backbones whose weights are in the package, for use without a download.

Each is a timm architecture with JSON-serialisable arguments: an exported model loads with timm only. This module
imports neither torch nor timm.

    spec = BUILTIN["zoo_tiny"]
    model = timm.create_model(spec.architecture, num_classes=10, **spec.model_args)
    state = safetensors.torch.load_file(weights_path("zoo_tiny"))     # float16, without the classifier
    model.load_state_dict(state, strict=False)                        # missing: fc.weight, fc.bias
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class BuiltinModel:
    """One built-in backbone.

    name:           model name.
    architecture:   timm architecture.
    model_args:     keyword arguments of the architecture; JSON-serialisable.
    description:    one line for listings.
    weights_file:   file next to this module; safetensors, float16, no classifier.
    sha256:         hex digest of that file.
    pretrained_cfg: description in the format of timm's default_cfg (input_size is (C, H, W), pixels).
    params:         trainable parameters without the classifier.
    macs:           multiply-accumulates of one forward pass without the classifier, batch 1, at input_size.
    """

    name: str
    architecture: str
    model_args: dict[str, Any]
    description: str
    weights_file: str
    sha256: str
    pretrained_cfg: dict[str, Any]
    params: int
    macs: int


_ZOO_TINY = BuiltinModel(
    name="zoo_tiny",
    architecture="resnet10t",
    model_args={"layers": [1, 1, 1, 1], "stem_width": 24, "channels": [48, 80, 128, 192]},
    description="small ResNet pretrained by this project on generated strokes; needs no download",
    weights_file="zoo_tiny.safetensors",
    sha256="da432f0c94bde111a2309d01e25d148a8e096d08e77646d97907aa368a988271",
    pretrained_cfg={
        "tag": "strokes",
        "num_classes": 0,
        "input_size": (3, 32, 32),
        "pool_size": (1, 1),
        "crop_pct": 1.0,
        "interpolation": "bilinear",
        "mean": (0.5, 0.5, 0.5),
        "std": (0.5, 0.5, 0.5),
        "first_conv": "conv1.0",
        "classifier": "fc",
        "license": "apache-2.0",
    },
    params=982_378,
    macs=9_541_120,
)

BUILTIN: dict[str, BuiltinModel] = {model.name: model for model in (_ZOO_TINY,)}
"""Every built-in backbone by name."""


def weights_path(name: str) -> Path:
    """The weights file of built-in model `name`. Raises `KeyError` if there is no such model."""
    return Path(__file__).parent / BUILTIN[name].weights_file
