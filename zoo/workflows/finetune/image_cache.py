"""Whether a run keeps its images decoded (`zoo.data.cache.cached_dataset`), and the moment in which they are."""

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
from zoo.errors import DataError
from zoo.preprocess import Preprocess
from zoo.recipe import Recipe
from zoo.training.autotune.timings import load_timing, save_timing
from zoo.training.autotune.workers import preserve_num_threads, threads
from zoo.training.distributed import broadcast_object, gather_object
from zoo.training.module_state import preserve_module_state
from zoo.training.trainer import Trainer, total_loss
from zoo.workflows.finetune.components import build_augment
from zoo.workflows.finetune.session import TrainingSession

__all__ = [
    "LoadingTimes",
    "apply_image_cache",
    "choose_image_cache",
    "measure_loading",
    "measure_step_seconds",
    "parse_times",
    "speedup_justifies_cache",
]

# Chosen where it makes an epoch so many times as fast, and spares so many seconds of the run: what is measured on a few
# images is not exact, and the disk has other uses.
_MIN_SPEEDUP = 1.2
_MIN_SECONDS_SAVED = 10.0
# A step goes through the network forward and twice as long backward; validation does without the latter.
_FORWARD_SHARE = 1 / 3
_DISK_BYTES_PER_SECOND = 500e6  # bytes a second that a plain SSD writes
_SAMPLE_IMAGES = 6  # images of each part


@dataclass(frozen=True)
class LoadingTimes:
    """Seconds for an image: to learn from it, and to load it for training and validation, decoded now or before; on the
    CPU those of one core. *_bytes: of what is kept of it."""

    step_seconds: float
    train: float
    train_cached: float
    val: float
    val_cached: float
    train_bytes: float
    val_bytes: float


def parse_times(cached: dict[str, Any] | None) -> LoadingTimes | None:
    """None for what is no answer of ours."""
    try:
        return LoadingTimes(**cached) if cached is not None else None
    except TypeError:
        return None


def speedup_justifies_cache(
    times: LoadingTimes, images: tuple[int, int], epochs: int, *, parallelism: int
) -> tuple[bool, str]:
    """Whether keeping `images` (for training, for validation) decoded is worthwhile, and why (not).

    parallelism: cores that load and learn; or, negative, loader processes beside a device that learns meanwhile; 0: one
    after the other.
    """

    def epoch(train: float, val: float) -> float:
        parts = (images[0], times.step_seconds, train), (images[1], _FORWARD_SHARE * times.step_seconds, val)
        if parallelism < 0:
            return sum(n * max(step_seconds, load / -parallelism) for n, step_seconds, load in parts)
        return sum(n * (step_seconds + load) for n, step_seconds, load in parts) / max(parallelism, 1)

    uncached, cached_seconds = epoch(times.train, times.val), epoch(times.train_cached, times.val_cached)
    write_seconds = (images[0] * times.train_bytes + images[1] * times.val_bytes) / _DISK_BYTES_PER_SECOND
    seconds_saved = (epochs - 1) * (uncached - cached_seconds) - write_seconds
    reason = (
        f"{uncached / cached_seconds:.1f}x as fast"
        if uncached >= _MIN_SPEEDUP * cached_seconds
        else f"{uncached / cached_seconds:.2f}x as fast"
    )
    if uncached < _MIN_SPEEDUP * cached_seconds:
        return False, f"keeping them would make an epoch {reason}"
    if seconds_saved < _MIN_SECONDS_SAVED:
        return False, f"keeping them would spare {max(seconds_saved, 0):.0f} s"
    return True, f"an epoch should be {reason}"


def measure_step_seconds(trainer: Trainer, images: Tensor, targets: Tensor) -> float:
    """Seconds that a step takes for an image, on the CPU those of one core; the better of two."""
    best = float("inf")
    with preserve_module_state(trainer.module), preserve_num_threads():
        threads(1)
        for _ in range(3):
            start = _clock(images.device)
            with trainer.accelerator.autocast():
                _, loss = total_loss(
                    trainer.module(trainer.normalize(images)), targets, trainer.loss, trainer.auxiliary
                )
            loss.backward()  # type: ignore[no-untyped-call]
            trainer.module.zero_grad(set_to_none=True)
            if images.device.type == "cuda":
                torch.cuda.synchronize(images.device)
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
    """Load a few images of both parts as a loader does, decoded anew and from memory. Raises what reading them does."""
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
    """Seconds an image decoded anew, from memory, and the bytes of what is kept of one."""
    indices = np.unique(np.linspace(0, len(source) - 1, _SAMPLE_IMAGES).astype(np.int64))
    decoded = {int(index): _decode(source, int(index), view) for index in indices}

    def seconds(read: ImageDataset) -> float:
        loader = make_loader(
            read, preprocess=preprocess, batch_size=len(indices), train=False, augment=augment, seed=0, workers=0,
            only=indices,
        )  # fmt: skip
        next(iter(loader))  # builds what is built once
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
    """On the CPU the processor's time, which other programs hardly touch."""
    return time.process_time() if device.type == "cpu" else time.perf_counter()


_NOT_CACHED = "images are decoded anew in each epoch: "

Part = tuple[ImageDataset, EvalView | Reduced, NDArray[np.uint64]]


def choose_image_cache(
    recipe: Recipe,
    data: Data,
    preprocess: Preprocess,
    trainer: Trainer,
    images: Tensor,
    targets: Tensor,
    *,
    step_seconds: float | None,
    workers: int,
    uses_feature_cache: bool,
    key: dict[str, Any],
) -> tuple[bool, str]:
    """Whether images are decoded once, and a sentence that says so or why not ("" where nobody would ask).

    images, targets: a few on the device, as the loss takes them. step_seconds: seconds that a step takes for an image,
    where they are known (on the CPU those of one core). key: of the job; what is measured is remembered under it.
    """
    setting = recipe.data.image_cache
    if setting == "off" or (
        setting == "auto" and (data.train.in_memory or uses_feature_cache or recipe.train.epochs < 2)
    ):
        return False, ""
    if uses_feature_cache:
        return False, f"{_NOT_CACHED}kept features stand in for them"
    parts = _cache_parts(recipe, data, preprocess)
    if parts is None:
        return False, f"{_NOT_CACHED}they are in no files" if setting == "on" else ""
    reduced = ", those for training reduced as far as random crops leave room" * isinstance(parts[0][1], Reduced)
    if setting == "on":
        return True, f"images are decoded once{reduced}"
    device = trainer.accelerator.device
    key = {**key, "data": [data.name, len(data.train)], "augment": recipe.augment.model_dump(mode="json")}
    times = parse_times(load_timing("images", key))
    if times is None:
        step_seconds = measure_step_seconds(trainer, images, targets) if step_seconds is None else step_seconds
        augment = build_augment(recipe, data, preprocess)
        try:
            times = measure_loading(data, preprocess, augment, parts[0][1], step_seconds, device)
        except (UnreadableImage, DataError):
            return broadcast_object((False, f"{_NOT_CACHED}one that was tried cannot be read"))
        if dist_env.is_main_process():
            save_timing("images", key, asdict(times))
    counts = len(data.train), len(data.val)
    parallelism = dist_env.cores() if device.type == "cpu" else -workers
    use_cache, reason = speedup_justifies_cache(times, counts, recipe.train.epochs, parallelism=parallelism)
    size = times.train_bytes * counts[0] + times.val_bytes * counts[1]
    if use_cache and size > (room := free_bytes("images")):
        use_cache, reason = False, f"they would take {size / 2**30:.1f} GiB, and {room / 2**30:.1f} GiB may be used"
    text = f"images are decoded once{reduced} ({size / 2**20:,.0f} MiB): " if use_cache else _NOT_CACHED
    return broadcast_object((use_cache, text + reason))


def apply_image_cache(session: TrainingSession, log: Callable[[str], None]) -> TrainingSession:
    """Decode what is not kept yet, and put it in the place of the files. What the disk refuses is decoded each time, to
    the same pixels."""
    recipe, data, images, val_loader = session.recipe, session.data, session.train, session.val
    if recipe.data.image_cache != "on" or not isinstance(images, Loader) or not isinstance(val_loader, Loader):
        return session
    parts = _cache_parts(recipe, data, session.preprocess)
    if parts is None:
        return session
    store = open_image_store(recipe.data.source, data.name)
    missing = sum(len(store.find(keys).missing) for _, _, keys in parts)
    if missing:
        log(f"decoding {missing:,} images once …")
        with preserve_num_threads():
            threads(1)  # in each of the threads that decode
            _fill(store, parts)
    gather_object([missing])  # all have written their share
    store.refresh()
    train, val = (store.find(keys) for _, _, keys in parts)
    left, total = len(train.missing) + len(val.missing), len(data.train) + len(data.val)
    rest = f", {left:,} are decoded in each epoch" if left else ""
    log(f"images: {max(missing - left, 0):,} decoded, {total - missing:,} found in {store.folder}{rest}")
    (source, view, _), (val_source, val_view, _) = parts
    return replace(
        session,
        train=images.of(CachedDataset(source, view, train)),
        val=val_loader.of(CachedDataset(val_source, val_view, val)),
    )


def _fill(store: ImageStore, parts: tuple[Part, Part]) -> None:
    """Of several processes on a host each decodes its share."""
    number, of = dist_env.local_rank(), dist_env.local_world_size()
    limit = CACHES["images"].max_bytes or 0
    if number == 0:
        if store.bytes > limit // 2:
            store.delete_others(np.concatenate([keys for _, _, keys in parts]))
        evict("images", exclude=store.folder)
    room = min(free_bytes("images"), max(limit - store.bytes, 0)) // of
    try:
        for source, view, keys in parts:
            indices = [int(p) for p in store.find(keys).missing if p % of == number and keys[p].any()]
            room -= fill(store, source, view, keys, indices, max_bytes=room)
    except OSError as e:
        warn(f"decoded images cannot be kept in {store.folder}: {e.strerror or e}; the rest is decoded in each epoch")
    if number == 0:
        evict("images", exclude=store.folder)


def _cache_parts(recipe: Recipe, data: Data, preprocess: Preprocess) -> tuple[Part, Part] | None:
    """Training and validation images: source, what is kept of them, keys. None if they lie in no files."""
    found: list[Part] = []
    for source, augment in ((data.train, build_augment(recipe, data, preprocess)), (data.val, None)):
        view = cache_view(preprocess, augment)
        keys = None if view is None else image_keys(source, view)
        if view is None or keys is None:
            return None
        found.append((source, view, keys))
    return found[0], found[1]
