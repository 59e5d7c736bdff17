"""`zoo predict`: predict classes, labels or values of images, in order, as a stream.

for p in zoo.predict("runs/resnet34-digits", ["photos/"]):
    print(p.path, p.label, p.probability)
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator
from itertools import chain, islice
from typing import Any

import numpy as np
import torch

from zoo.arrays import Pixels
from zoo.data import BadFile, ImageBatch, fit, open_images
from zoo.errors import DataError, UsageError
from zoo.preprocess import Preprocess
from zoo.tasks import Prediction, get_task
from zoo.tasks.base import MakePrediction
from zoo.training.device import pick_device
from zoo.training.inference import Normalize
from zoo.training.microbatch import MicroBatcher, raise_on_oom
from zoo.workflows.load_run import LoadedRun, RunLike, load_run

PathLike = str | os.PathLike[str]


def predict(
    run: RunLike,
    images: PathLike | Iterable[PathLike] | Iterable[Pixels],
    *,
    top: int | None = None,
    threshold: float | None = None,
    batch_size: int = 32,
    device: str = "auto",
    on_bad: Callable[[BadFile], None] | None = None,
    on_note: Callable[[str], None] | None = None,
) -> Iterator[Prediction]:
    """Yield a prediction for each image, in order, one batch at a time: any number of images fits in memory.

    Args:
        run: a run directory.
        images: a file, a folder (all images below it, sorted), or several of both; "-" reads paths from stdin, one per
            line. Or arrays (H, W, C) uint8 RGB with the model's number of channels, named "0", "1", ….
        top: number of classes or labels per image; by default 1 for single-label runs.
        threshold: multi-label: smallest probability of a predicted label; by default 0.5, without `top`.
        batch_size: images per forward pass.
        device: "auto", "cpu", "cuda", "cuda:N" or "mps".
        on_bad: called for each file that cannot be read; without it the first such file raises DataError.
        on_note: called with warnings, for example that the run has not finished.

    Raises:
        UsageError: at the call, an invalid device or number, or an option that the task of the run does not have.
        DataError: at the call, not a run; while iterating, an unreadable file, or no image at all.
        WeightsError: at the call, the run is damaged.
    """
    if top is not None and top < 1:
        raise UsageError(f"--top {top} is less than 1", "give 1 or more")
    if threshold is not None and not 0 <= threshold <= 1:
        raise UsageError(f"--threshold {threshold:g} is not a probability", "give a number from 0 to 1")
    if batch_size < 1:
        raise UsageError(f"--batch-size {batch_size} is less than 1", "give 1 or more")
    where = pick_device(device)
    loaded = load_run(run)
    make_prediction = get_task(loaded.task).prediction_maker(loaded.classes, top, threshold)
    if loaded.note and on_note is not None:
        on_note(loaded.note)
    batches = _batches([images] if isinstance(images, str | os.PathLike) else images, loaded.preprocess, batch_size)
    return _stream(loaded, batches, make_prediction, device=where, on_bad=on_bad)


def _stream(
    loaded: LoadedRun,
    batches: Iterator[ImageBatch],
    make_prediction: MakePrediction,
    *,
    device: torch.device,
    on_bad: Callable[[BadFile], None] | None,
) -> Iterator[Prediction]:
    module, normalize = loaded.model.module.to(device), Normalize(loaded.preprocess).to(device)
    task, micro_batches = get_task(loaded.task), MicroBatcher()
    seen = 0
    for batch in batches:
        seen += len(batch.paths) + len(batch.problems)
        for problem in batch.problems:
            if on_bad is None:
                raise DataError(f"cannot read {problem}", "replace or remove the file, or pass on_bad")
            on_bad(problem)
        if not batch.paths:
            continue

        def predict_part(part: slice, images: torch.Tensor = batch.images) -> torch.Tensor:
            return task.activate(module(normalize(images[part].to(device)))).cpu()

        with raise_on_oom(device, UsageError), torch.inference_mode():
            rows = torch.cat(micro_batches.each(len(batch.images), predict_part))
        for path, row in zip(batch.paths, rows, strict=True):
            yield make_prediction(path, row)
    if not seen:
        raise DataError("no image to predict", "give files or folders of images, or - to read paths from stdin")


def _batches(images: Iterable[Any], preprocess: Preprocess, batch_size: int) -> Iterator[ImageBatch]:
    """Batches of paths or of arrays; the first item decides which."""
    items = iter(images)
    first = list(islice(items, 1))
    if first and isinstance(first[0], np.ndarray):
        return _from_arrays(chain(first, items), preprocess, batch_size)
    return open_images((os.fspath(p) for p in chain(first, items)), preprocess=preprocess, batch_size=batch_size)


def _from_arrays(images: Iterator[Pixels], preprocess: Preprocess, batch_size: int) -> Iterator[ImageBatch]:
    done = 0
    while chunk := list(islice(images, batch_size)):
        valid = [_validate_array(image, done + i, preprocess.channels) for i, image in enumerate(chunk)]
        fitted = [fit(image, preprocess) for image in valid]
        names = tuple(str(done + i) for i in range(len(chunk)))
        yield ImageBatch(names, torch.from_numpy(np.stack(fitted)).permute(0, 3, 1, 2), ())
        done += len(chunk)


def _validate_array(image: Pixels, number: int, channels: int) -> Pixels:
    if image.ndim == 2 and channels == 1:
        image = image[:, :, None]
    if image.ndim != 3 or image.shape[2] != channels or image.dtype != np.uint8 or 0 in image.shape:
        hint = "give arrays of its channels, or files"
        if channels in (1, 3):
            hint = f"convert it, with Pillow: np.asarray(image.convert({'L' if channels == 1 else 'RGB'!r}))"
        what = f"image {number} is {image.dtype} {image.shape}; the model takes uint8 (H, W, {channels})"
        raise DataError(what, hint)
    return image
