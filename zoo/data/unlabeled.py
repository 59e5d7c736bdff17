"""Images without labels, for prediction: paths as a user types them → batches, bad files beside the good ones."""

from __future__ import annotations

import os
import sys
from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice

import numpy as np
import torch
from numpy.typing import NDArray

from zoo.augment.fit import EvalView
from zoo.data.dataset import BadFile
from zoo.data.decode.read import UnreadableImage, read_image
from zoo.data.sources.scan import scan_folder
from zoo.dist_env import cores
from zoo.preprocess import Preprocess

__all__ = ["ImageBatch", "iter_paths", "open_images"]

ReadResult = NDArray[np.uint8] | BadFile


@dataclass(frozen=True)
class ImageBatch:
    """paths: N names, in the order given. images: (N, C, H, W) uint8, the evaluation view, NHWC in memory. problems:
    files met on the way that hold no readable image; they are in neither of the two."""

    paths: tuple[str, ...]
    images: torch.Tensor
    problems: tuple[BadFile, ...]


def iter_paths(args: Iterable[str]) -> Iterator[str | BadFile]:
    """Paths of images, lazily: a file is itself, a folder every image below it (sorted), "-" the lines of stdin.

    What is no path is yielded too, as reading it tells why; what a folder holds under an image's name without
    being a file comes as a BadFile.
    """
    for arg in args:
        if arg == "-":
            for line in sys.stdin:
                path = line.rstrip("\r\n")
                if path:
                    yield from _expand(path)
        else:
            yield from _expand(arg)


def _expand(path: str) -> Iterator[str | BadFile]:
    if not os.path.isdir(path):
        yield path
        return
    scan = scan_folder(path)
    if not len(scan) and not scan.bad:
        yield BadFile(path, "a folder without images")
    yield from (os.path.join(path, name) for name in scan.names)
    yield from scan.bad
    yield from scan.links


def open_images(paths: Iterable[str], *, preprocess: Preprocess, batch_size: int) -> Iterator[ImageBatch]:
    """The images at `paths` (as `iter_paths` takes them) in batches, read by a thread a core ahead of the caller.

    A file that cannot be read is reported in its batch's `problems`, and the batch is as much smaller. Nothing is read
    before the first batch is asked for, and no more than one batch ahead, so that a pipe may stay open.
    """
    found = iter_paths(paths)
    with ThreadPoolExecutor(cores()) as pool:
        pending: deque[tuple[str, Future[ReadResult] | BadFile]] = deque()

        def submit(path: str | BadFile) -> tuple[str, Future[ReadResult] | BadFile]:
            return (path.path, path) if isinstance(path, BadFile) else (path, pool.submit(_read, path, preprocess))

        while True:
            pending.extend(submit(p) for p in islice(found, 2 * batch_size - len(pending)))
            if not pending:
                return
            batch = [pending.popleft() for _ in range(min(batch_size, len(pending)))]
            yield _batch(batch, preprocess)


def _read(path: str, preprocess: Preprocess) -> ReadResult:
    try:
        return read_image(path, preprocess.channels, lambda height, width: EvalView(preprocess), preprocess.levels)
    except UnreadableImage as e:
        return BadFile(e.path, e.reason)


def _batch(items: list[tuple[str, Future[ReadResult] | BadFile]], preprocess: Preprocess) -> ImageBatch:
    paths, images, problems = [], [], []
    for path, item in items:
        image = item if isinstance(item, BadFile) else item.result()
        if isinstance(image, BadFile):
            problems.append(image)
        else:
            paths.append(path)
            images.append(image)
    shape = (0, preprocess.height, preprocess.width, preprocess.channels)
    stacked = np.stack(images) if images else np.empty(shape, np.uint8)
    return ImageBatch(tuple(paths), torch.from_numpy(stacked).permute(0, 3, 1, 2), tuple(problems))
