"""Whether a run caches its decoded images (`zoo.data.cache.cached_dataset`), and their decoding before it does."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from zoo import dist_env
from zoo.arrays import Pixels
from zoo.augment.build import Augment
from zoo.augment.fit import EvalView
from zoo.augment.reduced import Reduced
from zoo.augment.view import View
from zoo.cache import CACHES, evict, free_bytes
from zoo.console import warn
from zoo.data import Data, ImageDataset, Loader, UnreadableImage, make_loader
from zoo.data.cache.cached_dataset import (
    CachedDataset,
    cache_view,
    fill,
    image_keys,
    open_image_store,
)
from zoo.data.cache.image_store import ImageStore
from zoo.data.loader import LoaderOptions
from zoo.errors import DataError
from zoo.preprocess import Preprocess
from zoo.recipe import Recipe
from zoo.training.autotune.timings import load_timing, save_timing, synchronize
from zoo.training.autotune.workers import preserve_num_threads, threads
from zoo.training.distributed import broadcast_object, gather_object
from zoo.training.module_state import preserve_module_state
from zoo.training.trainer import Trainer
from zoo.workflows.finetune.autotune import forward_backward
from zoo.workflows.finetune.inputs import build_augment
from zoo.workflows.finetune.session import BuiltModel, TrainingSession

# Images are cached if that makes an epoch this much faster, and saves this many seconds of the run: times measured on a
# few images are not exact, and the disk has other uses.
_MIN_SPEEDUP = 1.2
_MIN_SECONDS_SAVED = 10.0
# A training step takes a forward pass and a backward pass of twice the time; validation takes the forward pass only.
_FORWARD_SHARE = 1 / 3
_DISK_BYTES_PER_SECOND = 500e6  # that a plain SSD writes
_SAMPLE_IMAGES = 6  # of each split


@dataclass(frozen=True)
class LoadingTimes:
    """Seconds per image, on the CPU those of one core: of a training step, and of loading for training and validation,
    from the file and from the cache. *_bytes: of a cached image."""

    step_seconds: float
    train: float
    train_cached: float
    val: float
    val_cached: float
    train_bytes: float
    val_bytes: float


def parse_times(cached: dict[str, Any] | None) -> LoadingTimes | None:
    """None if nothing is cached, or if another version wrote it."""
    try:
        return LoadingTimes(**cached) if cached is not None else None
    except TypeError:
        return None


def speedup_justifies_cache(
    times: LoadingTimes, images: tuple[int, int], epochs: int, *, parallelism: int
) -> tuple[bool, str]:
    """Whether caching `images` (training, validation) is worth it, and why (not).

    parallelism: number of cores that load and train; or, negative, number of loader processes next to a device that
    trains at the same time; 0: loading and training take turns.
    """

    def epoch(train: float, val: float) -> float:
        splits = (images[0], times.step_seconds, train), (images[1], _FORWARD_SHARE * times.step_seconds, val)
        if parallelism < 0:
            return sum(n * max(step_seconds, load / -parallelism) for n, step_seconds, load in splits)
        return sum(n * (step_seconds + load) for n, step_seconds, load in splits) / max(parallelism, 1)

    uncached, cached_seconds = epoch(times.train, times.val), epoch(times.train_cached, times.val_cached)
    write_seconds = (images[0] * times.train_bytes + images[1] * times.val_bytes) / _DISK_BYTES_PER_SECOND
    seconds_saved = (epochs - 1) * (uncached - cached_seconds) - write_seconds
    speedup = uncached / cached_seconds
    if uncached < _MIN_SPEEDUP * cached_seconds:
        return False, f"an epoch would be only {speedup:.2f}x as fast"
    if seconds_saved < _MIN_SECONDS_SAVED:
        return False, f"it would save {max(seconds_saved, 0):.0f} s"
    return True, f"an epoch should be {speedup:.1f}x as fast"


def measure_step_seconds(trainer: Trainer, images: Tensor, targets: Tensor) -> float:
    """Seconds of a training step per image, on the CPU those of one core; the best of three."""
    best = float("inf")
    with preserve_module_state(trainer.module), preserve_num_threads():
        threads(1)
        for _ in range(3):
            start = _clock(images.device)
            forward_backward(trainer, images, targets, trainer.module)
            synchronize(images.device)
            best = min(best, (_clock(images.device) - start) / len(images))
    return best


def measure_loading(
    data: Data,
    preprocess: Preprocess,
    augment: Augment,
    view: EvalView | Reduced,
    step_seconds: float,
    device: torch.device,
) -> LoadingTimes:
    """Times of loading a few images of both splits, from files and from memory. Raises what reading them raises."""
    with preserve_num_threads():
        threads(1)
        train = _measure_source(data.train, preprocess, augment, view, device)
        val = _measure_source(data.val, preprocess, None, EvalView(preprocess), device)
    return LoadingTimes(step_seconds, *train[:2], *val[:2], train[2], val[2])


def _measure_source(
    source: ImageDataset,
    preprocess: Preprocess,
    augment: Augment | None,
    view: EvalView | Reduced,
    device: torch.device,
) -> tuple[float, float, float]:
    """Seconds per image from files and from memory, and the bytes of a cached image."""
    indices = np.unique(np.linspace(0, len(source) - 1, _SAMPLE_IMAGES).astype(np.int64))
    decoded = {int(index): _decode(source, int(index), view) for index in indices}

    def seconds(read: ImageDataset) -> float:
        loader = make_loader(
            read, preprocess=preprocess, batch_size=len(indices), train=False, augment=augment, seed=0, workers=0,
            options=LoaderOptions(indices=indices),
        )  # fmt: skip
        next(iter(loader))  # warm-up
        start = _clock(device)
        next(iter(loader))
        return (_clock(device) - start) / len(indices)

    sizes = [pixels.nbytes for pixels, _ in decoded.values()]
    return seconds(source), seconds(CachedDataset(source, view, _InMemoryImages(decoded))), float(np.mean(sizes))


def _decode(source: ImageDataset, index: int, view: View) -> tuple[Pixels, tuple[int, int]]:
    full_size = (0, 0)

    def choose(height: int, width: int) -> View:
        nonlocal full_size
        full_size = height, width
        return view

    return source.read(index, choose), full_size


@dataclass(frozen=True)
class _InMemoryImages:
    """A few decoded images in memory."""

    images: dict[int, tuple[Pixels, tuple[int, int]]]

    def get(self, index: int) -> tuple[Pixels, tuple[int, int]] | None:
        return self.images.get(index)


def _clock(device: torch.device) -> float:
    """On the CPU the process time, which other programs hardly change."""
    return time.process_time() if device.type == "cpu" else time.perf_counter()


_OFF = "image cache off: "

# Source, its cached view, and the keys of its images.
CacheSplit = tuple[ImageDataset, EvalView | Reduced, NDArray[np.uint64]]


def choose_image_cache(
    recipe: Recipe,
    built: BuiltModel,
    trainer: Trainer,
    *,
    step_seconds: float | None,
    workers: int,
    uses_feature_cache: bool,
    key: dict[str, Any],
) -> tuple[bool, str]:
    """Whether decoded images are cached, and a sentence about it ("" if the recipe cannot use a cache).

    step_seconds: of a training step per image, if it is known (on the CPU of one core). key: of the timing cache.
    """
    setting, data = recipe.data.image_cache, built.data
    if setting == "off" or (
        setting == "auto" and (data.train.in_memory or uses_feature_cache or recipe.train.epochs < 2)
    ):
        return False, ""
    if uses_feature_cache:
        return False, f"{_OFF}the run trains on cached features"
    splits = _cache_splits(recipe, data, built.preprocess)
    if splits is None:
        return False, f"{_OFF}the images are not files" if setting == "on" else ""
    reduced = ", training images reduced as far as random crops allow" * isinstance(splits[0][1], Reduced)
    if setting == "on":
        return True, f"image cache on{reduced}"
    key = {**key, "data": [data.name, len(data.train)], "augment": recipe.augment.model_dump(mode="json")}
    times = parse_times(load_timing("images", key))
    if times is None:
        try:
            times = _measure_times(recipe, built, trainer, splits[0][1], step_seconds)
        except (UnreadableImage, DataError):
            return broadcast_object((False, f"{_OFF}a sample image cannot be read"))
        if dist_env.is_main_process():
            save_timing("images", key, asdict(times))
    counts = len(data.train), len(data.val)
    parallelism = dist_env.cores() if built.device.type == "cpu" else -workers
    use_cache, reason = speedup_justifies_cache(times, counts, recipe.train.epochs, parallelism=parallelism)
    size = times.train_bytes * counts[0] + times.val_bytes * counts[1]
    if use_cache and size > (available := free_bytes("images")):
        use_cache = False
        reason = f"images would take {size / 2**30:.1f} GiB, and {available / 2**30:.1f} GiB are available"
    text = f"image cache on{reduced} ({size / 2**20:,.0f} MiB): " if use_cache else _OFF
    return broadcast_object((use_cache, text + reason))


def _measure_times(
    recipe: Recipe, built: BuiltModel, trainer: Trainer, view: EvalView | Reduced, step_seconds: float | None
) -> LoadingTimes:
    if step_seconds is None:
        step_seconds = measure_step_seconds(trainer, built.sample.images, built.sample.loss_targets)
    augment = build_augment(recipe, built.data, built.preprocess)
    return measure_loading(built.data, built.preprocess, augment, view, step_seconds, built.device)


def apply_image_cache(session: TrainingSession, log: Callable[[str], None]) -> TrainingSession:
    """Decode the images that are not cached yet, and let the session read the cache. Images that the disk refuses are
    decoded in each epoch, to the same pixels."""
    recipe, data, train, val = session.recipe, session.data, session.train, session.val
    if recipe.data.image_cache != "on" or not isinstance(train, Loader) or not isinstance(val, Loader):
        return session
    splits = _cache_splits(recipe, data, session.preprocess)
    if splits is None:
        return session
    store = open_image_store(recipe.data.source, data.name)
    missing = sum(len(store.find(keys).missing) for _, _, keys in splits)
    if missing:
        log(f"image cache: decoding {missing:,} images …")
        with preserve_num_threads():
            threads(1)  # in each of the threads that decode
            _fill(store, splits)
    gather_object([missing])  # wait until all processes have written
    store.refresh()
    (source, view, keys), (val_source, val_view, val_keys) = splits
    cached, val_cached = store.find(keys), store.find(val_keys)
    left, total = len(cached.missing) + len(val_cached.missing), len(data.train) + len(data.val)
    rest = f", {left:,} not cached and decoded in each epoch" if left else ""
    log(f"image cache: {max(missing - left, 0):,} decoded, {total - missing:,} found in {store.folder}{rest}")
    return replace(
        session,
        train=train.of(CachedDataset(source, view, cached)),
        val=val.of(CachedDataset(val_source, val_view, val_cached)),
    )


def _fill(store: ImageStore, splits: tuple[CacheSplit, CacheSplit]) -> None:
    """Each process of a host decodes its share."""
    number, of = dist_env.local_rank(), dist_env.local_world_size()
    limit = CACHES["images"].max_bytes or 0
    if number == 0:
        if store.bytes > limit // 2:
            store.delete_others(np.concatenate([keys for _, _, keys in splits]))
        evict("images", exclude=store.folder)
    available = min(free_bytes("images"), max(limit - store.bytes, 0)) // of
    try:
        for source, view, keys in splits:
            indices = [int(i) for i in store.find(keys).missing if i % of == number and keys[i].any()]
            available -= fill(store, source, view, keys, indices, max_bytes=available)
    except OSError as e:
        warn(f"cannot write the image cache {store.folder}: {e.strerror or e}; the rest is decoded in each epoch")
    if number == 0:
        evict("images", exclude=store.folder)


def _cache_splits(recipe: Recipe, data: Data, preprocess: Preprocess) -> tuple[CacheSplit, CacheSplit] | None:
    """Training and validation images. None if the images are not files."""
    found: list[CacheSplit] = []
    for source, augment in ((data.train, build_augment(recipe, data, preprocess)), (data.val, None)):
        view = cache_view(preprocess, augment)
        keys = None if view is None else image_keys(source, view)
        if view is None or keys is None:
            return None
        found.append((source, view, keys))
    return found[0], found[1]
