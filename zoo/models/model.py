"""`Model` and `Group`: a module with its parameter groups and the origin of its weights."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from torch import nn

from zoo.models.report import NO_WEIGHTS, WeightsReport
from zoo.preprocess import Preprocess

__all__ = ["NO_WEIGHTS", "Group", "Model", "WeightsReport"]


@dataclass(frozen=True)
class Group:
    """A group of a model's parameters: `stem`, `stage1` … `stageK` or `head`.

    Groups are in the order of the forward pass, and every parameter and buffer is in exactly one of them.

    Args:
        name: Name of the group.
        modules: Paths of the largest modules that are completely in the group, including modules without tensors.
        parameters: Full names of its parameters, in the order of definition.
        buffers: Full names of its buffers, in the order of definition.
    """

    name: str
    modules: tuple[str, ...]
    parameters: tuple[str, ...]
    buffers: tuple[str, ...]


@dataclass(frozen=True)
class Model:
    """A module with everything that training and inference need to know about it.

    Args:
        module: Module in float32 and training mode, on the CPU (on the meta device from `build_on_meta`). It maps
            images (N, C, H, W), normalised with `preprocess.mean` and `.std`, to logits (N, classes).
        name: Name in the catalog.
        source: "timm", "torchvision" or "builtin".
        architecture: Name of the library's constructor.
        args: Its keyword arguments, JSON-serialisable; with `preprocess.channels` they rebuild the structure.
        classes: Number of logits; 0 without a classifier: the module then returns features (N, D).
        preprocess: Input size, normalisation and resizing.
        groups: Parameter groups, stem first, head last.
        head: Module paths of the classifier; several if it has several (distilled models).
        pretrained_cfg: Description of the pretrained weights, in the format of timm's default_cfg.
        weights: What was loaded.
        auxiliary: Weight of the losses of auxiliary heads; the module then returns `(logits, [auxiliary logits, …])` in
            training mode. None without auxiliary heads.
    """

    module: nn.Module
    name: str
    source: str
    architecture: str
    args: dict[str, Any]
    classes: int
    preprocess: Preprocess
    groups: tuple[Group, ...]
    head: tuple[str, ...]
    pretrained_cfg: dict[str, Any]
    weights: WeightsReport = field(default=NO_WEIGHTS)
    auxiliary: float | None = None
