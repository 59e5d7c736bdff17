"""Classifier heads: auxiliary heads, and the initialisation of a new head."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import nn

from zoo.errors import ModelError

HEADS = ("linear", "multi-depth")
HEAD_INITS = ("default", "zero")


@dataclass(frozen=True)
class AuxiliaryHeads:
    """Classifiers at intermediate layers, used in training only. heads: module paths, in the order of their logits.
    weight: weight of their losses. side: minimum image size in pixels; for smaller images they are left out.
    """

    heads: tuple[str, ...]
    weight: float
    side: int = 1


# By (library, architecture). Weight of GoogLeNet: Szegedy et al. 2015 (arXiv 1409.4842), section 5, "weighted by 0.3".
# Inception v3: not in Szegedy et al. 2016 (arXiv 1512.00567); 0.4 is in its authors' training script
# (tensorflow/models, research/slim/train_image_classifier.py). Its auxiliary head pools 5 x 5 with stride 3 and then
# convolves 5 x 5, which needs a feature map of 17 x 17: images of 299 pixels.
AUXILIARY_HEADS = {
    ("torchvision", "googlenet"): AuxiliaryHeads(("aux2", "aux1"), 0.3),
    ("torchvision", "inception_v3"): AuxiliaryHeads(("AuxLogits",), 0.4, side=299),
    ("timm", "inception_v3"): AuxiliaryHeads(("AuxLogits",), 0.4, side=299),
}


def attach_auxiliary_heads(module: nn.Module, auxiliary: AuxiliaryHeads) -> None:
    """Make `module` return `(logits, [auxiliary logits, …])` in training mode and logits in evaluation mode.

    A frozen auxiliary head (in evaluation mode while the module trains) returns nothing.
    """
    module.register_forward_pre_hook(partial(_pre_hook, auxiliary.heads))
    module.register_forward_hook(partial(_post_hook, auxiliary.heads))


def _pre_hook(heads: Sequence[str], module: nn.Module, _: Any) -> None:
    # timm also runs them in evaluation mode.
    running = module.training and any(module.get_submodule(head).training for head in heads)
    module.aux_logits = running  # type: ignore[assignment]  # torch's stubs know of parameters and modules only


def _post_hook(heads: Sequence[str], module: nn.Module, _: Any, output: Any) -> Any:
    if not isinstance(output, tuple):
        return output
    logits, *others = output
    return logits, [o for head, o in zip(heads, others, strict=True) if module.get_submodule(head).training]


def output_layers(module: nn.Module, head: Sequence[str], classes: int) -> Iterator[str]:
    """Paths of the layers inside `head` whose outputs are the logits."""
    for path in head:
        for inner, part in module.get_submodule(path).named_modules(prefix=path):
            outputs = part.out_channels if isinstance(part, nn.Conv2d) else getattr(part, "out_features", None)
            if isinstance(part, nn.Linear | nn.Conv2d) and outputs == classes:
                yield inner


def zero_init_head(module: nn.Module, head: Sequence[str], classes: int, loaded: Collection[str]) -> None:
    """Set weights and biases of the output layers to zero, except those in `loaded`.

    Hidden layers and norm layers of the head are not changed: zeros there would block all gradients.
    Raises ModelError if there is no output layer.
    """
    layers = list(output_layers(module, head, classes))
    if not layers:
        raise ModelError("the model has no classifier to initialise with zeros", "leave out --head-init")
    for path in layers:
        for name, parameter in module.get_submodule(path).named_parameters(prefix=path):
            if name not in loaded:
                with torch.no_grad():
                    parameter.zero_()
