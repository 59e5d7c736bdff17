"""Whether a run trains on kept features of its frozen prefix, and the moment in which they are computed.

Several processes decide the same, compute a share each, and then read what all of them have written.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, replace
from itertools import chain, islice
from typing import Any

import numpy as np
import timm
import torch
import torchvision
from numpy.typing import NDArray
from torch import Tensor

from zoo import dist_env
from zoo.cache import clear_stores, stores_folder
from zoo.data import ImageSource, Loader, make_loader
from zoo.data.loader import AugmentFn
from zoo.dist_env import cores
from zoo.errors import RecipeError
from zoo.models import Model, record
from zoo.preprocess import Preprocess
from zoo.recipe import Recipe
from zoo.strategy.freeze import FreezePlan, resolve_plan
from zoo.training.autotune.timings import machine, recall, remember
from zoo.training.autotune.workers import ONE_THREAD, threads
from zoo.training.distributed import agree
from zoo.training.feature_extractor import Prefix, find_prefix
from zoo.training.features.dataset import FeatureBatches, Keeping, compute, seconds_an_image
from zoo.training.features.store import FeatureStore, Kept, image_key, store_key
from zoo.training.inference import Normalize
from zoo.training.microbatch import AtOnce
from zoo.training.transfer.lp_ft import MAX_IMAGES, MEMORY, only
from zoo.workflows.finetune import components, validate
from zoo.workflows.finetune.session import Prepared

__all__ = [
    "HeadRows",
    "Rows",
    "TriedPrefix",
    "decide",
    "free_room",
    "image_keys",
    "keep",
    "kept_head",
    "open_store",
    "try_prefix",
    "worthwhile",
]

_TRIED = 3  # images


@dataclass(frozen=True)
class TriedPrefix:
    """seconds: that it takes for an image. dtype, channels_last, row_bytes: of the features."""

    prefix: Prefix
    seconds: float
    dtype: torch.dtype
    channels_last: bool

    @property
    def row_bytes(self) -> int:
        return self.prefix.numbers * self.dtype.itemsize


def try_prefix(model: Model, plan: FreezePlan, images: Tensor, amp_dtype: torch.dtype | None) -> TriedPrefix | None:
    """`find_prefix` and `seconds_an_image` for normalised `images` (n, C, H, W), or what an earlier run found.

    The module is in the training mode of `plan`. Weights do not matter: that two ways of computing are the same is a
    matter of the structure, and so is the time.
    """
    module = model.module
    key = {
        "model": record(model),
        "frozen": sorted(plan.frozen),
        "training": module.training,
        "image": list(images.shape[1:]),
        "last": images.is_contiguous(memory_format=torch.channels_last),
        "amp": str(amp_dtype),
        "versions": [torch.__version__, torchvision.__version__, timm.__version__],
        **machine(images.device),
    }
    with suppress(KeyError, TypeError, ValueError, AttributeError):
        if known := recall("prefix", key):
            prefix = Prefix.from_dict(module, known["prefix"])
            module.get_submodule(prefix.end)
            return TriedPrefix(prefix, known["seconds"], getattr(torch, known["dtype"]), known["channels_last"])
    found = find_prefix(module, plan.frozen_modules, images[:_TRIED])
    if found is None:
        return None
    seconds, features = AtOnce().first(len(images), lambda n: seconds_an_image(found, images[:n], amp_dtype))
    last = features.ndim == 4 and features.is_contiguous(memory_format=torch.channels_last)
    tried = TriedPrefix(found, seconds, features.dtype, last and not features.is_contiguous())
    if said := found.to_dict():
        dtype = str(tried.dtype).removeprefix("torch.")
        remember(
            "prefix", key, {"prefix": said, "seconds": seconds, "dtype": dtype, "channels_last": tried.channels_last}
        )
    return tried


# Reading kept features back must be so much faster than computing them: a disk is slower than it looks when shared.
_WORTHWHILE = 3.0
_DISK = 500e6  # bytes a second, of a plain SSD
# All stores together may take this much, and never more than a share of what is free on the disk.
_CAP = 20 << 30
_FREE_SHARE = 0.5
_NONE = "no frozen part at the beginning can be taken off"


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
    direct = recipe.train.solver == "direct"  # which has nothing else to work on
    asked = "keep" if direct and recipe.train.features == "auto" else recipe.train.features
    if asked == "recompute" or (asked == "auto" and not plan.frozen):
        return None, ""
    why = _why_not(recipe, plan, random=random, mixed=mixed, sources=sources)
    tried = None if why else try_prefix(model, plan, normalize(images), amp_dtype)
    if tried is None:
        why = why or _NONE
        if asked == "keep":
            raise RecipeError([f"{_asks(direct)}: {why}"], "leave it out")
        return None, f"features of the frozen part are computed anew in each epoch: {why}"
    prefix, row = tried.prefix, tried.row_bytes
    views = recipe.train.views or 1
    keeping = Keeping(prefix, views, tried.dtype, tried.channels_last, row)
    total = row * (len(sources[0]) * keeping.seen + len(sources[1]))
    if asked == "auto" and not worthwhile(tried.seconds, row):
        return None, "features of the frozen part are computed anew in each epoch: reading them back would take longer"
    room = free_room()
    if total > room:
        said = f"they take {total / 2**30:.1f} GiB, and {room / 2**30:.1f} GiB may be used"
        if asked == "keep":
            raise RecipeError([f"{_asks(direct)}: {said}"], "free some space, or freeze more")
        return None, f"features of the frozen part are computed anew in each epoch: {said}"
    of = f"{views} views of each image" if views > 1 else "each image"
    end = f"the input of {prefix.end}" if prefix.before else prefix.end
    return keeping, f"features up to {end} are computed once for {of} ({total / 2**20:,.0f} MiB), then trained on"


def _asks(direct: bool) -> str:
    return "train.solver: direct: it takes kept features" if direct else "train.features: keep"


def _why_not(
    recipe: Recipe, plan: FreezePlan, *, random: bool, mixed: bool, sources: tuple[ImageSource, ImageSource]
) -> str:
    if not plan.frozen:
        return _NONE
    if recipe.transfer.unfreeze_every is not None:
        return "transfer.unfreeze_every opens it while training"
    if mixed:
        return "mixup, cutmix and erasing change the images of each batch"
    if random and recipe.train.views is None:
        return f"augmentation {recipe.augment.name} draws anew in each; --views K keeps K views of each image"
    if any(source.skip_unreadable for source in sources):
        return "data.unreadable is skip"
    return ""


def worthwhile(seconds: float, row_bytes: int) -> bool:
    """Whether reading an image's features is enough faster than computing them, which takes `seconds`."""
    return agree(seconds >= _WORTHWHILE * row_bytes / _DISK)


def free_room() -> int:
    """Bytes that features may take."""
    folder = stores_folder()
    while not folder.exists():
        folder = folder.parent
    return agree(min(_CAP, int(_FREE_SHARE * shutil.disk_usage(folder).free)))


def keep(prepared: Prepared, say: Callable[[str], None]) -> Prepared:
    """Compute what is missing of the features, and put them in the place of the images.

    Raises what reading the images raises, and OSError if the disk refuses.
    """
    keeping, images, judged = prepared.keeping, prepared.train, prepared.val
    if keeping is None or not isinstance(images, Loader) or not isinstance(judged, Loader):
        return prepared  # or they are kept already
    trainer, recipe, data = prepared.trainer, prepared.recipe, prepared.data
    trainer.set_train_mode(0)
    augment = components.augment_of(recipe, data, prepared.preprocess)
    random = bool(getattr(augment, "is_random", True))
    rows = Rows(prepared, prepared.plan, keeping.prefix, keeping.dtype)
    of_val = rows.of(data.val, range(len(data.val)))
    views = [rows.of(data.train, range(len(data.train)))] if prepared.solves and random else []
    for view in range(keeping.views):
        variant = f"{recipe.augment.model_dump()} {recipe.train.seed} {view}" if random else ""
        own = augment if random else None
        views.append(rows.of(data.train, range(len(data.train)), augment=own, variant=variant, epoch=view))
    say(rows.said())
    channels_last = keeping.channels_last
    targets = [torch.from_numpy(s.targets) for s in (data.train, data.val)]
    trainer.prefix = keeping.prefix
    products = int(recipe.data.batch_size) * keeping.prefix.numbers * len(data.classes)
    if keeping.prefix.last and products <= ONE_THREAD:
        threads(1)
    return replace(
        prepared,
        train=FeatureBatches(images, [rows.kept(keys) for keys in views], targets[0], channels_last=channels_last),
        val=FeatureBatches(judged, [rows.kept(of_val)], targets[1], channels_last=channels_last),
    )


class Rows:
    """The rows of images in the store of `prefix`, of type `dtype`, computed where they are missing.

    plan: what is frozen up to the end of the prefix.
    """

    def __init__(self, prepared: Prepared, plan: FreezePlan, prefix: Prefix, dtype: torch.dtype) -> None:
        self._prepared, self._prefix = prepared, prefix
        self._store = open_store(
            prepared.model, plan, prefix, prepared.preprocess, prepared.trainer.amp_dtype, dtype,
            data=prepared.data.name,
        )  # fmt: skip
        self._made = self._known = 0
        clear_stores(keep_bytes=_CAP, but=self._store.folder)

    def of(
        self,
        source: ImageSource,
        places: Sequence[int],
        *,
        augment: AugmentFn | None = None,
        variant: str = "",
        epoch: int = 0,
    ) -> list[bytes]:
        """The keys of the images at `places`, whose rows are in the store from here on.

        variant: which random view of them `augment` draws in `epoch`.
        """
        recipe, trainer = self._prepared.recipe, self._prepared.trainer
        keys = image_keys(source, places, variant)

        def make(missing: Sequence[int]) -> None:
            if not missing:
                return
            loader = make_loader(
                source,
                preprocess=self._prepared.preprocess,
                batch_size=int(recipe.data.batch_size),
                train=False,
                augment=augment,
                seed=recipe.train.seed,
                workers=int(recipe.data.workers),
                only=np.array([places[i] for i in missing], np.int64),
            )
            loader.set_epoch(epoch)
            compute(
                self._prefix,
                self._store,
                loader,
                [keys[i] for i in missing],
                trainer.normalize,
                device=trainer.engine.device,
                amp_dtype=trainer.amp_dtype,
            )

        missing = agree(self._store.missing(keys))
        make(missing[dist_env.rank() :: dist_env.count()])
        if dist_env.count() > 1:
            agree(None)  # all have written theirs
            self._store.refresh()
            make(self._store.missing(keys))  # what lies on a disk that this process does not see
        self._made += len(missing)
        self._known += len(keys) - len(missing)
        return keys

    def kept(self, keys: Sequence[bytes]) -> Kept:
        return self._store.rows(keys)

    def said(self) -> str:
        return f"features: {self._made:,} computed, {self._known:,} found in {self._store.folder}"


def image_keys(source: ImageSource, places: Sequence[int] | NDArray[np.int64], variant: str = "") -> list[bytes]:
    """Of the images at `places` as they are stored; of a random view also of the image's number, from which it is
    drawn."""

    def key(index: int) -> bytes:
        return image_key(source.raw(index), f"{variant} {index}" if variant else "")

    with ThreadPoolExecutor(cores()) as pool:
        return list(pool.map(key, map(int, places), chunksize=64))


def open_store(
    model: Model,
    plan: FreezePlan,
    prefix: Prefix,
    preprocess: Preprocess,
    amp_dtype: torch.dtype | None,
    dtype: torch.dtype,
    *,
    data: str,
) -> FeatureStore:
    """What is kept of the features that `prefix` gives, in `dtype`, under autocast to `amp_dtype`. data: for people."""
    module = prefix.module
    learning = {name for name, _ in module.named_parameters() if name not in plan.frozen}
    still = tuple(f"{path}." for path in plan.frozen_modules)
    buffers = {name for name, _ in module.named_buffers() if not name.startswith(still)}
    fixed = {k: v for k, v in module.state_dict().items() if k not in learning and k not in buffers}
    seen: dict[str, Any] = {
        "model": record(model),
        "end": prefix.end,
        "before": prefix.before,
        "preprocess": preprocess.to_dict(),
        "amp": str(amp_dtype),
        "versions": [torch.__version__, torchvision.__version__, timm.__version__],
    }
    info = {"model": model.name, "end": prefix.end, "data": data, "size": preprocess.height}
    return FeatureStore(stores_folder() / store_key(seen, fixed), prefix.shape, dtype, info)


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
        images = trainer.normalize(validate.a_few(data, prepared.preprocess, trainer.engine.device)[0])
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
