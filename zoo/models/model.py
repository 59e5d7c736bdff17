"""The values that the models room hands out: a model, its groups, and where its weights came from."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from torch import nn

from zoo.models.report import NO_WEIGHTS, WeightsReport
from zoo.preprocess import Preprocess

__all__ = ["NO_WEIGHTS", "Group", "Model", "WeightsReport"]


@dataclass(frozen=True)
class Group:
    """One step of a model's ordered partition: `stem`, `stage1` … `stageK`, `head`.

    modules: paths of the largest modules that lie wholly inside the group, those without tensors (dropout, pooling)
    included. parameters, buffers: full names; every one of the model's is in exactly one group. Groups follow each
    other in the order in which the forward pass meets them; inside a group names keep the order of definition.
    """

    name: str
    modules: tuple[str, ...]
    parameters: tuple[str, ...]
    buffers: tuple[str, ...]


@dataclass(frozen=True)
class Model:
    """A module and everything that the other rooms need to know about it.

    module: fp32, on the CPU (on the meta device if it came from `skeleton`), in training mode; images (N, C, H, W),
    normalised with `preprocess.mean` and `.std`, give logits (N, classes), in evaluation too.
    source: "timm" | "torchvision" | "builtin". architecture: the library's entry point. args: its keyword arguments,
    JSON-able; with `preprocess.channels` they rebuild the structure. classes: number of logits; 0 if the published
    weights have no head and none was asked for, then the module gives features (N, D). head: module paths of the
    classifier; several if it has several (distilled). pretrained_cfg: a description in the manner of timm's
    default_cfg, of the weights it started from. auxiliary: weight of the losses of auxiliary heads, which belong to the
    stages that they branch from; the module then gives `(logits, [auxiliary logits, …])` in training mode. None: it has
    none.
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
