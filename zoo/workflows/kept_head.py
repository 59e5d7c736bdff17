"""The features with which a head learns before the first epoch (LP-FT), kept like those of a frozen backbone."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from itertools import chain, islice

import torch
from torch import Tensor

from zoo.data import Loader
from zoo.strategy.freeze import resolve_plan
from zoo.training.head_start import MAX_IMAGES, MEMORY, only
from zoo.training.kept_features import FeatureBatches
from zoo.training.prefix import Prefix
from zoo.workflows import checks
from zoo.workflows.keeping import Rows, free_room, worthwhile
from zoo.workflows.prepared import Prepared
from zoo.workflows.tried_prefix import try_prefix

__all__ = ["HeadRows", "kept_head"]


@dataclass(frozen=True)
class HeadRows:
    """What the head is given. train: its inputs (n, …) and the targets of the images that it learns from, in their
    order. val: of the validation images, in batches of what `prefix` gives."""

    prefix: Prefix
    train: tuple[Tensor, Tensor]
    val: FeatureBatches


def kept_head(prepared: Prepared, say: Callable[[str], None]) -> HeadRows | None:
    """The same features that a run keeps whose backbone is frozen, found or computed.

    None where they are not kept: if that is not wanted, if a file may prove unreadable, if the head is not one layer
    that takes them as they are, if computing them anew costs less, or if the disk has no room for them. Raises what
    reading the images raises, and OSError if the disk refuses.
    """
    trainer, model, data, val = prepared.trainer, prepared.model, prepared.data, prepared.val
    skips = any(source.skip_unreadable for source in (data.train, data.val))
    if prepared.recipe.train.features == "recompute" or len(model.head) != 1 or skips or not isinstance(val, Loader):
        return None
    head, module = model.head[0], trainer.module
    plan = resolve_plan("backbone", model.groups, module)
    with only(module, [p for p in module.get_submodule(head).parameters() if p.requires_grad]):
        images = trainer.normalize(checks.a_few(data, prepared.preprocess, trainer.engine.device)[0])
        tried = try_prefix(model, plan, images, trainer.amp_dtype)
        if tried is None or not tried.prefix.before or tried.prefix.end != head:
            return None
        prefix, row = tried.prefix, tried.row_bytes
        shuffled = prepared.plain()
        shuffled.set_epoch(0)
        places = list(islice(chain.from_iterable(shuffled.places()), min(MAX_IMAGES, max(MEMORY // row, 1))))
        if not worthwhile(tried.seconds, row) or row * (len(places) + len(data.val)) > free_room():
            return None
        rows = Rows(prepared, plan, prefix, tried.dtype)
        keys, of_val = rows.of(data.train, places), rows.of(data.val, range(len(data.val)))
    say(rows.said())
    targets, val_targets = torch.from_numpy(data.train.targets), torch.from_numpy(data.val.targets)
    return HeadRows(
        prefix,
        (rows.kept(keys)[range(len(keys))], targets[torch.tensor(places)]),
        FeatureBatches(val, [rows.kept(of_val)], val_targets, channels_last=False),
    )
