"""Parameter groups with their learning rates and weight decays, and the optimizer over them."""

from __future__ import annotations

import inspect
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any

from torch import nn
from torch.optim import Optimizer

from zoo.errors import RecipeError, UsageError, did_you_mean, nearest
from zoo.optim.optimizer_names import OPTIMIZERS, find_optimizer

NO_DECAY = ", no decay"  # after the stage's name


@dataclass(frozen=True)
class GroupOverride:
    """Settings for the parameters whose full names match one of the globs `match`; None: unchanged.

    lr: learning rate. lr_scale: learning-rate factor, instead of lr. weight_decay: also of biases and norms.
    """

    match: tuple[str, ...]
    lr: float | None = None
    lr_scale: float | None = None
    weight_decay: float | None = None


def parameter_groups(
    module: nn.Module,
    stages: Sequence[tuple[str, Sequence[str]]],
    *,
    lr: float,
    head_lr: float | None = None,
    layer_decay: float | None = None,
    weight_decay: float = 0.0,
    overrides: Sequence[GroupOverride] = (),
    per_tensor: bool = False,
) -> list[dict[str, Any]]:
    """Parameter groups (params, lr, weight_decay, name) of the trainable parameters of `module`.

    The head's learning rate is `head_lr` (or `lr`), that of a stage d before the head `lr` times layer_decay^d (BEiT,
    Bao et al. 2022, appendix). Biases, vectors (norms, layer scale) and the module's `no_weight_decay()` have no weight
    decay, as in timm and DeiT.

    Args:
        stages: (name, parameter names) from stem to head.
        overrides: later ones take precedence, field by field.
        per_tensor: a group for each tensor, named after it.

    Raises:
        RecipeError: with every glob that matches no parameter.
    """
    problems = group_problems([n for n, _ in module.named_parameters()], overrides)
    if problems:
        raise RecipeError(problems, "`zoo inspect MODEL --params MODULE` shows the names")
    named = {n: p for n, p in module.named_parameters() if p.requires_grad}
    without_decay = getattr(module, "no_weight_decay", None)
    exempt = set(without_decay()) if callable(without_decay) else set()
    groups: dict[str, dict[str, Any]] = {}
    last = len(stages) - 1
    for depth, (stage, parameters) in enumerate(stages):
        stage_lr = head_lr if depth == last and head_lr is not None else lr * (layer_decay or 1.0) ** (last - depth)
        stage_groups: dict[str, dict[str, Any]] = {}
        for name in parameters:
            parameter = named.get(name)
            if parameter is None:
                continue
            no_decay = parameter.ndim <= 1 or name.endswith(".bias") or name in exempt
            group_lr, decay, label = stage_lr, 0.0 if no_decay else weight_decay, stage
            matching = [o for o in overrides if _matches(name, o.match)]
            if matching:
                group_lr, override_decay = _overridden(stage_lr, matching)
                label += f" ({'; '.join('|'.join(o.match) for o in matching)})"
                decay, no_decay = (decay, no_decay) if override_decay is None else (override_decay, False)
            key = name if per_tensor else label + (NO_DECAY if no_decay else "")
            group = {"params": [], "lr": group_lr, "weight_decay": decay, "name": key}
            stage_groups.setdefault(key, group)["params"].append(parameter)
        # Parameters with weight decay first.
        ordered = stage_groups if per_tensor else sorted(stage_groups, key=lambda k: k.endswith(NO_DECAY))
        groups.update({key: stage_groups[key] for key in ordered})
    return list(groups.values())


def _overridden(lr: float, overrides: Iterable[GroupOverride]) -> tuple[float, float | None]:
    """The learning rate and the weight decay (None: unchanged) after all `overrides`."""
    result, decay = lr, None
    for override in overrides:
        if override.lr is not None:
            result = override.lr
        elif override.lr_scale is not None:
            result = lr * override.lr_scale
        decay = decay if override.weight_decay is None else override.weight_decay
    return result, decay


def group_problems(names: Sequence[str], overrides: Sequence[GroupOverride]) -> list[str]:
    """The globs of `overrides` that match none of the parameter `names`, one line each, with similar names."""
    found = []
    for i, override in enumerate(overrides):
        for glob in override.match:
            if not any(_matches(name, (glob,)) for name in names):
                text = glob.strip("*?.")
                parts = dict.fromkeys(".".join(name.split(".")[: glob.count(".") + 1]) for name in names)
                close = nearest(text, [*parts, *names]) if text else []
                advice = did_you_mean(close, f"names are like {', '.join(names[:3])}")
                found.append(f"optimizer.groups[{i}].match: {glob!r} matches no parameter; {advice}")
    return found


def _matches(name: str, globs: Iterable[str]) -> bool:
    return any(fnmatchcase(name, glob) for glob in globs)


# --- as a table ------------------------------------------------------------------------------------------------------


def describe_groups(groups: Sequence[Mapping[str, Any]], *, max_rows: int = 16) -> list[tuple[str, str, str, str, str]]:
    """Table rows (name, tensors, parameters, learning rate, weight decay) of parameter groups.

    The learning rate is that at the start of the schedule. If there are more than `max_rows`, neighbours with the same
    settings share a row, and then those in the middle.
    """
    rows: list[list[Mapping[str, Any]]] = []
    for group in groups:
        if rows and len(groups) > max_rows and _settings(rows[-1][-1]) == _settings(group):
            rows[-1].append(group)
        else:
            rows.append([group])
    if len(rows) > max_rows:
        front = max_rows // 2
        back = len(rows) - (max_rows - front - 1)
        rows = [*rows[:front], [g for row in rows[front:back] for g in row], *rows[back:]]
    return [_row(row) for row in rows]


def _settings(group: Mapping[str, Any]) -> tuple[float, float]:
    # torch's schedulers store the initial value of "lr" under these names.
    lr = group.get("max_lr", group.get("initial_lr", group["lr"]))
    return float(lr), float(group.get("weight_decay", 0.0))


def _row(groups: Sequence[Mapping[str, Any]]) -> tuple[str, str, str, str, str]:
    name = groups[0]["name"] if len(groups) == 1 else f"{groups[0]['name']} … {groups[-1]['name']}"
    tensors = [p for g in groups for p in g["params"]]
    lrs, decays = zip(*(_settings(g) for g in groups), strict=True)
    return str(name), f"{len(tensors):,}", f"{sum(p.numel() for p in tensors):,}", _span(lrs), _span(decays)


def _span(values: Sequence[float]) -> str:
    low, high = min(values), max(values)
    return f"{low:.4g}" if low == high else f"{low:.4g} … {high:.4g}"


# --- the optimizer ---------------------------------------------------------------------------------------------------


def make_optimizer(name: str, groups: list[dict[str, Any]], params: Mapping[str, Any]) -> Optimizer:
    """The optimizer `name` over `groups`, each with its own lr, weight decay and name.

    name: from the table, or module:attribute of a class or function `(groups, lr=…, **params)` → torch Optimizer.
    Raises UsageError if it cannot be built or is not supported.
    """
    factory = find_optimizer(name)
    entry = OPTIMIZERS.get(name)
    settings = {**(entry.defaults if entry is not None else {}), **params}
    # timm's corrected weight decay is relative to this, the highest learning rate of the run.
    lr = {"lr": max(g["lr"] for g in groups)} if _takes_lr(factory) else {}
    given = [dict(g) for g in groups]  # the optimizer writes into them
    try:
        optimizer = factory(given, **lr, **settings)
    except (AssertionError, TypeError, ValueError) as e:
        raise UsageError(f"optimizer {name!r} cannot be built: {e}", "correct optimizer.params") from e
    if not isinstance(optimizer, Optimizer):
        kind = type(optimizer).__name__
        raise UsageError(f"optimizer {name!r} returned a {kind}, not a torch.optim.Optimizer", "return the optimizer")
    _check_supported(optimizer, name, groups)
    return optimizer


def _takes_lr(factory: Any) -> bool:
    try:
        parameters = inspect.signature(factory).parameters
    except (TypeError, ValueError):
        return True
    return "lr" in parameters or any(p.kind is inspect.Parameter.VAR_KEYWORD for p in parameters.values())


def _check_supported(optimizer: Optimizer, name: str, groups: Sequence[Mapping[str, Any]]) -> None:
    """Raises UsageError for an optimizer that the training loop does not support."""
    if any(g["weight_decay"] for g in groups) and "weight_decay" not in optimizer.defaults:
        raise UsageError(f"optimizer {name!r} takes no weight_decay", "set optimizer.weight_decay=0")
    if [g.get("name") for g in optimizer.param_groups] != [g["name"] for g in groups]:
        raise UsageError(
            f"optimizer {name!r} changed the {len(groups)} parameter groups", "pass the groups on unchanged"
        )
    if callable(getattr(optimizer, "train", None)) and callable(getattr(optimizer, "eval", None)):
        raise UsageError(
            f"optimizer {name!r} needs calls of its train() and eval(), which zoo does not make",
            "use adamw with a schedule; train.model_ema=true averages the weights",
        )
    if getattr(optimizer, "is_second_order", False):  # timm's mark
        raise UsageError(f"optimizer {name!r} needs second derivatives, which zoo does not compute", "use adamw")
    closure = inspect.signature(optimizer.step).parameters.get("closure")
    if closure is not None and closure.default is inspect.Parameter.empty:
        raise UsageError(
            f"optimizer {name!r} needs a closure that computes the loss again, which is not supported", "use adamw"
        )
