"""The values that the models room hands out: a model, its groups, and where its weights came from."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from torch import nn

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
class WeightsReport:
    """What was loaded, and how it fitted.

    source: "none", "hf-hub:owner/name/file", a URL, "builtin:name" or a path. revision: the hub's commit, where there
    is one. sha256: of the file. loaded: tensors of the model that were filled from it. adapted: one line for each that
    was changed to fit or replaced (head, stem, positions). missing: tensors of the model that kept their random values.
    unexpected: tensors of the file that the model has no place for.
    """

    source: str
    revision: str | None = None
    sha256: str | None = None
    loaded: int = 0
    adapted: tuple[str, ...] = ()
    missing: tuple[str, ...] = ()
    unexpected: tuple[str, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        return {
            "source": self.source,
            "revision": self.revision,
            "sha256": self.sha256,
            "loaded": self.loaded,
            "adapted": list(self.adapted),
            "missing": list(self.missing),
            "unexpected": list(self.unexpected),
        }

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> WeightsReport:
        return cls(
            source=str(values["source"]),
            revision=values.get("revision"),
            sha256=values.get("sha256"),
            loaded=int(values.get("loaded", 0)),
            adapted=tuple(values.get("adapted", ())),
            missing=tuple(values.get("missing", ())),
            unexpected=tuple(values.get("unexpected", ())),
        )


NO_WEIGHTS = WeightsReport("none")


@dataclass(frozen=True)
class Model:
    """A module and everything that the other rooms need to know about it.

    module: fp32, on the CPU (on the meta device if it came from `skeleton`), in training mode; images (N, C, H, W),
    normalised with `preprocess.mean` and `.std`, give logits (N, classes), in evaluation too.
    source: "timm" | "torchvision" | "builtin". architecture: the library's entry point. args: its keyword arguments,
    JSON-able; with `preprocess.channels` they rebuild the structure. classes: number of logits; 0 if the published
    weights have no head and none was asked for, then the module gives features (N, D). head: module paths of the
    classifier; several if it has several (distilled). pretrained_cfg: a description in the manner of timm's
    default_cfg, of the weights it started from.
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
