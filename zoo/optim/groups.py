"""Parameter groups: which rate and which weight decay each learning parameter gets."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from torch import nn
from torch.optim import Optimizer

from zoo.components import check_params, resolve
from zoo.errors import UsageError
from zoo.optim import OPTIMIZERS

__all__ = ["NO_DECAY", "make_optimizer", "parameter_groups"]

NO_DECAY = ", no decay"  # behind the stage's name


def parameter_groups(
    module: nn.Module,
    stages: Sequence[tuple[str, Sequence[str]]],
    *,
    lr: float,
    head_lr: float | None = None,
    layer_decay: float | None = None,
    weight_decay: float = 0.0,
) -> list[dict[str, Any]]:
    """Groups for a torch optimizer, from the parameters of `module` that require a gradient.

    stages: (name, parameter names) from stem to head. The head learns at `head_lr` (or `lr`); each stage before it at
    `lr`, times layer_decay^d where d is its distance from the head (BEiT, Bao et al. 2022, appendix; the last
    stage has d = 1 there and here). Biases, vectors (normalisation, layer scale) and what the architecture itself
    names in `no_weight_decay()` are not decayed (the convention of timm and DeiT).
    """
    named = {n: p for n, p in module.named_parameters() if p.requires_grad}
    without_decay = getattr(module, "no_weight_decay", None)
    exempt = set(without_decay()) if callable(without_decay) else set()
    groups: list[dict[str, Any]] = []
    last = len(stages) - 1
    for depth, (name, parameters) in enumerate(stages):
        rate = head_lr if depth == last and head_lr is not None else lr * (layer_decay or 1.0) ** (last - depth)
        decayed: list[nn.Parameter] = []
        plain: list[nn.Parameter] = []
        for parameter_name in parameters:
            parameter = named.get(parameter_name)
            if parameter is None:
                continue
            bare = parameter.ndim <= 1 or parameter_name.endswith(".bias") or parameter_name in exempt
            (plain if bare else decayed).append(parameter)
        for members, decay, suffix in ((decayed, weight_decay, ""), (plain, 0.0, NO_DECAY)):
            if members:
                groups.append({"params": members, "lr": rate, "weight_decay": decay, "name": name + suffix})
    return groups


def make_optimizer(name: str, groups: list[dict[str, Any]], params: Mapping[str, Any]) -> Optimizer:
    """The optimizer `name` (a table's, or module:attribute) over `groups`, each with its own lr and weight decay.

    Raises UsageError if it cannot be built.
    """
    factory = resolve(name, OPTIMIZERS, "optimizer")
    entry = OPTIMIZERS.get(name)
    defaults = dict(entry.defaults) if entry is not None else {}
    if check_params(factory, {"weight_decay": 0.0}, given=("params", "lr"), label=""):
        if any(g["weight_decay"] for g in groups):
            raise UsageError(f"optimizer {name!r} takes no weight_decay", "set optimizer.weight_decay=0")
        groups = [{k: v for k, v in g.items() if k != "weight_decay"} for g in groups]
    try:
        optimizer: Optimizer = factory(groups, lr=max(g["lr"] for g in groups), **{**defaults, **params})
    except (TypeError, ValueError) as e:
        raise UsageError(f"optimizer {name!r} cannot be built: {e}", "correct optimizer.params") from e
    return optimizer
