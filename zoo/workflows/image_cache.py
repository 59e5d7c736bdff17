"""Whether a run keeps its images decoded (`zoo.data.cached_images`), and the moment in which they are."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import asdict, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from zoo import processes
from zoo.augment.fit import Fit
from zoo.augment.reduced import Reduced
from zoo.data import Data, ImageSource, Loader, UnreadableImage
from zoo.data.cached_images import CachedSource, fill, image_keys, images_folder, kept_view, open_images
from zoo.data.image_store import ImageStore
from zoo.errors import DataError
from zoo.output import warn
from zoo.preprocess import Preprocess
from zoo.recipe import Recipe
from zoo.training.distributed import agree, gather_lists
from zoo.training.loading import same_threads, threads
from zoo.training.measured import recall, remember
from zoo.training.stores import clear_stores
from zoo.training.trainer import Trainer
from zoo.workflows.image_times import learning, measure, pays, times_of
from zoo.workflows.parts import augment_of
from zoo.workflows.prepared import Prepared

__all__ = ["decide_image_cache", "keep_images"]

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
        if processes.is_first():
            remember("images", key, asdict(times))
    many = len(data.train), len(data.val)
    at_once = processes.cores() if device.type == "cpu" else -workers
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
    number, of = processes.local_rank(), processes.local_count()
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
