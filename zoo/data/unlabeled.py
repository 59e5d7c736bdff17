"""Images without labels, for prediction: paths -> batches, with unreadable files reported separately."""

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
from zoo.data.decode.errors import UnreadableImage
from zoo.data.decode.read import read_image
from zoo.data.sources.scan import scan_folder
from zoo.dist_env import cores
from zoo.preprocess import Preprocess

ReadResult = NDArray[np.uint8] | BadFile


@dataclass(frozen=True)
class ImageBatch:
    """A batch for prediction."""

    paths: tuple[str, ...]  # N paths, in the given order
    images: torch.Tensor  # (N, C, H, W) uint8 evaluation views, channels last in memory
    problems: tuple[BadFile, ...]  # unreadable files, not in `paths` and `images`


def iter_paths(args: Iterable[str]) -> Iterator[str | BadFile]:
    """Image paths, lazily: a file, every image below a folder (sorted), or the lines of stdin for "-".

    A path that does not exist is yielded too: reading it gives the reason. Entries of a folder with the name of an
    image that are not files are yielded as BadFile.
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
    """Batches of images, read ahead by one thread per core.

    Unreadable files are in the `problems` of their batch, which is smaller then. At most one batch is read ahead, so
    the paths may come from an open pipe.

    Args:
        paths: as for `iter_paths`.
        preprocess: preprocessing of the model.
        batch_size: maximum number of images in a batch.
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
        return read_image(
            path, preprocess.channels, lambda height, width: EvalView(preprocess), preprocess.intensity_range
        )
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
