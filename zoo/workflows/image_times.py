"""What decoding costs a run, measured on a few images, and whether it pays to decode once."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from zoo.augment.build import Augment
from zoo.augment.fit import Fit
from zoo.augment.reduced import Reduced
from zoo.augment.view import View
from zoo.data import Data, ImageSource, make_loader
from zoo.data.cached_images import CachedSource
from zoo.preprocess import Preprocess
from zoo.training.loading import same_threads, threads
from zoo.training.trainer import Trainer, total_loss
from zoo.training.trial import unchanged

__all__ = ["Times", "learning", "measure", "pays", "times_of"]

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
