"""`zoo predict`: images → classes, in order, as a stream.

    for p in zoo.predict("runs/resnet34-digits", ["photos/"]):
        print(p.path, p.label, p.probability)

What is an image, and how it becomes the model's input, is the data room's business.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import chain, islice
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from zoo.data import BadFile, ImageBatch, fit, open_images
from zoo.errors import DataError, UsageError
from zoo.preprocess import Preprocess
from zoo.training.device import pick_device
from zoo.training.inference import Normalize
from zoo.workflows.restore import Restored, RunLike, enough_memory, restore

__all__ = ["Prediction", "predict"]

PathLike = str | os.PathLike[str]
Pixels = NDArray[np.uint8]


@dataclass(frozen=True)
class Prediction:
    """top: (class, probability) pairs, the most probable first; the probabilities of all classes sum to 1."""

    path: str
    top: tuple[tuple[str, float], ...]

    @property
    def label(self) -> str:
        return self.top[0][0]

    @property
    def probability(self) -> float:
        return self.top[0][1]

    def to_dict(self) -> dict[str, Any]:
        return {
            "path": self.path,
            "label": self.label,
            "probability": self.probability,
            "top": [{"label": label, "probability": p} for label, p in self.top],
        }


def predict(
    run: RunLike,
    images: PathLike | Iterable[PathLike] | Iterable[Pixels],
    *,
    top: int = 1,
    batch_size: int = 32,
    device: str = "auto",
    on_bad: Callable[[BadFile], None] | None = None,
    on_note: Callable[[str], None] | None = None,
) -> Iterator[Prediction]:
    """Predictions in the order of `images`, one batch after the other, so that any number of images fits in memory.

    images: a file, a folder (every image below it, sorted), or several of both; "-" reads paths from stdin, one a
    line. Or arrays (H, W, C) uint8, RGB, C as the model's, which are then called "0", "1", … top: so many classes for
    each, at most all. on_bad is called for a file that cannot be read, which is then left out; without it the first one
    raises. on_note is given what is worth saying, as that the run has not finished.

    Raises, at the call, UsageError, DataError and WeightsError for a bad run, device or number; while iterating,
    DataError for an unreadable file without `on_bad`, or if there was no image at all.
    """
    if top < 1:
        raise UsageError(f"--top {top} is less than 1", "give 1 or more")
    if batch_size < 1:
        raise UsageError(f"--batch-size {batch_size} is less than 1", "give 1 or more")
    where = pick_device(device)
    restored = restore(run)
    if restored.note and on_note is not None:
        on_note(restored.note)
    batches = _batches([images] if isinstance(images, str | os.PathLike) else images, restored.preprocess, batch_size)
    most = min(top, len(restored.classes))
    return _stream(restored, batches, top=most, device=where, batch_size=batch_size, on_bad=on_bad)


def _stream(
    restored: Restored,
    batches: Iterator[ImageBatch],
    *,
    top: int,
    device: torch.device,
    batch_size: int,
    on_bad: Callable[[BadFile], None] | None,
) -> Iterator[Prediction]:
    module, normalize = restored.model.module.to(device), Normalize(restored.preprocess).to(device)
    seen = 0
    for batch in batches:
        seen += len(batch.paths) + len(batch.problems)
        for problem in batch.problems:
            if on_bad is None:
                raise DataError(f"cannot read {problem}", "replace or remove the file, or give on_bad")
            on_bad(problem)
        if not batch.paths:
            continue
        with enough_memory(device, batch_size), torch.inference_mode():
            probabilities = module(normalize(batch.images.to(device))).float().softmax(1).cpu()
        values, indices = probabilities.topk(top, dim=1)
        for path, shares, numbers in zip(batch.paths, values.tolist(), indices.tolist(), strict=True):
            yield Prediction(path, tuple((restored.classes[i], p) for i, p in zip(numbers, shares, strict=True)))
    if not seen:
        raise DataError("no image to predict", "give files or folders of images, or - to read paths from stdin")


def _batches(images: Iterable[Any], preprocess: Preprocess, batch_size: int) -> Iterator[ImageBatch]:
    """Of paths or of arrays; the first item decides."""
    items = iter(images)
    first = list(islice(items, 1))
    if first and isinstance(first[0], np.ndarray):
        return _from_arrays(chain(first, items), preprocess, batch_size)
    return open_images((os.fspath(p) for p in chain(first, items)), preprocess=preprocess, batch_size=batch_size)


def _from_arrays(images: Iterator[Pixels], preprocess: Preprocess, batch_size: int) -> Iterator[ImageBatch]:
    done = 0
    while chunk := list(islice(images, batch_size)):
        fitted = [fit(_checked(image, done + i, preprocess.channels), preprocess) for i, image in enumerate(chunk)]
        names = tuple(str(done + i) for i in range(len(chunk)))
        yield ImageBatch(names, torch.from_numpy(np.stack(fitted)).permute(0, 3, 1, 2), ())
        done += len(chunk)


def _checked(image: Pixels, number: int, channels: int) -> Pixels:
    if image.ndim == 2 and channels == 1:
        image = image[:, :, None]
    if image.ndim != 3 or image.shape[2] != channels or image.dtype != np.uint8 or 0 in image.shape:
        raise DataError(
            f"image {number} is {image.dtype} {image.shape}; the model takes uint8 (H, W, {channels})",
            f"convert it, with Pillow: np.asarray(image.convert({'L' if channels == 1 else 'RGB'!r}))",
        )
    return image
