"""Whether a run keeps its images decoded (`zoo.data.cache.cached_dataset`), and the moment in which they are."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from zoo import dist_env
from zoo.augment.build import Augment
from zoo.augment.fit import Fit
from zoo.augment.reduced import Reduced
from zoo.augment.view import View
from zoo.cache import clear_stores
from zoo.console import warn
from zoo.data import Data, ImageSource, Loader, UnreadableImage, make_loader
from zoo.data.cache.cached_dataset import CachedSource, fill, image_keys, images_folder, kept_view, open_images
from zoo.data.cache.image_store import ImageStore
from zoo.errors import DataError
from zoo.preprocess import Preprocess
from zoo.recipe import Recipe
from zoo.training.autotune.timings import recall, remember
from zoo.training.autotune.workers import same_threads, threads
from zoo.training.distributed import agree, gather_lists
from zoo.training.module_state import unchanged
from zoo.training.trainer import Trainer, total_loss
from zoo.workflows.finetune.components import augment_of
from zoo.workflows.finetune.session import Prepared

__all__ = ["Times", "decide_image_cache", "keep_images", "learning", "measure", "pays", "times_of"]

# Chosen where it makes an epoch so many times as fast, and spares so many seconds of the run: what is measured on a few
# images is not exact, and the disk has other uses.
_FASTER = 1.2
_SPARED = 10.0
# A step goes through the network forward and twice as long backward; validation does without the latter.
_FORWARD = 1 / 3
_DISK = 500e6  # bytes a second that a plain SSD writes
_TRIED = 6  # images of each part

Pixels = NDArray[np.uint8]


@dataclass(frozen=True)
class Times:
    """Seconds for an image: to learn from it, and to load it for training and validation, decoded now or before; on the
    CPU those of one core. *_bytes: of what is kept of it."""

    learn: float
    train: float
    train_kept: float
    val: float
    val_kept: float
    train_bytes: float
    val_bytes: float


def times_of(known: dict[str, Any] | None) -> Times | None:
    """None for what is no answer of ours."""
    try:
        return Times(**known) if known is not None else None
    except TypeError:
        return None


def pays(times: Times, images: tuple[int, int], epochs: int, *, at_once: int) -> tuple[bool, str]:
    """Whether keeping `images` (for training, for validation) decoded is worthwhile, and why (not).

    at_once: cores that load and learn; or, negative, loader processes beside a device that learns meanwhile; 0: one
    after the other.
    """

    def epoch(train: float, val: float) -> float:
        parts = (images[0], times.learn, train), (images[1], _FORWARD * times.learn, val)
        if at_once < 0:
            return sum(n * max(learn, load / -at_once) for n, learn, load in parts)
        return sum(n * (learn + load) for n, learn, load in parts) / max(at_once, 1)

    anew, kept = epoch(times.train, times.val), epoch(times.train_kept, times.val_kept)
    writing = (images[0] * times.train_bytes + images[1] * times.val_bytes) / _DISK
    spared = (epochs - 1) * (anew - kept) - writing
    said = f"{anew / kept:.1f}x as fast" if anew >= _FASTER * kept else f"{anew / kept:.2f}x as fast"
    if anew < _FASTER * kept:
        return False, f"keeping them would make an epoch {said}"
    if spared < _SPARED:
        return False, f"keeping them would spare {max(spared, 0):.0f} s"
    return True, f"an epoch should be {said}"


def learning(trainer: Trainer, images: Tensor, targets: Tensor) -> float:
    """Seconds that a step takes for an image, on the CPU those of one core; the better of two."""
    best = float("inf")
    with unchanged(trainer.module), same_threads():
        threads(1)
        for _ in range(3):
            start = _now(images.device)
            with trainer.engine.autocast():
                _, loss = total_loss(
                    trainer.module(trainer.normalize(images)), targets, trainer.loss, trainer.auxiliary
                )
            loss.backward()  # type: ignore[no-untyped-call]
            trainer.module.zero_grad(set_to_none=True)
            if images.device.type == "cuda":
                torch.cuda.synchronize(images.device)
            best = min(best, (_now(images.device) - start) / len(images))
    return best


def measure(
    data: Data, preprocess: Preprocess, augment: Augment, view: Fit | Reduced, learn: float, device: torch.device
) -> Times:
    """Load a few images of both parts as a loader does, decoded anew and from memory. Raises what reading them does."""
    with same_threads():
        threads(1)
        train = _load(data.train, preprocess, augment, view, device)
        val = _load(data.val, preprocess, None, Fit(preprocess), device)
    return Times(learn, *train[:2], *val[:2], train[2], val[2])


def _load(
    source: ImageSource, preprocess: Preprocess, augment: Augment | None, view: Fit | Reduced, device: torch.device
) -> tuple[float, float, float]:
    """Seconds an image decoded anew, from memory, and the bytes of what is kept of one."""
    places = np.unique(np.linspace(0, len(source) - 1, _TRIED).astype(np.int64))
    held = {int(place): _decode(source, int(place), view) for place in places}

    def seconds(read: ImageSource) -> float:
        loader = make_loader(
            read, preprocess=preprocess, batch_size=len(places), train=False, augment=augment, seed=0, workers=0,
            only=places,
        )  # fmt: skip
        next(iter(loader))  # builds what is built once
        start = _now(device)
        next(iter(loader))
        return (_now(device) - start) / len(places)

    sizes = [pixels.nbytes for pixels, _ in held.values()]
    return seconds(source), seconds(CachedSource(source, view, _Held(held))), float(np.mean(sizes))


def _decode(source: ImageSource, place: int, view: View) -> tuple[Pixels, tuple[int, int]]:
    whole = (0, 0)

    def choose(height: int, width: int) -> View:
        nonlocal whole
        whole = height, width
        return view

    return source.read(place, choose), whole


@dataclass(frozen=True)
class _Held:
    """A few decoded images in memory."""

    images: dict[int, tuple[Pixels, tuple[int, int]]]

    def get(self, index: int) -> tuple[Pixels, tuple[int, int]] | None:
        return self.images.get(index)


def _now(device: torch.device) -> float:
    """On the CPU the processor's time, which other programs hardly touch."""
    return time.process_time() if device.type == "cpu" else time.perf_counter()


# All decoded images together may take this much, and never more than a share of what is free on the disk.
_CAP = 10 << 30
_FREE_SHARE = 0.5
_ANEW = "images are decoded anew in each epoch: "

Part = tuple[ImageSource, Fit | Reduced, NDArray[np.uint64]]


def decide_image_cache(
    recipe: Recipe,
    data: Data,
    preprocess: Preprocess,
    trainer: Trainer,
    images: Tensor,
    targets: Tensor,
    *,
    learn: float | None,
    workers: int,
    keeps_features: bool,
    key: dict[str, Any],
) -> tuple[bool, str]:
    """Whether images are decoded once, and a sentence that says so or why not ("" where nobody would ask).

    images, targets: a few on the device, as the loss takes them. learn: seconds that a step takes for an image, where
    they are known (on the CPU those of one core). key: of the job; what is measured is remembered under it.
    """
    asked = recipe.data.image_cache
    if asked == "off" or (asked == "auto" and (data.train.in_memory or keeps_features or recipe.train.epochs < 2)):
        return False, ""
    if keeps_features:
        return False, f"{_ANEW}kept features stand in for them"
    parts = _parts(recipe, data, preprocess)
    if parts is None:
        return False, f"{_ANEW}they are in no files" if asked == "keep" else ""
    reduced = ", those for training reduced as far as random crops leave room" * isinstance(parts[0][1], Reduced)
    if asked == "keep":
        return True, f"images are decoded once{reduced}"
    device = trainer.engine.device
    key = {**key, "data": [data.name, len(data.train)], "augment": recipe.augment.model_dump(mode="json")}
    times = times_of(recall("images", key))
    if times is None:
        learn = learning(trainer, images, targets) if learn is None else learn
        augment = augment_of(recipe, data, preprocess)
        try:
            times = measure(data, preprocess, augment, parts[0][1], learn, device)
        except (UnreadableImage, DataError):
            return agree((False, f"{_ANEW}one that was tried cannot be read"))
        if dist_env.is_first():
            remember("images", key, asdict(times))
    many = len(data.train), len(data.val)
    at_once = dist_env.cores() if device.type == "cpu" else -workers
    good, said = pays(times, many, recipe.train.epochs, at_once=at_once)
    size = times.train_bytes * many[0] + times.val_bytes * many[1]
    if good and size > (room := _room()):
        good, said = False, f"they would take {size / 2**30:.1f} GiB, and {room / 2**30:.1f} GiB may be used"
    text = f"images are decoded once{reduced} ({size / 2**20:,.0f} MiB): " if good else _ANEW
    return agree((good, text + said))


def keep_images(prepared: Prepared, say: Callable[[str], None]) -> Prepared:
    """Decode what is not kept yet, and put it in the place of the files. What the disk refuses is decoded each time, to
    the same pixels."""
    recipe, data, images, judged = prepared.recipe, prepared.data, prepared.train, prepared.val
    if recipe.data.image_cache != "keep" or not isinstance(images, Loader) or not isinstance(judged, Loader):
        return prepared
    parts = _parts(recipe, data, prepared.preprocess)
    if parts is None:
        return prepared
    store = open_images(recipe.data.source, data.name)
    missing = sum(len(store.find(keys).missing) for _, _, keys in parts)
    if missing:
        say(f"decoding {missing:,} images once …")
        with same_threads():
            threads(1)  # in each of the threads that decode
            _fill(store, parts)
    gather_lists([missing])  # all have written their share
    store.refresh()
    train, val = (store.find(keys) for _, _, keys in parts)
    left, total = len(train.missing) + len(val.missing), len(data.train) + len(data.val)
    rest = f", {left:,} are decoded in each epoch" if left else ""
    say(f"images: {max(missing - left, 0):,} decoded, {total - missing:,} found in {store.folder}{rest}")
    (source, view, _), (val_source, val_view, _) = parts
    return replace(
        prepared,
        train=images.of(CachedSource(source, view, train)),
        val=judged.of(CachedSource(val_source, val_view, val)),
    )


def _fill(store: ImageStore, parts: tuple[Part, Part]) -> None:
    """Of several processes on a host each decodes its share."""
    number, of = dist_env.local_rank(), dist_env.local_count()
    if number == 0:
        if store.bytes > _CAP // 2:
            store.forget_others(np.concatenate([keys for _, _, keys in parts]))
        clear_stores("images", keep_bytes=_CAP, but=store.folder)
    room = min(_room(), max(_CAP - store.bytes, 0)) // of
    try:
        for source, view, keys in parts:
            places = [int(p) for p in store.find(keys).missing if p % of == number and keys[p].any()]
            room -= fill(store, source, view, keys, places, most=room)
    except OSError as e:
        warn(f"decoded images cannot be kept in {store.folder}: {e.strerror or e}; the rest is decoded in each epoch")
    if number == 0:
        clear_stores("images", keep_bytes=_CAP, but=store.folder)


def _parts(recipe: Recipe, data: Data, preprocess: Preprocess) -> tuple[Part, Part] | None:
    """Training and validation images: source, what is kept of them, keys. None if they lie in no files."""
    found: list[Part] = []
    for source, augment in ((data.train, augment_of(recipe, data, preprocess)), (data.val, None)):
        view = kept_view(preprocess, augment)
        keys = None if view is None else image_keys(source, view)
        if view is None or keys is None:
            return None
        found.append((source, view, keys))
    return found[0], found[1]


def _room() -> int:
    """Bytes that decoded images may take."""
    folder = images_folder()
    while not folder.exists():
        folder = folder.parent
    return min(_CAP, int(_FREE_SHARE * shutil.disk_usage(folder).free))
