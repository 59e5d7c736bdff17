"""Classifiers: auxiliary outputs, and how the new classifier starts."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import nn

from zoo.errors import ModelError

__all__ = [
    "AUXILIARY_HEADS",
    "HEAD_INITS",
    "AuxiliaryHeads",
    "attach_auxiliary_heads",
    "output_layers",
    "zero_init_head",
]

HEAD_INITS = ("default", "zero")


@dataclass(frozen=True)
class AuxiliaryHeads:
    """Classifiers in the middle of a model that only training has.

    heads: their paths, in the order in which the module gives their logits after the main ones. weight: of their losses
    beside the main one. side: pixels below which their convolutions find no room; a smaller model is built without.
    """

    heads: tuple[str, ...]
    weight: float
    side: int = 1


# By (library, architecture). GoogLeNet's weight: Szegedy et al. 2015 (1409.4842), section 5, "weighted by 0.3".
# Inception v3's: Szegedy et al. 2016 (1512.00567) do not state it; 0.4 is in its authors' training script
# (tensorflow/models, research/slim/train_image_classifier.py). Its head pools 5 x 5 with stride 3 and then convolves
# 5 x 5, which takes a map of 17 x 17: that of images of 299 pixels, and of no smaller ones.
AUXILIARY_HEADS = {
    ("torchvision", "googlenet"): AuxiliaryHeads(("aux2", "aux1"), 0.3),
    ("torchvision", "inception_v3"): AuxiliaryHeads(("AuxLogits",), 0.4, side=299),
    ("timm", "inception_v3"): AuxiliaryHeads(("AuxLogits",), 0.4, side=299),
}


def attach_auxiliary_heads(module: nn.Module, auxiliary: AuxiliaryHeads) -> None:
    """Have `module` give `(logits, [auxiliary logits, …])` in training mode and plain logits in evaluation mode.

    A head that is frozen (in evaluation mode while the module trains) gives nothing, as it has nothing to learn; if all
    are, training gives plain logits too.
    """
    module.register_forward_pre_hook(partial(_pre_hook, auxiliary.heads))
    module.register_forward_hook(partial(_post_hook, auxiliary.heads))


def _pre_hook(heads: Sequence[str], module: nn.Module, _: Any) -> None:
    # timm's module would run them in evaluation too.
    running = module.training and any(module.get_submodule(head).training for head in heads)
    module.aux_logits = running  # type: ignore[assignment]  # torch's stubs know of parameters and modules only


def _post_hook(heads: Sequence[str], module: nn.Module, _: Any, output: Any) -> Any:
    if not isinstance(output, tuple):
        return output
    logits, *others = output
    return logits, [o for head, o in zip(heads, others, strict=True) if module.get_submodule(head).training]


def output_layers(module: nn.Module, head: Sequence[str], classes: int) -> Iterator[str]:
    """Paths of the layers inside `head` that give the logits."""
    for path in head:
        for inner, part in module.get_submodule(path).named_modules(prefix=path):
            outputs = part.out_channels if isinstance(part, nn.Conv2d) else getattr(part, "out_features", None)
            if isinstance(part, nn.Linear | nn.Conv2d) and outputs == classes:
                yield inner


def zero_init_head(module: nn.Module, head: Sequence[str], classes: int, loaded: Collection[str]) -> None:
    """Set weights and biases of the classifier to zero, unless they are among the tensors that were `loaded`.

    Only of the layers that give the logits: zero in a norm or a hidden layer before them would stop all learning.
    Raises ModelError if there is no such layer.
    """
    layers = list(output_layers(module, head, classes))
    if not layers:
        raise ModelError("no classifier that could start at zero", "leave out --head-init")
    for path in layers:
        for name, parameter in module.get_submodule(path).named_parameters(prefix=path):
            if name not in loaded:
                with torch.no_grad():
                    parameter.zero_()
