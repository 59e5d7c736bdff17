"""Losses by name. A loss is `(output, target) → scalar`: logits, computed in float32, and targets as in `zoo.tasks`.

    make_loss("focal", {"gamma": 2})(output, target)
    make_loss("CrossEntropyLoss", {}, class_weights=weights)      # torch's names work too
    make_loss("my_losses:MyLoss", {"margin": 0.2})                # a class or function of the user's

To add one: a file here, a line in the table, a test. Listing the table does not import torch.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, cast

from zoo.errors import UsageError, ZooError
from zoo.losses.unfit import why_unfit
from zoo.registry import RegistryEntry, check_params, resolve
from zoo.tasks import TaskName, get_task

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["LOSSES", "Loss", "LossComponent", "make_loss", "problems", "table_name"]

Loss = Callable[["Tensor", "Tensor"], "Tensor"]


@dataclass(frozen=True)
class LossComponent(RegistryEntry):
    """tasks: tasks with suitable targets. class_weights: the parameter for weights (K,) of the classes' images (or of a
    label's positives), if any. aliases: other names, such as torch's class. soft_targets: whether single-label targets
    may be probabilities (N, K), as of mixed images."""

    tasks: tuple[TaskName, ...] = field(kw_only=True)
    class_weights: str | None = field(default=None, kw_only=True)
    aliases: tuple[str, ...] = field(default=(), kw_only=True)
    soft_targets: bool = field(default=False, kw_only=True)


def _loss(
    path: str,
    description: str,
    *tasks: TaskName,
    weights: str | None = None,
    aliases: tuple[str, ...] = (),
    soft_targets: bool = False,
) -> LossComponent:
    return LossComponent(
        f"zoo.losses.{path}",
        description,
        tasks=tasks,
        class_weights=weights,
        aliases=aliases,
        soft_targets=soft_targets,
    )


def _torch(
    ours: str, description: str, *tasks: TaskName, weights: str | None = None, soft_targets: bool = False
) -> LossComponent:
    """The counterpart of torch.nn's class `oursLoss`."""
    path = f"torch_losses:{ours}"
    return _loss(path, description, *tasks, weights=weights, aliases=(f"{ours}Loss",), soft_targets=soft_targets)


LOSSES: dict[str, LossComponent] = {
    # one class per image
    "cross_entropy": _torch(
        "CrossEntropy",
        "softmax and negative log-likelihood; takes label_smoothing, ignore_index",
        "single-label",
        weights="weight",
        soft_targets=True,
    ),
    "nll": _loss(
        "torch_losses:NLL",
        "cross entropy without label_smoothing",
        "single-label",
        weights="weight",
        aliases=("NLLLoss", "NLLLoss2d"),
        soft_targets=True,
    ),
    "soft_target_cross_entropy": _loss(
        "soft_target_cross_entropy:SoftTargetCrossEntropy",
        "cross entropy against a distribution over the classes (or class numbers)",
        "single-label",
        weights="weight",
        soft_targets=True,
    ),
    "kl_div": _torch(
        "KLDiv", "Kullback-Leibler divergence from the target distribution", "single-label", soft_targets=True
    ),
    "multi_margin": _torch(
        "MultiMargin", "multi-class hinge (Crammer and Singer 2001); takes p, margin", "single-label", weights="weight"
    ),
    # one class or several labels per image
    "bce_with_logits": _torch(
        "BCEWithLogits",
        "binary cross entropy of each output; takes pos_weight",
        "multi-label",
        "single-label",
        weights="pos_weight",
        soft_targets=True,
    ),
    "bce": _torch("BCE", "binary cross entropy without pos_weight", "multi-label", "single-label", soft_targets=True),
    "focal": _loss(
        "focal:Focal",
        "cross entropy with a lower weight for easy examples (Lin et al. 2017); takes gamma, alpha",
        "single-label",
        "multi-label",
        weights="weight",
    ),
    "dice": _loss(
        "dice:Dice", "overlap: 1 - Dice coefficient; takes smooth", "multi-label", "single-label", weights="weight"
    ),
    "jaccard": _loss(
        "jaccard:Jaccard",
        "overlap: 1 - intersection over union; takes smooth",
        "multi-label",
        "single-label",
        weights="weight",
        aliases=("iou",),
    ),
    "tversky": _loss(
        "tversky:Tversky",
        "overlap with weights for false positives (alpha) and false negatives (beta)",
        "multi-label",
        "single-label",
        weights="weight",
    ),
    # several labels per image
    "bce_dice": _loss(
        "bce_dice:BCEDice", "binary cross entropy and Dice; takes dice_share", "multi-label", weights="pos_weight"
    ),
    "asymmetric": _loss(
        "asymmetric:Asymmetric",
        "binary cross entropy that ignores easy negatives (Ridnik et al. 2021)",
        "multi-label",
        weights="pos_weight",
    ),
    "soft_margin": _torch("SoftMargin", "log(1 + exp(-yx)) of each output", "multi-label"),
    "multilabel_margin": _torch("MultiLabelMargin", "ranks an image's labels above the others", "multi-label"),
    "multilabel_soft_margin": _torch("MultiLabelSoftMargin", "binary cross entropy, averaged by image", "multi-label"),
    # numbers
    "mse": _torch("MSE", "squared error", "regression"),
    "l1": _torch("L1", "absolute error", "regression"),
    "smooth_l1": _torch("SmoothL1", "squared error up to beta, absolute beyond", "regression"),
    "huber": _torch("Huber", "smooth_l1 times delta; takes delta", "regression"),
    "sobolev": _loss("sobolev:Sobolev", "error of the values and of their slopes; takes slope_weight", "regression"),
}

_NAMES = {alias: name for name, entry in LOSSES.items() for alias in (name, *entry.aliases)}
# Raised by mistakes in a user's loss when it is built; other errors keep their traceback.
_BUILD_ERRORS = (TypeError, ValueError, RuntimeError, LookupError, AttributeError, ArithmeticError, AssertionError)


def problems(
    name: str,
    params: Mapping[str, Any],
    task: TaskName | None = None,
    *,
    class_weights: str = "none",
    mixed: bool = False,
) -> list[str]:
    """Problems of `make_loss(name, params)` for `task`, one line each.

    class_weights: "none", or anything else if the loss gets class weights. mixed: whether images and targets are mixed.
    """
    try:
        factory = _resolve(name)
    except ZooError as e:
        return [f"loss.name: {e}"]
    entry = _entry(name)
    found = []
    if entry is not None and task is not None and task not in entry.tasks:
        fitting = [n for n, other in LOSSES.items() if task in other.tasks]
        found.append(
            f"loss.name: {name} is a loss for {' and '.join(entry.tasks)}; for {task} use {', '.join(fitting)}"
        )
    if entry is not None and mixed and task and get_task(task).has_one_class_per_image and not entry.soft_targets:
        able = ", ".join(n for n, other in LOSSES.items() if other.soft_targets)
        found.append(f"loss.name: {name} takes no class probabilities, as of augment.mixup and cutmix; {able} do")
    wrong = check_params(factory, params, given=_called_with(factory), label="loss.params")
    found += wrong or _call_problems(name, factory)
    if not wrong and entry is not None:
        try:
            factory(**{**entry.defaults, **params})
        except (TypeError, ValueError) as e:
            found.append(f"loss.params: {name}: {e}")
    if class_weights != "none":
        try:
            _weights_parameter(name, factory, params)
        except UsageError as e:
            found.append(f"loss.class_weights: {e}")
    return found


def make_loss(name: str, params: Mapping[str, Any], *, class_weights: Tensor | None = None) -> Loss:
    """The loss `name`.

    Args:
        name: of the table, of torch's class, or module:attribute of a class or a function `(output, target, **params)`.
        params: parameters by name.
        class_weights: (K,), for the parameter that the table names, or `weight` of a user's loss.

    Returns:
        A function (output, target) → scalar. If it has tensors, it is an nn.Module, to move them with `.to(device)`.

    Raises:
        UsageError: if the loss cannot be built, or takes no class weights.
    """
    factory = _resolve(name)
    entry = _entry(name)
    values = {**(entry.defaults if entry else {}), **params}
    if class_weights is not None:
        values[_weights_parameter(name, factory, params)] = class_weights
    if not inspect.isclass(factory):
        from zoo.losses.bound import BoundFunction

        return BoundFunction(factory, values) if values else cast("Loss", factory)
    try:
        loss: Any = factory(**values)
    except _BUILD_ERRORS as e:
        raise UsageError(f"loss {name!r} cannot be built: {e}", "correct loss.params") from e
    if entry is not None:
        loss.__name__ = name  # for messages
    if not callable(loss):
        raise UsageError(f"loss {name!r} creates a {type(loss).__name__}, which cannot be called", _EXPECTED)
    return cast("Loss", loss)


_EXPECTED = "a loss takes (output, target) and returns a scalar tensor"


def table_name(name: str) -> str | None:
    """The loss's name in the table; None for a user's own."""
    return _NAMES.get(name.removeprefix("torch.nn:"))


def _entry(name: str) -> LossComponent | None:
    """None for a user's own. "torch.nn:MSELoss" is the table's, which takes a list of weights."""
    return LOSSES.get(table_name(name) or "")


def _resolve(name: str) -> Any:
    if reason := why_unfit(name):
        raise UsageError(f"loss {name!r} does not fit a task here: {reason}", f"known: {', '.join(sorted(LOSSES))}")
    factory = resolve(_NAMES.get(name.removeprefix("torch.nn:"), name), LOSSES, "loss")
    if not callable(factory):
        raise UsageError(f"loss {name!r} is a {type(factory).__name__}, not a class or a function")
    return factory


def _parameters(factory: Any) -> Mapping[str, inspect.Parameter]:
    try:
        return inspect.signature(factory).parameters
    except (TypeError, ValueError):  # some C functions have no signature
        return {}


def _called_with(factory: Any) -> tuple[str, ...]:
    """The names of a function's first two parameters, output and target."""
    return () if inspect.isclass(factory) else tuple(_parameters(factory))[:2]


def _call_problems(name: str, factory: Any) -> list[str]:
    """A function must take two positional arguments."""
    parameters = _parameters(factory)
    if inspect.isclass(factory) or not parameters:
        return []
    kinds = [p.kind for p in parameters.values()]
    positional = sum(k in (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD) for k in kinds)
    if positional >= 2 or inspect.Parameter.VAR_POSITIONAL in kinds:
        return []
    return [f"loss.name: {name} takes ({', '.join(parameters)}); {_EXPECTED}"]


def _weights_parameter(name: str, factory: Any, params: Mapping[str, Any]) -> str:
    """The parameter for class weights. Raises UsageError if there is none, or `params` sets it."""
    entry = _entry(name)
    found = entry.class_weights if entry else "weight" if "weight" in _parameters(factory) else None
    if found is None:
        supported = ", ".join(n for n, other in LOSSES.items() if other.class_weights)
        own = "" if entry else "; a loss of your own takes them as a parameter named weight"
        raise UsageError(f"the loss {name} takes no class weights", f"those that do: {supported}{own}")
    if found in params:
        raise UsageError(
            f"{found} of the loss {name} is set by loss.params and by --class-weights", "leave one of them out"
        )
    return found
