"""Whether a run trains on kept features of its frozen prefix, and the moment in which they are computed.

Several processes decide the same, compute a share each, and then read what all of them have written.
"""

from __future__ import annotations

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
from zoo.cache import evict, free_bytes, kind_folder
from zoo.data import ImageDataset, Loader, make_loader
from zoo.data.loader import AugmentFn
from zoo.dist_env import cores
from zoo.errors import RecipeError
from zoo.models import Model, record
from zoo.preprocess import Preprocess
from zoo.recipe import Recipe
from zoo.strategy.freeze import FreezePlan, resolve_plan
from zoo.training.autotune.timings import load_timing, machine, save_timing
from zoo.training.autotune.workers import SINGLE_THREAD_OPS, threads
from zoo.training.distributed import broadcast_object
from zoo.training.feature_extractor import FeatureExtractor, find_feature_extractor
from zoo.training.features.dataset import FeatureBatches, FeatureCachePolicy, compute, seconds_per_image
from zoo.training.features.store import CachedFeatures, FeatureStore, image_key, store_key
from zoo.training.inference import Normalize
from zoo.training.microbatch import MicroBatcher
from zoo.training.transfer.lp_ft import MAX_FEATURE_BYTES, MAX_IMAGES, train_only
from zoo.workflows.finetune import components, validate
from zoo.workflows.finetune.session import TrainingSession

__all__ = [
    "CachedHeadInputs",
    "ExtractorProfile",
    "FeatureCacheSession",
    "apply_feature_cache",
    "cache_head_inputs",
    "choose_feature_cache",
    "free_cache_bytes",
    "image_keys",
    "open_store",
    "profile_extractor",
    "speedup_justifies_cache",
]

_SAMPLE_IMAGES = 3  # images


@dataclass(frozen=True)
class ExtractorProfile:
    """seconds: that it takes for an image. dtype, channels_last, row_bytes: of the features."""

    feature_extractor: FeatureExtractor
    seconds: float
    dtype: torch.dtype
    channels_last: bool

    @property
    def row_bytes(self) -> int:
        return self.feature_extractor.numbers * self.dtype.itemsize


def profile_extractor(
    model: Model, plan: FreezePlan, images: Tensor, amp_dtype: torch.dtype | None
) -> ExtractorProfile | None:
    """`find_feature_extractor` and `seconds_per_image` for normalised `images` (n, C, H, W), or what an earlier run
    found.

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
        if known := load_timing("feature_extractor", key):
            feature_extractor = FeatureExtractor.from_dict(module, known["feature_extractor"])
            module.get_submodule(feature_extractor.end)
            return ExtractorProfile(
                feature_extractor, known["seconds"], getattr(torch, known["dtype"]), known["channels_last"]
            )
    found = find_feature_extractor(module, plan.frozen_modules, images[:_SAMPLE_IMAGES])
    if found is None:
        return None
    seconds, features = MicroBatcher().first(len(images), lambda n: seconds_per_image(found, images[:n], amp_dtype))
    last = features.ndim == 4 and features.is_contiguous(memory_format=torch.channels_last)
    profile = ExtractorProfile(found, seconds, features.dtype, last and not features.is_contiguous())
    if message := found.to_dict():
        dtype = str(profile.dtype).removeprefix("torch.")
        save_timing(
            "feature_extractor",
            key,
            {"feature_extractor": message, "seconds": seconds, "dtype": dtype, "channels_last": profile.channels_last},
        )
    return profile


# Reading kept features back must be so much faster than computing them: a disk is slower than it looks when shared.
_MIN_SPEEDUP = 3.0
_DISK_BYTES_PER_SECOND = 500e6  # bytes a second, of a plain SSD
_NO_EXTRACTOR = "no frozen part at the beginning can be taken off"


def choose_feature_cache(
    recipe: Recipe,
    model: Model,
    plan: FreezePlan,
    images: Tensor,
    normalize: Normalize,
    amp_dtype: torch.dtype | None,
    *,
    random: bool,
    mixed: bool,
    sources: tuple[ImageDataset, ImageDataset],
) -> tuple[FeatureCachePolicy | None, str]:
    """How features are kept, if they are, and a sentence that says so or why not ("" where nobody would ask).

    images: a few, (n, C, H, W) uint8 on the module's device. random: whether augmentation draws. mixed: whether batches
    are mixed. The module is in the training mode of the plan. Raises RecipeError if it is asked for and cannot be.
    """
    linear_probe = recipe.train.linear_probe == "on"  # which has nothing else to work on
    setting = "on" if linear_probe and recipe.train.feature_cache == "auto" else recipe.train.feature_cache
    if setting == "off" or (setting == "auto" and not plan.frozen):
        return None, ""
    why = _why_not_cached(recipe, plan, random=random, mixed=mixed, sources=sources)
    profile = None if why else profile_extractor(model, plan, normalize(images), amp_dtype)
    if profile is None:
        why = why or _NO_EXTRACTOR
        if setting == "on":
            raise RecipeError([f"{_setting_text(linear_probe)}: {why}"], "leave it out")
        return None, f"features of the frozen part are computed anew in each epoch: {why}"
    feature_extractor, row = profile.feature_extractor, profile.row_bytes
    views = recipe.train.views or 1
    feature_cache = FeatureCachePolicy(feature_extractor, views, profile.dtype, profile.channels_last, row)
    total = row * (len(sources[0]) * feature_cache.rows_per_image + len(sources[1]))
    if setting == "auto" and not speedup_justifies_cache(profile.seconds, row):
        return None, "features of the frozen part are computed anew in each epoch: reading them back would take longer"
    room = free_cache_bytes()
    if total > room:
        message = f"they take {total / 2**30:.1f} GiB, and {room / 2**30:.1f} GiB may be used"
        if setting == "on":
            raise RecipeError([f"{_setting_text(linear_probe)}: {message}"], "free some space, or freeze more")
        return None, f"features of the frozen part are computed anew in each epoch: {message}"
    of = f"{views} views of each image" if views > 1 else "each image"
    end = f"the input of {feature_extractor.end}" if feature_extractor.before else feature_extractor.end
    return feature_cache, f"features up to {end} are computed once for {of} ({total / 2**20:,.0f} MiB), then trained on"


def _setting_text(linear_probe: bool) -> str:
    return "train.linear_probe: on: it takes kept features" if linear_probe else "train.feature_cache: on"


def _why_not_cached(
    recipe: Recipe, plan: FreezePlan, *, random: bool, mixed: bool, sources: tuple[ImageDataset, ImageDataset]
) -> str:
    if not plan.frozen:
        return _NO_EXTRACTOR
    if recipe.transfer.unfreeze_every is not None:
        return "transfer.unfreeze_every opens it while training"
    if mixed:
        return "mixup, cutmix and erasing change the images of each batch"
    if random and recipe.train.views is None:
        return f"augmentation {recipe.augment.name} draws anew in each; --views K keeps K views of each image"
    if any(source.skip_unreadable for source in sources):
        return "data.unreadable is skip"
    return ""


def speedup_justifies_cache(seconds: float, row_bytes: int) -> bool:
    """Whether reading an image's features is enough faster than computing them, which takes `seconds`."""
    return broadcast_object(seconds >= _MIN_SPEEDUP * row_bytes / _DISK_BYTES_PER_SECOND)


def free_cache_bytes() -> int:
    """Bytes that features may take."""
    return broadcast_object(free_bytes("features"))


def apply_feature_cache(session: TrainingSession, log: Callable[[str], None]) -> TrainingSession:
    """Compute what is missing of the features, and put them in the place of the images.

    Raises what reading the images raises, and OSError if the disk refuses.
    """
    feature_cache, images, val_loader = session.feature_cache, session.train, session.val
    if feature_cache is None or not isinstance(images, Loader) or not isinstance(val_loader, Loader):
        return session  # or they are kept already
    trainer, recipe, data = session.trainer, session.recipe, session.data
    trainer.set_train_mode(0)
    augment = components.build_augment(recipe, data, session.preprocess)
    random = bool(getattr(augment, "is_random", True))
    rows = FeatureCacheSession(session, session.plan, feature_cache.feature_extractor, feature_cache.dtype)
    val_keys = rows.of(data.val, range(len(data.val)))
    views = [rows.of(data.train, range(len(data.train)))] if session.fits_linear_probe and random else []
    for view in range(feature_cache.views):
        variant = f"{recipe.augment.model_dump()} {recipe.train.seed} {view}" if random else ""
        view_augment = augment if random else None
        views.append(rows.of(data.train, range(len(data.train)), augment=view_augment, variant=variant, epoch=view))
    log(rows.message())
    channels_last = feature_cache.channels_last
    targets = [torch.from_numpy(s.targets) for s in (data.train, data.val)]
    trainer.feature_extractor = feature_cache.feature_extractor
    multiplications = int(recipe.data.batch_size) * feature_cache.feature_extractor.numbers * len(data.classes)
    if feature_cache.feature_extractor.last and multiplications <= SINGLE_THREAD_OPS:
        threads(1)
    return replace(
        session,
        train=FeatureBatches(images, [rows.cached(keys) for keys in views], targets[0], channels_last=channels_last),
        val=FeatureBatches(val_loader, [rows.cached(val_keys)], targets[1], channels_last=channels_last),
    )


class FeatureCacheSession:
    """The rows of images in the store of `feature_extractor`, of type `dtype`, computed where they are missing.

    plan: what is frozen up to the end of the prefix.
    """

    def __init__(
        self, session: TrainingSession, plan: FreezePlan, feature_extractor: FeatureExtractor, dtype: torch.dtype
    ) -> None:
        self._prepared, self._prefix = session, feature_extractor
        self._store = open_store(
            session.model, plan, feature_extractor, session.preprocess, session.trainer.amp_dtype, dtype,
            data=session.data.name,
        )  # fmt: skip
        self._num_computed = self._num_found = 0
        evict("features", exclude=self._store.folder)

    def of(
        self,
        source: ImageDataset,
        indices: Sequence[int],
        *,
        augment: AugmentFn | None = None,
        variant: str = "",
        epoch: int = 0,
    ) -> list[bytes]:
        """The keys of the images at `indices`, whose rows are in the store from here on.

        variant: which random view of them `augment` draws in `epoch`.
        """
        recipe, trainer = self._prepared.recipe, self._prepared.trainer
        keys = image_keys(source, indices, variant)

        def compute_missing(missing: Sequence[int]) -> None:
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
                only=np.array([indices[i] for i in missing], np.int64),
            )
            loader.set_epoch(epoch)
            compute(
                self._prefix,
                self._store,
                loader,
                [keys[i] for i in missing],
                trainer.normalize,
                device=trainer.accelerator.device,
                amp_dtype=trainer.amp_dtype,
            )

        missing = broadcast_object(self._store.missing(keys))
        compute_missing(missing[dist_env.rank() :: dist_env.world_size()])
        if dist_env.world_size() > 1:
            broadcast_object(None)  # all have written theirs
            self._store.refresh()
            compute_missing(self._store.missing(keys))  # what lies on a disk that this process does not see
        self._num_computed += len(missing)
        self._num_found += len(keys) - len(missing)
        return keys

    def cached(self, keys: Sequence[bytes]) -> CachedFeatures:
        return self._store.rows(keys)

    def message(self) -> str:
        return f"features: {self._num_computed:,} computed, {self._num_found:,} found in {self._store.folder}"


def image_keys(source: ImageDataset, indices: Sequence[int] | NDArray[np.int64], variant: str = "") -> list[bytes]:
    """Of the images at `indices` as they are stored; of a random view also of the image's number, from which it is
    drawn."""

    def key(index: int) -> bytes:
        return image_key(source.read_file_bytes(index), f"{variant} {index}" if variant else "")

    with ThreadPoolExecutor(cores()) as pool:
        return list(pool.map(key, map(int, indices), chunksize=64))


def open_store(
    model: Model,
    plan: FreezePlan,
    feature_extractor: FeatureExtractor,
    preprocess: Preprocess,
    amp_dtype: torch.dtype | None,
    dtype: torch.dtype,
    *,
    data: str,
) -> FeatureStore:
    """What is kept of the features that `feature_extractor` gives, in `dtype`, under autocast to `amp_dtype`. data:
    for people."""
    module = feature_extractor.module
    trainable = {name for name, _ in module.named_parameters() if name not in plan.frozen}
    frozen_prefixes = tuple(f"{path}." for path in plan.frozen_modules)
    buffers = {name for name, _ in module.named_buffers() if not name.startswith(frozen_prefixes)}
    fixed = {k: v for k, v in module.state_dict().items() if k not in trainable and k not in buffers}
    rows_per_image: dict[str, Any] = {
        "model": record(model),
        "end": feature_extractor.end,
        "before": feature_extractor.before,
        "preprocess": preprocess.to_dict(),
        "amp": str(amp_dtype),
        "versions": [torch.__version__, torchvision.__version__, timm.__version__],
    }
    info = {"model": model.name, "end": feature_extractor.end, "data": data, "size": preprocess.height}
    return FeatureStore(
        kind_folder("features") / store_key(rows_per_image, fixed), feature_extractor.shape, dtype, info
    )


@dataclass(frozen=True)
class CachedHeadInputs:
    """What the head is given. train: its inputs (n, …) and the targets of the images that it learns from, in their
    order. val: of the validation images, in batches of what `feature_extractor` gives."""

    feature_extractor: FeatureExtractor
    train: tuple[Tensor, Tensor]
    val: FeatureBatches


def cache_head_inputs(session: TrainingSession, log: Callable[[str], None]) -> CachedHeadInputs | None:
    """The same features that a run keeps whose backbone is frozen, found or computed.

    None where they are not kept: if that is not wanted, if a file may prove unreadable, if the head is not one layer
    that takes them as they are, if computing them anew costs less, or if the disk has no room for them. Raises what
    reading the images raises, and OSError if the disk refuses.
    """
    trainer, model, data, val = session.trainer, session.model, session.data, session.val
    skips = any(source.skip_unreadable for source in (data.train, data.val))
    if session.recipe.train.feature_cache == "off" or len(model.head) != 1 or skips or not isinstance(val, Loader):
        return None
    head, module = model.head[0], trainer.module
    plan = resolve_plan("backbone", model.groups, module)
    with train_only(module, [p for p in module.get_submodule(head).parameters() if p.requires_grad]):
        images = trainer.normalize(validate.sample_batch(data, session.preprocess, trainer.accelerator.device)[0])
        profile = profile_extractor(model, plan, images, trainer.amp_dtype)
        if profile is None or not profile.feature_extractor.before or profile.feature_extractor.end != head:
            return None
        feature_extractor, row = profile.feature_extractor, profile.row_bytes
        shuffled = session.unaugmented_loader()
        shuffled.set_epoch(0)
        indices = list(
            islice(chain.from_iterable(shuffled.indices()), min(MAX_IMAGES, max(MAX_FEATURE_BYTES // row, 1)))
        )
        if (
            not speedup_justifies_cache(profile.seconds, row)
            or row * (len(indices) + len(data.val)) > free_cache_bytes()
        ):
            return None
        rows = FeatureCacheSession(session, plan, feature_extractor, profile.dtype)
        keys, val_keys = rows.of(data.train, indices), rows.of(data.val, range(len(data.val)))
    log(rows.message())
    targets, val_targets = torch.from_numpy(data.train.targets), torch.from_numpy(data.val.targets)
    return CachedHeadInputs(
        feature_extractor,
        (rows.cached(keys)[range(len(keys))], targets[torch.tensor(indices)]),
        FeatureBatches(val, [rows.cached(val_keys)], val_targets, channels_last=False),
    )
