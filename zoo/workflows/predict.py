"""`zoo predict`: images → classes, labels or numbers, in order, as a stream.

    for p in zoo.predict("runs/resnet34-digits", ["photos/"]):
        print(p.path, p.label, p.probability)

What is an image, and how it becomes the model's input, is the data room's business.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import chain, islice
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from zoo.data import BadFile, ImageBatch, fit, open_images
from zoo.errors import DataError, UsageError
from zoo.preprocess import Preprocess
from zoo.tasks import TaskName
from zoo.training.device import pick_device
from zoo.training.inference import Normalize, activate
from zoo.training.microbatch import MicroBatcher, raise_on_oom
from zoo.workflows.load_run import LoadedRun, RunLike, load_run

__all__ = ["Prediction", "predict"]

PathLike = str | os.PathLike[str]
Pixels = NDArray[np.uint8]


@dataclass(frozen=True)
class Prediction:
    """What a run says of one image.

    top: (class, probability) pairs, the most probable first. A single-label run's probabilities of all classes sum to
    1; of a multi-label run these are the labels that the image has, perhaps none. values: a regression run's numbers
    by target name, in the user's units. Each is empty where the task has no such thing.
    """

    path: str
    task: TaskName
    top: tuple[tuple[str, float], ...] = ()
    values: Mapping[str, float] = field(default_factory=dict)

    @property
    def label(self) -> str:
        """The most probable one. Raises IndexError if `top` is empty."""
        return self.top[0][0]

    @property
    def probability(self) -> float:
        """That of `label`."""
        return self.top[0][1]

    @property
    def labels(self) -> tuple[str, ...]:
        """The names in `top`."""
        return tuple(label for label, _ in self.top)

    def to_dict(self) -> dict[str, Any]:
        if self.task == "regression":
            return {"path": self.path, "values": dict(self.values)}
        pairs = [{"label": label, "probability": p} for label, p in self.top]
        if self.task == "multi-label":
            return {"path": self.path, "labels": pairs}
        return {"path": self.path, "label": self.label, "probability": self.probability, "top": pairs}


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
    """Predictions in the order of `images`, one batch after the other, so that any number of images fits in memory.

    images: a file, a folder (every image below it, sorted), or several of both; "-" reads paths from stdin, one a
    line. Or arrays (H, W, C) uint8, RGB, C as the model's, which are then called "0", "1", … top: so many classes or
    labels for each, at most all; 1 for a single-label run if left out. threshold: a multi-label run gives the labels
    with at least this probability, 0.5 if left out, unless `top` is given. on_bad is called for a file that cannot be
    read, which is then left out; without it the first one raises. on_note is given what is worth saying, as that the
    run has not finished.

    Raises, at the call, UsageError, DataError and WeightsError for a bad run, device or number, or an option that the
    run's task has no use for; while iterating, DataError for an unreadable file without `on_bad`, or if there was no
    image at all.
    """
    if top is not None and top < 1:
        raise UsageError(f"--top {top} is less than 1", "give 1 or more")
    if threshold is not None and not 0 <= threshold <= 1:
        raise UsageError(f"--threshold {threshold:g} is no probability", "give a number from 0 to 1")
    if batch_size < 1:
        raise UsageError(f"--batch-size {batch_size} is less than 1", "give 1 or more")
    where = pick_device(device)
    loaded = load_run(run)
    convert = _make_converter(loaded.task, loaded.classes, top, threshold)
    if loaded.note and on_note is not None:
        on_note(loaded.note)
    batches = _batches([images] if isinstance(images, str | os.PathLike) else images, loaded.preprocess, batch_size)
    return _stream(loaded, batches, convert, device=where, on_bad=on_bad)


PredictionConverter = Callable[[str, Tensor], Prediction]


def _make_converter(
    task: TaskName, classes: tuple[str, ...], top: int | None, threshold: float | None
) -> PredictionConverter:
    """What makes a prediction of a path and (K,) probabilities or numbers. Raises UsageError if an option has no
    meaning for the task."""
    if threshold is not None and task != "multi-label":
        raise UsageError(f"--threshold is for multi-label runs; this is a {task} run", "leave it out")
    if task == "regression":
        if top is not None:
            raise UsageError("--top is for classes and labels; this run predicts numbers", "leave it out")
        return lambda path, row: Prediction(path, task, values=dict(zip(classes, row.tolist(), strict=True)))
    if threshold is not None and top is not None:
        raise UsageError("--top and --threshold exclude each other", "choose one")
    max_labels = min(top or 1, len(classes)) if top is not None or task == "single-label" else len(classes)
    min_probability = (0.5 if threshold is None else threshold) if task == "multi-label" and top is None else 0.0

    def convert(path: str, row: Tensor) -> Prediction:
        values, indices = row.topk(max_labels)
        pairs = zip(indices.tolist(), values.tolist(), strict=True)
        # A NaN is not less: the probabilities of a broken model stay to be seen.
        return Prediction(path, task, tuple((classes[i], p) for i, p in pairs if not p < min_probability))

    return convert


def _stream(
    loaded: LoadedRun,
    batches: Iterator[ImageBatch],
    convert: PredictionConverter,
    *,
    device: torch.device,
    on_bad: Callable[[BadFile], None] | None,
) -> Iterator[Prediction]:
    module, normalize = loaded.model.module.to(device), Normalize(loaded.preprocess).to(device)
    micro_batches = MicroBatcher()
    seen = 0
    for batch in batches:
        seen += len(batch.paths) + len(batch.problems)
        for problem in batch.problems:
            if on_bad is None:
                raise DataError(f"cannot read {problem}", "replace or remove the file, or give on_bad")
            on_bad(problem)
        if not batch.paths:
            continue

        def predict_part(part: slice, images: torch.Tensor = batch.images) -> torch.Tensor:
            return activate(module(normalize(images[part].to(device))), loaded.task).cpu()

        with raise_on_oom(device, UsageError), torch.inference_mode():
            rows = torch.cat(micro_batches.each(len(batch.images), predict_part))
        for path, row in zip(batch.paths, rows, strict=True):
            yield convert(path, row)
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
        fitted = [
            fit(_validate_array(image, done + i, preprocess.channels), preprocess) for i, image in enumerate(chunk)
        ]
        names = tuple(str(done + i) for i in range(len(chunk)))
        yield ImageBatch(names, torch.from_numpy(np.stack(fitted)).permute(0, 3, 1, 2), ())
        done += len(chunk)


def _validate_array(image: Pixels, number: int, channels: int) -> Pixels:
    if image.ndim == 2 and channels == 1:
        image = image[:, :, None]
    if image.ndim != 3 or image.shape[2] != channels or image.dtype != np.uint8 or 0 in image.shape:
        raise DataError(
            f"image {number} is {image.dtype} {image.shape}; the model takes uint8 (H, W, {channels})",
            f"convert it, with Pillow: np.asarray(image.convert({'L' if channels == 1 else 'RGB'!r}))"
            if channels in (1, 3)
            else "give arrays of its channels, or files",
        )
    return image
