"""Freezing plans: text → frozen parameters.

    none                    all parameters are trainable
    backbone                only the head is trainable
    stem                    the stem is frozen
    3                       the first three groups are frozen (stem, stage1, stage2)
    50%                     the first half of the backbone's groups is frozen
    stage2 | layer2.0       everything up to and including that group or module, in forward order, is frozen
    layer1.*,layer2.*       parameters whose names match are frozen (* any text, ? one character, [ab] one of these)
    backbone,!*.bn*         items apply from left to right; ! unfreezes what it matches
    norm                    the backbone without its norm layers is frozen

Frozen means: no gradient, norm layers in evaluation mode (their statistics do not change), dropout and drop-path off.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase

from torch import nn

from zoo.errors import ModelError, did_you_mean, nearest
from zoo.models.model import Group

_SYNTAX = "a plan is none, backbone, norm, N or N% of the groups, a group or module, or globs, with ! to unfreeze"


@dataclass(frozen=True)
class GroupPlan:
    """One line of the printed plan: number of parameters of a group, and how many of them are trainable."""

    name: str
    modules: tuple[str, ...]
    parameters: int
    trainable: int


@dataclass(frozen=True)
class FreezePlan:
    """Which parameters of a model are frozen.

    Args:
        text: The plan as text.
        groups: Number of parameters per group, stem first, head last.
        frozen: Names of the frozen parameters.
        frozen_modules: Paths of the largest completely frozen modules, which stay in evaluation mode.
    """

    text: str
    groups: tuple[GroupPlan, ...]
    frozen: frozenset[str]
    frozen_modules: tuple[str, ...]

    @property
    def parameters(self) -> int:
        return sum(g.parameters for g in self.groups)

    @property
    def trainable(self) -> int:
        return sum(g.trainable for g in self.groups)

    def apply(self, module: nn.Module) -> None:
        """Set `requires_grad` of every parameter and delete the gradients of frozen ones."""
        for name, parameter in module.named_parameters():
            parameter.requires_grad_(name not in self.frozen)
            if name in self.frozen:
                parameter.grad = None


def set_train_mode(module: nn.Module, plan: FreezePlan) -> None:
    """Training mode, but evaluation mode for frozen modules. To be called at the start of every epoch."""
    module.train()
    for path in plan.frozen_modules:
        module.get_submodule(path).eval()


def resolve_plan(plan: str, groups: Sequence[Group], module: nn.Module) -> FreezePlan:
    """Resolve the text of a plan (see the grammar above).

    Args:
        plan: Text of the plan.
        groups: Groups of `module`, stem first, head last.
        module: The model.

    Raises:
        ModelError: A part of the plan matches nothing, or no parameter would be trainable.
    """
    return make_plan(plan, _frozen(plan, groups, module), groups, module)


def make_plan(text: str, frozen: Collection[str], groups: Sequence[Group], module: nn.Module) -> FreezePlan:
    """The plan that freezes given parameters.

    Args:
        text: Text of the plan.
        frozen: Names of parameters; names that `module` does not have are ignored.
        groups: Groups of `module`, stem first, head last.
        module: The model.

    Raises:
        ModelError: No parameter would be trainable.
    """
    sizes = {name: parameter.numel() for name, parameter in module.named_parameters()}
    frozen = frozenset(sizes.keys() & frozen)
    if len(frozen) == len(sizes):
        raise ModelError(f"freezing plan {text!r} leaves no trainable parameters", _describe_groups(groups))
    return FreezePlan(
        text=text,
        groups=tuple(
            GroupPlan(
                name=group.name,
                modules=group.modules,
                parameters=sum(sizes[p] for p in group.parameters),
                trainable=sum(sizes[p] for p in group.parameters if p not in frozen),
            )
            for group in groups
        ),
        frozen=frozen,
        frozen_modules=_frozen_modules(module, groups, frozen),
    )


def _frozen(plan: str, groups: Sequence[Group], module: nn.Module) -> frozenset[str]:
    frozen: set[str] = set()
    items = [item.strip() for item in plan.split(",")]
    for item in items:
        if item.startswith("!"):
            frozen -= _matching(item[1:].strip(), plan, groups, module)
        elif item != "none":
            frozen |= _matching(item, plan, groups, module)
        elif len(items) > 1:
            raise ModelError(f"freezing plan {plan!r}: none cannot be combined with other items", "leave it out")
    return frozenset(frozen)


def _matching(item: str, plan: str, groups: Sequence[Group], module: nn.Module) -> set[str]:
    """Parameters that one item of the plan matches. Raises ModelError if there are none."""
    backbone = groups[:-1]
    number = re.fullmatch(r"(\d+)(%?)", item)
    if number:
        found = _first_groups(int(number[1]), bool(number[2]), plan, groups)
    elif item == "backbone":
        found = _parameters(backbone)
    elif item == "norm":
        found = _parameters(backbone) - _norms(module)
    elif item in (names := [g.name for g in groups]):
        found = _parameters(groups[: names.index(item) + 1])
    elif any(char in item for char in "*?["):
        found = {p for g in groups for p in g.parameters if fnmatchcase(p, item)}
    else:
        found = _up_to(item, groups)
    if not found:
        close = nearest(item, _known_names(groups, module))
        raise ModelError(
            f"freezing plan {plan!r}: {item!r} matches nothing",
            did_you_mean(close, more=f"{_SYNTAX}; {_describe_groups(groups)}"),
        )
    return found


def _first_groups(number: int, percent: bool, plan: str, groups: Sequence[Group]) -> set[str]:
    backbone = len(groups) - 1
    count = int(backbone * number / 100 + 0.5) if percent else number
    if number == 0 or (percent and number > 100) or count > backbone:
        most = "100%" if percent else str(backbone)
        raise ModelError(
            f"freezing plan {plan!r}: give 1 to {most}, or none",
            f"there are {backbone} groups before the head: {', '.join(g.name for g in groups[:-1])}",
        )
    return _parameters(groups[:count])


def _up_to(name: str, groups: Sequence[Group]) -> set[str]:
    """All parameters up to the end of the module `name`; only the parameter itself if `name` is one."""
    ordered = [p for g in groups for p in g.parameters]
    if name in ordered:
        return {name}
    inside = [i for i, p in enumerate(ordered) if p.startswith(f"{name}.")]
    return set(ordered[: inside[-1] + 1]) if inside else set()


def _parameters(groups: Sequence[Group]) -> set[str]:
    return {p for g in groups for p in g.parameters}


def _norms(module: nn.Module) -> set[str]:
    """Parameters of normalisation layers, found by class name: torch, timm (LayerNorm2d, BatchNormAct2d, GroupNormAct)
    and torchvision have no common base class."""
    return {
        f"{path}.{name}"
        for path, submodule in module.named_modules()
        if re.search(r"norm|evonorm|frn", type(submodule).__name__, re.IGNORECASE)
        for name, _ in submodule.named_parameters(recurse=False)
    }


def _frozen_modules(module: nn.Module, groups: Sequence[Group], frozen: frozenset[str]) -> tuple[str, ...]:
    """The largest completely frozen modules, including modules without parameters that belong to a frozen group."""
    frozen_paths = {path for g in groups if g.parameters and frozen.issuperset(g.parameters) for path in g.modules}
    # By identity: the parameters of a shared module are listed under one name only.
    trainable = {id(parameter) for name, parameter in module.named_parameters() if name not in frozen}
    found: list[str] = []

    def visit(path: str, submodule: nn.Module) -> None:
        own = [id(parameter) for parameter in submodule.parameters()]
        if path in frozen_paths or (own and trainable.isdisjoint(own)):
            found.append(path)
            return
        for name, child in submodule.named_children():
            visit(f"{path}.{name}" if path else name, child)

    visit("", module)
    return tuple(found)


def _known_names(groups: Sequence[Group], module: nn.Module) -> list[str]:
    return [
        "none",
        "backbone",
        "norm",
        *(g.name for g in groups),
        *(path for path, _ in module.named_modules() if path),
    ]


def _describe_groups(groups: Sequence[Group]) -> str:
    return f"groups: {', '.join(g.name for g in groups)}; see zoo inspect MODEL"
