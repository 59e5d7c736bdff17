"""`--batch-size auto`: the number that this device is best served with, and the rates that belong to it."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from zoo import processes
from zoo.errors import TrainingError
from zoo.losses import Loss
from zoo.recipe import Recipe, build
from zoo.training.batch_size import choose_batch_size, free_memory, rate_factor, trial_steps
from zoo.training.distributed import agree
from zoo.training.inference import Normalize
from zoo.training.pieces import LESS, ONE_IMAGE
from zoo.training.trainer import total_loss

__all__ = ["settle_batch_size"]

# An optimizer's two averages of each gradient, as AdamW keeps them; others keep fewer.
_STATES = 2


def settle_batch_size(
    recipe: Recipe,
    module: nn.Module,
    normalize: Normalize,
    loss: Loss,
    images: Tensor,
    targets: Tensor,
    *,
    auxiliary: float,
    amp_dtype: torch.dtype | None,
    epoch_images: int,
) -> tuple[Recipe, str]:
    """The recipe with a number in place of data.batch_size auto, and a sentence about it; as it is, and "", otherwise.

    images: a few, (n, C, H, W) uint8 on the module's device, with targets as the loss wants them; the module is in the
    training mode of its plan. Where optimizer.lr_batch says what batch the rates are for, they are scaled to the new
    one. Raises TrainingError if not even one image fits into memory.
    """
    if recipe.data.batch_size != "auto":
        return recipe, ""
    learning = sum(p.numel() * p.element_size() for p in module.parameters() if p.requires_grad)
    whole = sum(t.numel() * t.element_size() for t in (*module.parameters(), *module.buffers()))
    steps = recipe.train.grad_accum_steps
    later = learning * (_STATES + (steps > 1)) + (whole if recipe.train.model_ema else 0)
    room = free_memory(images.device) - later
    measure = trial_steps(
        module,
        lambda x, y: total_loss(module(normalize(x)), y, loss, auxiliary)[1],
        images,
        targets,
        amp_dtype=amp_dtype,
        room=room,
    )
    found = agree(choose_batch_size(measure, images=epoch_images, batches_a_step=steps * processes.count(), room=room))
    if found is None:
        raise TrainingError(ONE_IMAGE.format(device=images.device), LESS)
    changes, rates = _rates(recipe, found.size * steps * processes.count())
    changes["data.batch_size"] = found.size
    return build(recipe.model_dump(), changes), f"batch size {found.size}: {found.reason}{rates}"


def _rates(recipe: Recipe, update: int) -> tuple[dict[str, Any], str]:
    """The changes of the recipe, and a clause, that fit the rates to updates of so many images."""
    asked, before = recipe.optimizer, recipe.optimizer.lr_batch
    if before is None or before == update:
        return {"optimizer.lr_batch": None}, ""
    factor, rule = rate_factor(asked.name, update / before)
    changes: dict[str, Any] = {"optimizer.lr_batch": None, "optimizer.lr": _short(asked.lr * factor)}
    if asked.head_lr is not None:
        changes["optimizer.head_lr"] = _short(asked.head_lr * factor)
    changes["optimizer.groups"] = [
        {**group.model_dump(), "lr": None if group.lr is None else _short(group.lr * factor)} for group in asked.groups
    ]
    return changes, (
        f"; learning rates x {factor:.2f}, {rule} of {update}/{before} images an update; --lr sets them yourself"
    )


def _short(rate: float) -> float:
    """Three digits: what is written into the recipe is what is used."""
    return float(f"{rate:.3g}")
