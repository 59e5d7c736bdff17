"""Whether a run trains on kept features of its frozen prefix, and the moment in which they are computed."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any

import numpy as np
import timm
import torch
import torchvision
from torch import Tensor

from zoo.augment import make_augment
from zoo.data import ImageSource, Loader, make_loader
from zoo.data.loader import AugmentFn
from zoo.data.verify import cores
from zoo.errors import RecipeError
from zoo.models import Model, record
from zoo.recipe import Recipe
from zoo.strategy.freeze import FreezePlan
from zoo.training.feature_store import FeatureStore, image_key, store_key
from zoo.training.inference import Normalize
from zoo.training.kept_features import FeatureBatches, Keeping, compute, seconds_an_image
from zoo.training.prefix import Prefix, find_prefix
from zoo.training.stores import clear_stores, stores_folder
from zoo.workflows.prepared import Prepared

__all__ = ["decide", "keep"]

# Reading kept features back must be so much faster than computing them: a disk is slower than it looks when shared.
_WORTHWHILE = 3.0
_DISK = 500e6  # bytes a second, of a plain SSD
# All stores together may take this much, and never more than a share of what is free on the disk.
_CAP = 20 << 30
_FREE_SHARE = 0.5
_TRIED = 3  # images


def decide(
    recipe: Recipe,
    model: Model,
    plan: FreezePlan,
    images: Tensor,
    normalize: Normalize,
    amp_dtype: torch.dtype | None,
    *,
    random: bool,
    mixed: bool,
    sources: tuple[ImageSource, ImageSource],
) -> tuple[Keeping | None, str]:
    """How features are kept, if they are, and a sentence that says so or why not ("" where nobody would ask).

    images: a few, (n, C, H, W) uint8 on the module's device. random: whether augmentation draws. mixed: whether batches
    are mixed. The module is in the training mode of the plan. Raises RecipeError if it is asked for and cannot be.
    """
    asked = recipe.train.features
    if asked == "recompute" or (asked == "auto" and not plan.frozen):
        return None, ""
    prefix = find_prefix(model.module, plan.frozen_modules, normalize(images[:_TRIED])) if plan.frozen else None
    why = _why_not(recipe, prefix, random=random, mixed=mixed, sources=sources)
    if why or prefix is None:
        if asked == "keep":
            raise RecipeError([f"train.features: keep: {why}"], "leave it out")
        return None, f"features of the frozen part are computed anew in each epoch: {why}"
    seconds, features = seconds_an_image(prefix, normalize(images), amp_dtype)
    row = features[0].numel() * features.element_size()
    views = recipe.train.views or 1
    total = row * (len(sources[0]) * views + len(sources[1]))
    if asked == "auto" and seconds < _WORTHWHILE * row / _DISK:
        return None, "features of the frozen part are computed anew in each epoch: reading them back would take longer"
    room = min(_CAP, int(_FREE_SHARE * _free()))
    if total > room:
        said = f"they take {total / 2**30:.1f} GiB, and {room / 2**30:.1f} GiB may be used"
        if asked == "keep":
            raise RecipeError([f"train.features: keep: {said}"], "free some space, or freeze more")
        return None, f"features of the frozen part are computed anew in each epoch: {said}"
    format_last = features.ndim == 4 and features.is_contiguous(memory_format=torch.channels_last)
    keeping = Keeping(prefix, views, features.dtype, format_last and not features.is_contiguous(), row)
    of = f"{views} views of each image" if views > 1 else "each image"
    end = f"the input of {prefix.end}" if prefix.before else prefix.end
    return keeping, f"features up to {end} are computed once for {of} ({total / 2**20:,.0f} MiB), then trained on"


def _why_not(
    recipe: Recipe, prefix: Prefix | None, *, random: bool, mixed: bool, sources: tuple[ImageSource, ImageSource]
) -> str:
    if prefix is None:
        return "no frozen part at the beginning can be taken off"
    if recipe.transfer.unfreeze_every is not None:
        return "transfer.unfreeze_every opens it while training"
    if mixed:
        return "mixup, cutmix and erasing change the images of each batch"
    if random and recipe.train.views is None:
        return f"augmentation {recipe.augment.name} draws anew in each; --views K keeps K views of each image"
    if any(source.skip_unreadable for source in sources):
        return "data.unreadable is skip"
    return ""


def _free() -> int:
    folder = stores_folder()
    while not folder.exists():
        folder = folder.parent
    return shutil.disk_usage(folder).free


def keep(prepared: Prepared, say: Callable[[str], None]) -> Prepared:
    """Compute what is missing of the features, and put them in the place of the images.

    Raises what reading the images raises, and OSError if the disk refuses.
    """
    keeping = prepared.keeping
    if keeping is None:
        return prepared
    trainer, recipe, data = prepared.trainer, prepared.recipe, prepared.data
    trainer.set_train_mode(0)
    store = _store(prepared, keeping)
    clear_stores(keep_bytes=_CAP, but=store.folder)
    augment = make_augment(
        recipe.augment.name, preprocess=prepared.preprocess, flips=data.flips_ok, params=recipe.augment.params
    )
    random = bool(getattr(augment, "is_random", True))
    images, judged = prepared.train, prepared.val
    if not isinstance(images, Loader) or not isinstance(judged, Loader):
        return prepared  # they are kept already
    sources: list[tuple[ImageSource, AugmentFn | None, str, int]] = [(data.val, None, "", 0)]
    for view in range(keeping.views):
        text = f"{recipe.augment.model_dump()} {recipe.train.seed} {view}" if random else ""
        sources.append((data.train, augment if random else None, text, view))
    rows = []
    for source, own, variant, view in sources:
        keys = _keys(source, variant)
        missing = store.missing(keys)
        if missing:
            loader = make_loader(
                source,
                preprocess=prepared.preprocess,
                batch_size=recipe.data.batch_size,
                train=False,
                augment=own,
                seed=recipe.train.seed,
                workers=int(recipe.data.workers),
                only=np.array(missing, np.int64),
            )
            loader.set_epoch(view)
            compute(
                keeping.prefix,
                store,
                loader,
                [keys[i] for i in missing],
                trainer.normalize,
                device=trainer.engine.device,
                amp_dtype=trainer.amp_dtype,
            )
        rows.append((keys, len(missing)))
    made = sum(n for _, n in rows)
    known = sum(len(keys) for keys, _ in rows) - made
    say(f"features: {made:,} computed, {known:,} found in {store.folder}")
    channels_last = keeping.channels_last
    targets = [torch.from_numpy(s.targets) for s in (data.train, data.val)]
    views = [store.rows(keys) for keys, _ in rows[1:]]
    trainer.prefix = keeping.prefix
    return replace(
        prepared,
        train=FeatureBatches(images, views, targets[0], channels_last=channels_last),
        val=FeatureBatches(judged, [store.rows(rows[0][0])], targets[1], channels_last=channels_last),
    )


def _keys(source: ImageSource, variant: str) -> list[bytes]:
    """Of the images as they are stored; of a random view also of the image's number, from which it is drawn."""

    def key(index: int) -> bytes:
        return image_key(source.raw(index), f"{variant} {index}" if variant else "")

    with ThreadPoolExecutor(cores()) as pool:
        return list(pool.map(key, range(len(source)), chunksize=64))


def _store(prepared: Prepared, keeping: Keeping) -> FeatureStore:
    model, trainer, prefix = prepared.model, prepared.trainer, keeping.prefix
    learning = {name for name, p in trainer.module.named_parameters() if name not in prepared.plan.frozen}
    still = tuple(f"{path}." for path in prepared.plan.frozen_modules)
    buffers = {name for name, _ in trainer.module.named_buffers() if not name.startswith(still)}
    fixed = {k: v for k, v in trainer.module.state_dict().items() if k not in learning and k not in buffers}
    seen: dict[str, Any] = {
        "model": record(model),
        "end": prefix.end,
        "before": prefix.before,
        "preprocess": prepared.preprocess.to_dict(),
        "amp": str(trainer.amp_dtype),
        "versions": [torch.__version__, torchvision.__version__, timm.__version__],
    }
    info = {"model": model.name, "end": prefix.end, "data": prepared.data.name, "size": prepared.preprocess.height}
    folder = stores_folder() / store_key(seen, fixed)
    return FeatureStore(folder, prefix.shape, keeping.dtype, info)
