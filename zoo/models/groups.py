"""Partition a model's tensors into ordered groups: stem, stage1 … stageK, head.

timm's models define their stages (`group_matcher(coarse=True)`); for torchvision's the rules are here in the same
notation; a model without a rule is split along its children. Tensors that no rule matches come after the last stage in
both libraries: norms before the classifier join the last stage, layers with matrices or kernels become another stage.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from torch import Tensor, nn

from zoo.models.load_weights import is_under
from zoo.models.model import Group

# timm's notation: {key: regex | [(regex, ordinal suffix), …]}, keys in forward order; captured numbers order the stages
# of a key, the suffix (99999,) means "with the previous stage".
Matcher = dict[str, Any] | Callable[[str], Any]


def _numbered(*patterns: str) -> list[tuple[str, tuple[int, ...]]]:
    return [(pattern, (i,)) for i, pattern in enumerate(patterns)]


_WITH_PREVIOUS = 99999

# For both libraries. An auxiliary head belongs to the stage where it branches off.
_INCEPTION: Matcher = {
    "stem": r"^Conv2d_[12]",
    "stages": _numbered(
        r"^Conv2d_[34]",
        *(rf"^Mixed_{n}\." for n in ["5b", "5c", "5d", "6a", "6b", "6c", "6d"]),
        r"^(?:Mixed_6e|AuxLogits)\.",
        *(rf"^Mixed_{n}\." for n in ["7a", "7b", "7c"]),
    ),
}

# By class name: classes of timm whose own rule is not in forward order or has no stages.
_TIMM: dict[str, Matcher] = {
    # its own rule mixes the class-attention blocks with the blocks before them
    "Cait": {
        "stem": r"^cls_token|pos_embed|patch_embed",
        "blocks": r"^blocks\.(\d+)",
        "class_blocks": [(r"^blocks_token_only\.(\d+)", None), (r"^norm", (99999,))],
    },
    # every stage has its own norm and classifier
    "EfficientViM": {"stem": r"^patch_embed", "stages": r"^(?:stages|norm)\.(\d+)"},
    "EfficientViMDistilled": {"stem": r"^patch_embed", "stages": r"^(?:stages|norm)\.(\d+)"},
    "InceptionV3": _INCEPTION,
    "RDNet": {"stem": r"^stem", "stages": r"^dense_stages\.(\d+)"},
}

_FEATURES: Matcher = {"stem": r"^features\.0\.", "stages": r"^features\.(\d+)\."}
# A patch merging or downsampling layer is the first of its stage.
_PAIRED: Matcher = {
    "stem": r"^features\.0\.",
    "stages": _numbered(r"^features\.1\.", r"^features\.[23]\.", r"^features\.[45]\.", r"^features\.[67]\."),
}

_TORCHVISION: dict[str, Matcher] = {
    "AlexNet": _FEATURES,
    "ConvNeXt": _PAIRED,
    "DenseNet": {"stem": r"^features\.(?:conv|norm)0", "stages": r"^features\.(?:denseblock|transition)(\d+)"},
    "EfficientNet": _FEATURES,
    "GoogLeNet": {
        "stem": r"^conv1\.",
        "stages": _numbered(
            r"^conv[23]\.",
            *(rf"^inception{n}\." for n in ["3a", "3b"]),
            r"^(?:inception4a|aux1)\.",
            *(rf"^inception{n}\." for n in ["4b", "4c"]),
            r"^(?:inception4d|aux2)\.",
            *(rf"^inception{n}\." for n in ["4e", "5a", "5b"]),
        ),
    },
    "Inception3": _INCEPTION,
    "MNASNet": {"stem": r"^layers\.[0-7]\.", "stages": r"^layers\.(\d+)\."},
    "MaxVit": {"stem": r"^stem\.", "stages": r"^blocks\.(\d+)\."},
    "MobileNetV2": _FEATURES,
    "MobileNetV3": _FEATURES,
    "RegNet": {"stem": r"^stem\.", "stages": r"^trunk_output\.block(\d+)\."},
    "ResNet": {"stem": r"^conv1\.|bn1\.", "stages": r"^layer(\d+)\."},
    "ShuffleNetV2": {"stem": r"^conv1\.", "stages": r"^stage(\d+)\."},
    "SqueezeNet": _FEATURES,
    "SwinTransformer": _PAIRED,
    "VGG": _FEATURES,
    "VisionTransformer": {
        "stem": r"^class_token|conv_proj\.|encoder\.pos_embedding",
        "stages": r"^encoder\.layers\.encoder_layer_(\d+)\.",
    },
}


def partition(module: nn.Module, head: Sequence[str], source: str) -> tuple[Group, ...]:
    """Partition the tensors of a model; the first group is "stem", the last "head" (empty without a classifier).

    head: module paths of the classifier.
    """
    tensors = dict(_tensors(module))
    stages = _stages(module, list(tensors), head, source)
    names = ["stem", *(f"stage{i}" for i in range(1, len(stages)))]
    group_of_tensor = {tensor: name for name, stage in zip(names, stages, strict=True) for tensor in stage}
    group_of_tensor |= {tensor: "head" for tensor in tensors if is_under(tensor, head)}
    modules = _modules(module, group_of_tensor)
    parameters = {name for name, _ in module.named_parameters()}
    return tuple(
        Group(
            name=name,
            modules=tuple(path for path, group in modules.items() if group == name),
            parameters=tuple(t for t in tensors if group_of_tensor[t] == name and t in parameters),
            buffers=tuple(t for t in tensors if group_of_tensor[t] == name and t not in parameters),
        )
        for name in (*names, "head")
    )


def _tensors(module: nn.Module) -> Iterator[tuple[str, Tensor]]:
    """All parameters and buffers in the order of definition; shared ones once."""
    seen: set[int] = set()
    for path, part in module.named_modules():
        for tensors in (part.named_parameters(path, recurse=False), part.named_buffers(path, recurse=False)):
            for name, tensor in tensors:
                if id(tensor) not in seen:
                    seen.add(id(tensor))
                    yield name, tensor


def _stages(module: nn.Module, tensors: list[str], head: Sequence[str], source: str) -> list[list[str]]:
    """The backbone's tensors by stage, stem first."""
    backbone = [t for t in tensors if not is_under(t, head)]
    matcher = _matcher(module, source)
    stages, rest = _by_matcher(backbone, matcher) if matcher is not None else _by_children(module, backbone, head)
    if not stages:
        return [rest]
    matrices = {name for name, parameter in module.named_parameters() if parameter.ndim > 1}
    merged = [stages[0]]
    for stage in [*stages[1:], rest]:
        # A stage of vectors (a separate norm) or buffers (rotary tables) joins the previous one.
        if not matrices.isdisjoint(stage):
            merged.append(stage)
        else:
            merged[-1] = merged[-1] + stage
    return merged


def _matcher(module: nn.Module, source: str) -> Matcher | None:
    name = type(module).__name__
    if source == "torchvision":
        return _TORCHVISION.get(name)
    if name in _TIMM:
        return _TIMM[name]
    own = getattr(module, "group_matcher", None)
    if own is None:
        return None
    try:
        matcher: Matcher = own(coarse=True)
    except (AssertionError, NotImplementedError):  # the model has no rule for stages
        return None
    return matcher


def _by_matcher(backbone: list[str], matcher: Matcher) -> tuple[list[list[str]], list[str]]:
    """Stages in the matcher's order, and the unmatched tensors."""
    # The ordinal of a name that no rule matches.
    unmatched = _ordinal("\0", matcher)
    matched: dict[tuple[float, ...], list[str]] = {}
    rest: list[str] = []
    for tensor in backbone:
        ordinal = _ordinal(tensor, matcher)
        if ordinal == unmatched:
            rest.append(tensor)
        else:
            matched.setdefault(ordinal, []).append(tensor)
    stages: list[list[str]] = []
    for ordinal in sorted(matched):
        if stages and ordinal[-1] == _WITH_PREVIOUS:
            stages[-1] += matched[ordinal]
        else:
            stages.append(matched[ordinal])
    return stages, rest


def _ordinal(name: str, matcher: Matcher) -> tuple[float, ...]:
    """The ordinal of `name`, as in timm's `group_with_matcher`; infinity if nothing matches."""
    if callable(matcher):
        found = matcher(name)
        return tuple(found) if isinstance(found, tuple | list) else (found,)
    for key, rules in enumerate(matcher.values()):
        for pattern, suffix in [(rules, None)] if isinstance(rules, str) else rules or ():
            if match := re.match(pattern, name):
                numbers = (float(n) for n in match.groups() if n is not None)
                return (float(key), *numbers, *(suffix or ()))
    return (float("inf"),)


def _by_children(module: nn.Module, backbone: list[str], head: Sequence[str]) -> tuple[list[list[str]], list[str]]:
    """The children of the largest container as stages; tensors defined before it are the stem."""
    containers = {
        name: sum(p.numel() for p in child.parameters())
        for name, child in module.named_children()
        if isinstance(child, nn.Sequential | nn.ModuleList) and len(child) > 1 and not is_under(name, head)
    }
    largest = max(containers, key=lambda name: containers[name], default=None)
    stages: list[list[str]] = [[]]
    rest: list[str] = []
    seen = ""
    for tensor in backbone:
        parts = tensor.split(".")
        if largest is None:  # every child with tensors is a stage
            unit = parts[0] if len(parts) > 1 else ""
            if unit != seen and stages[-1]:
                stages.append([])
            seen = unit
            stages[-1].append(tensor)
        elif parts[0] == largest:
            unit = parts[1]
            if unit != seen:
                stages.append([])
            seen = unit
            stages[-1].append(tensor)
        elif seen:
            rest.append(tensor)
        else:
            stages[0].append(tensor)
    return [stage for stage in stages if stage], rest


def _modules(root: nn.Module, group_of_tensor: dict[str, str]) -> dict[str, str]:
    """Path → group, for the largest modules that belong to one group."""
    # By identity: tensors of a shared module (position encodings of coat) are listed under one name only.
    group_of = {id(tensor): group_of_tensor[name] for name, tensor in _tensors(root)}
    found: dict[str, str] = {}

    def visit(path: str, module: nn.Module) -> None:
        before: str | None = None
        pending: list[str] = []  # modules without tensors
        for name, child in module.named_children():
            full = f"{path}.{name}" if path else name
            groups = [group_of[id(tensor)] for _, tensor in _tensors(child)]
            if not groups:
                pending.append(full)
                continue
            # A module without tensors joins the previous group, or the head if that is next.
            for empty in pending:
                found[empty] = groups[0] if before is None or groups[0] == "head" else before
            pending = []
            if len(set(groups)) == 1:
                found[full] = groups[0]
            else:
                visit(full, child)
            before = groups[-1]
        for empty in pending:
            found[empty] = before if before is not None else "head"

    visit("", root)
    return found
