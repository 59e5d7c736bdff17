"""Whether a run trains on cached outputs of its frozen layers (features), and their computation before it does.

Several processes choose the same, compute a share each, and then read what all of them have written.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, replace
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
from zoo.data.loader import AugmentFn, LoaderOptions
from zoo.dist_env import cores
from zoo.errors import RecipeError
from zoo.models import Model, record
from zoo.preprocess import Preprocess
from zoo.recipe import Recipe
from zoo.strategy.freeze import FreezePlan
from zoo.training.autotune.timings import load_timing, machine, save_timing
from zoo.training.autotune.workers import SINGLE_THREAD_OPS, threads
from zoo.training.distributed import broadcast_object
from zoo.training.feature_extractor import FeatureExtractor, find_feature_extractor
from zoo.training.features.dataset import FeatureBatches, FeatureCachePolicy, compute, seconds_per_image
from zoo.training.features.store import CachedFeatures, FeatureStore, image_key, store_key
from zoo.training.microbatch import MicroBatcher
from zoo.workflows.finetune.inputs import build_augment
from zoo.workflows.finetune.session import BuiltModel, TrainingSession

_SAMPLE_IMAGES = 3


@dataclass(frozen=True)
class ExtractorProfile:
    """seconds: per image. dtype, channels_last, row_bytes: of the features of one image."""

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
    """The frozen layers that can be cut off and their time for normalized `images` (n, C, H, W); from the timing cache
    if an earlier run measured the same. None if there are no such layers.

    The module is in the training mode of `plan`. The result depends on the structure of the model, not on its weights.
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
    channels_last = features.ndim == 4 and features.is_contiguous(memory_format=torch.channels_last)
    profile = ExtractorProfile(found, seconds, features.dtype, channels_last and not features.is_contiguous())
    if extractor := found.to_dict():
        dtype = str(profile.dtype).removeprefix("torch.")
        entry = {"feature_extractor": extractor, "seconds": seconds, "dtype": dtype}
        save_timing("feature_extractor", key, {**entry, "channels_last": profile.channels_last})
    return profile


# Reading cached features must be this much faster than computing them: shared disks are slower than they look.
_MIN_SPEEDUP = 3.0
_DISK_BYTES_PER_SECOND = 500e6  # of a plain SSD
_OFF = "feature cache off: "
_NO_EXTRACTOR = "the model has no frozen layers before its first trainable one that can be cut off"


def choose_feature_cache(
    recipe: Recipe, built: BuiltModel, amp_dtype: torch.dtype | None, *, max_images: int | None, random: bool
) -> tuple[FeatureCachePolicy | None, str]:
    """How features are cached, None if they are not; and a sentence about it ("" if the recipe cannot use a cache).

    max_images: of the sample batch that fit into memory, None: all. random: whether the augmentation is random. The
    module is in the training mode of the plan. Raises RecipeError if a cache is requested and not possible.
    """
    sources, plan, sample = (built.data.train, built.data.val), built.plan, built.sample.images
    for_probe = recipe.train.linear_probe == "on"  # it needs cached features
    setting = "on" if for_probe and recipe.train.feature_cache == "auto" else recipe.train.feature_cache
    requested = "train.linear_probe: on: it needs cached features" if for_probe else "train.feature_cache: on"
    if setting == "off" or (setting == "auto" and not plan.frozen):
        return None, ""
    why = _why_not_cached(recipe, plan, random=random, mixed=built.mixing is not None, sources=sources)
    images = built.normalize(sample[: max(max_images or len(sample), _SAMPLE_IMAGES)])
    profile = None if why else profile_extractor(built.model, plan, images, amp_dtype)
    if profile is None:
        why = why or _NO_EXTRACTOR
        if setting == "on":
            raise RecipeError([f"{requested}: {why}"], "leave it out")
        return None, _OFF + why
    extractor, row_bytes, views = profile.feature_extractor, profile.row_bytes, recipe.train.views or 1
    policy = FeatureCachePolicy(extractor, views, profile.dtype, profile.channels_last, row_bytes)
    total = row_bytes * (len(sources[0]) * policy.rows_per_image + len(sources[1]))
    if setting == "auto" and not speedup_justifies_cache(profile.seconds, row_bytes):
        return None, f"{_OFF}reading features would take longer than computing them"
    available = free_cache_bytes()
    if total > available:
        why = f"features take {total / 2**30:.1f} GiB, and {available / 2**30:.1f} GiB are available"
        if setting == "on":
            raise RecipeError([f"{requested}: {why}"], "free disk space, or freeze more layers")
        return None, _OFF + why
    of = f"{views} views of each image" if views > 1 else "each image"
    end = f"the input of {extractor.end}" if extractor.before else extractor.end
    return policy, f"feature cache on: features up to {end}, computed once for {of} ({total / 2**20:,.0f} MiB)"


def _why_not_cached(
    recipe: Recipe, plan: FreezePlan, *, random: bool, mixed: bool, sources: tuple[ImageDataset, ImageDataset]
) -> str:
    if not plan.frozen:
        return _NO_EXTRACTOR
    if recipe.transfer.unfreeze_every is not None:
        return "transfer.unfreeze_every unfreezes layers during training"
    if mixed:
        return "mixup, cutmix and erasing change the images of each batch"
    if random and recipe.train.views is None:
        return f"augmentation {recipe.augment.name} is random in each epoch; --views K caches K views of each image"
    if any(source.skip_unreadable for source in sources):
        return "data.unreadable is skip"
    return ""


def speedup_justifies_cache(seconds: float, row_bytes: int) -> bool:
    """Whether reading the features of an image is enough faster than computing them, which takes `seconds`."""
    return broadcast_object(seconds >= _MIN_SPEEDUP * row_bytes / _DISK_BYTES_PER_SECOND)


def free_cache_bytes() -> int:
    """Bytes that cached features may take."""
    return broadcast_object(free_bytes("features"))


def apply_feature_cache(session: TrainingSession, log: Callable[[str], None]) -> TrainingSession:
    """Compute missing features, and replace the images of the session by features.

    Raises what reading the images raises, and OSError if the disk refuses.
    """
    policy, train, val = session.feature_cache, session.train, session.val
    if policy is None or not isinstance(train, Loader) or not isinstance(val, Loader):
        return session  # no cache, or features already
    trainer, recipe, data = session.trainer, session.recipe, session.data
    trainer.set_train_mode(0)
    augment = build_augment(recipe, data, session.preprocess)
    random = bool(getattr(augment, "is_random", True))
    features = FeatureCacheSession(session, session.plan, policy.feature_extractor, policy.dtype)
    val_keys = features.keys(data.val, range(len(data.val)))
    views = [features.keys(data.train, range(len(data.train)))] if session.fits_linear_probe and random else []
    for view in range(policy.views):
        variant = f"{recipe.augment.model_dump()} {recipe.train.seed} {view}" if random else ""
        view_augment = augment if random else None
        views.append(features.keys(data.train, range(len(data.train)), view_augment, variant=variant, epoch=view))
    log(features.message())
    targets, val_targets = torch.from_numpy(data.train.targets), torch.from_numpy(data.val.targets)
    trainer.feature_extractor = policy.feature_extractor
    multiplications = int(recipe.data.batch_size) * policy.feature_extractor.numbers * len(data.classes)
    if policy.feature_extractor.last and multiplications <= SINGLE_THREAD_OPS:
        threads(1)
    channels_last = policy.channels_last
    return replace(
        session,
        train=FeatureBatches(train, [features.cached(k) for k in views], targets, channels_last=channels_last),
        val=FeatureBatches(val, [features.cached(val_keys)], val_targets, channels_last=channels_last),
    )


class FeatureCacheSession:
    """Features of type `dtype` in the store of `feature_extractor`, computed where they are missing.

    plan: the freeze plan of the layers up to the end of the feature extractor.
    """

    def __init__(
        self, session: TrainingSession, plan: FreezePlan, feature_extractor: FeatureExtractor, dtype: torch.dtype
    ) -> None:
        self._session, self._feature_extractor = session, feature_extractor
        self._store = open_store(
            session.model, plan, feature_extractor, session.preprocess, session.trainer.amp_dtype, dtype,
            data=session.data.name,
        )  # fmt: skip
        self._num_computed = self._num_found = 0
        evict("features", exclude=self._store.folder)

    def keys(
        self,
        source: ImageDataset,
        indices: Sequence[int],
        augment: AugmentFn | None = None,
        *,
        variant: str = "",
        epoch: int = 0,
    ) -> list[bytes]:
        """The keys of the images at `indices`, after computing those features that are not in the store.

        variant: name of the random view that `augment` gives in `epoch`.
        """
        recipe, trainer = self._session.recipe, self._session.trainer
        keys = image_keys(source, indices, variant)

        def compute_missing(missing: Sequence[int]) -> None:
            if not missing:
                return
            loader = make_loader(
                source,
                preprocess=self._session.preprocess,
                batch_size=int(recipe.data.batch_size),
                train=False,
                augment=augment,
                seed=recipe.train.seed,
                workers=int(recipe.data.workers),
                options=LoaderOptions(indices=np.array([indices[i] for i in missing], np.int64)),
            )
            loader.set_epoch(epoch)
            compute(
                self._feature_extractor,
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
            broadcast_object(None)  # wait until all processes have written
            self._store.refresh()
            compute_missing(self._store.missing(keys))  # features on a disk that this process does not see
        self._num_computed += len(missing)
        self._num_found += len(keys) - len(missing)
        return keys

    def cached(self, keys: Sequence[bytes]) -> CachedFeatures:
        return self._store.rows(keys)

    def message(self) -> str:
        return f"feature cache: {self._num_computed:,} computed, {self._num_found:,} found in {self._store.folder}"


def image_keys(source: ImageDataset, indices: Sequence[int] | NDArray[np.int64], variant: str = "") -> list[bytes]:
    """Keys of the images at `indices`, from their file bytes; for a random view also from the index that seeds it."""

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
    """The store of the features of `feature_extractor`, in `dtype`, under autocast to `amp_dtype`. data: a name for
    people."""
    module = feature_extractor.module
    trainable = {name for name, _ in module.named_parameters() if name not in plan.frozen}
    frozen_prefixes = tuple(f"{path}." for path in plan.frozen_modules)
    buffers = {name for name, _ in module.named_buffers() if not name.startswith(frozen_prefixes)}
    fixed = {k: v for k, v in module.state_dict().items() if k not in trainable and k not in buffers}
    description: dict[str, Any] = {
        "model": record(model),
        "end": feature_extractor.end,
        "before": feature_extractor.before,
        "preprocess": preprocess.to_dict(),
        "amp": str(amp_dtype),
        "versions": [torch.__version__, torchvision.__version__, timm.__version__],
    }
    info = {"model": model.name, "end": feature_extractor.end, "data": data, "size": preprocess.height}
    return FeatureStore(kind_folder("features") / store_key(description, fixed), feature_extractor.shape, dtype, info)
