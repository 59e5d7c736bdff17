"""Read every image once, in several processes, and make its record."""

from __future__ import annotations

import multiprocessing
import signal
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, ThreadPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice
from typing import Generic, TypeVar

import numpy as np
from numpy.typing import NDArray

from zoo.atomic_io import defer_interrupts
from zoo.console import track
from zoo.data.check.examine_images import ExaminedImages, examine_files, examine_images, pixel_hashes
from zoo.data.check.image_record import RECORD, RecordCache, Records
from zoo.data.dataset import ImageDataset
from zoo.data.file_dataset import FileDataset, file_keys
from zoo.errors import DataError

T = TypeVar("T")

_CHUNK = 64
_SAVE_EVERY = 30.0  # seconds
_WORTH_A_POOL = 4 * _CHUNK


@dataclass(frozen=True)
class ImageScan:
    """rows: a record for each image, split after split. reasons: image number -> why it cannot be read. from_cache:
    number of records from the cache."""

    rows: Records
    reasons: dict[int, str]
    from_cache: int


def scan_images(splits: Sequence[ImageDataset], *, workers: int, cache: bool) -> ImageScan:
    """Read all images of `splits`. On Ctrl-C the records so far are cached, and KeyboardInterrupt is raised again.

    Raises DataError if a worker process is killed.
    """
    rows = np.zeros(sum(len(p) for p in splits), dtype=RECORD)
    reasons: dict[int, str] = {}
    offset = from_cache = 0
    for split in splits:
        here = rows[offset : offset + len(split)]
        if isinstance(split, FileDataset):
            why, known = _scan_files(split, here, workers, RecordCache(split.root, disabled=not cache))
            from_cache += known
        else:
            why = _scan_dataset(split, here, workers)
        reasons |= {offset + i: reason for i, reason in why.items()}
        offset += len(split)
    return ImageScan(rows, reasons, from_cache)


def _scan_files(source: FileDataset, rows: Records, workers: int, cache: RecordCache) -> tuple[dict[int, str], int]:
    keys = file_keys(source)
    rows[:], reasons = cache.load(keys)
    todo = np.flatnonzero(~rows["key"].any(axis=1))
    if not len(todo):
        return reasons, len(rows)
    chunks = [todo[i : i + _CHUNK] for i in range(0, len(todo), _CHUNK)]
    saved = time.monotonic()
    try:
        for chunk, found in _read(source, chunks, examine_files, workers, "reading images"):
            _take(found, chunk, rows, reasons)
            rows["key"][chunk] = keys[chunk]
            if time.monotonic() - saved > _SAVE_EVERY:
                cache.save(rows, reasons)
                saved = time.monotonic()
    finally:
        with defer_interrupts():
            cache.save(rows, reasons)
    return reasons, len(rows) - len(todo)


def _scan_dataset(source: ImageDataset, rows: Records, workers: int) -> dict[int, str]:
    reasons: dict[int, str] = {}
    chunks = [np.arange(i, min(i + _CHUNK, len(source))) for i in range(0, len(source), _CHUNK)]
    with ThreadPoolExecutor(1 if source.in_memory else max(workers, 1)) as pool:
        found = pool.map(lambda chunk: examine_images(source, chunk.tolist()), chunks)
        for chunk, split in zip(chunks, found, strict=True):
            _take(split, chunk, rows, reasons)
    return reasons


def _take(found: ExaminedImages, chunk: NDArray[np.int64], rows: Records, reasons: dict[int, str]) -> None:
    rows[chunk] = found.rows
    reasons |= {int(chunk[i]): reason for i, reason in found.reasons.items()}


def fill_pixel_hashes(
    source: FileDataset, rows: Records, images: NDArray[np.int64], *, workers: int, cache: bool
) -> None:
    """Fill the field `pixels` of the rows `images` of `source` if it is empty, also in the cache."""
    todo = images[~rows["pixels"][images].any(axis=1)]
    if not len(todo):
        return
    chunks = [todo[i : i + _CHUNK] for i in range(0, len(todo), _CHUNK)]
    for chunk, found in _read(source, chunks, pixel_hashes, workers, "comparing pixels"):
        rows["pixels"][chunk] = found
    store = RecordCache(source.root, disabled=not cache)
    # Unreadable files have no pixels; their reasons are in the cache already.
    reasons = store.load(rows["key"])[1]
    with defer_interrupts():
        store.save(rows, reasons)


class _Counted(Generic[T]):
    """Finished chunks with a known total, for a progress bar."""

    def __init__(self, n: int, items: Iterator[T]) -> None:
        self._n, self._items = n, items

    def __len__(self) -> int:
        return self._n

    def __iter__(self) -> Iterator[T]:
        return self._items


def _read(
    source: FileDataset, chunks: Sequence[NDArray[np.int64]], job: Callable[[FileDataset], T], workers: int, label: str
) -> Iterator[tuple[NDArray[np.int64], T]]:
    """(chunk, result of `job` on its images), in any order: in this process, or in `workers` processes."""
    if workers < 2 or sum(map(len, chunks)) < _WORTH_A_POOL:
        results: Iterator[tuple[NDArray[np.int64], T]] = ((chunk, job(source.take(chunk))) for chunk in chunks)
    else:
        results = _pooled(source, chunks, job, workers)
    yield from track(_Counted(len(chunks), results), label)


def _pooled(
    source: FileDataset, chunks: Sequence[NDArray[np.int64]], job: Callable[[FileDataset], T], workers: int
) -> Iterator[tuple[NDArray[np.int64], T]]:
    todo = iter(chunks)
    running: dict[Future[T], NDArray[np.int64]] = {}
    with _pool(workers) as pool:
        while True:
            for chunk in islice(todo, 3 * workers - len(running)):
                running[pool.submit(job, source.take(chunk))] = chunk
            if not running:
                return
            for future in wait(running, return_when=FIRST_COMPLETED).done:
                chunk = running.pop(future)
                try:
                    yield chunk, future.result()
                except BrokenProcessPool as e:
                    example = source.where(int(chunk[0]))
                    raise DataError(
                        f"a worker process was killed while reading files such as {example}",
                        "it may have run out of memory: use fewer --workers",
                    ) from e


@contextmanager
def _pool(workers: int) -> Iterator[ProcessPoolExecutor]:
    """Worker processes that ignore Ctrl-C. Forked on Linux: they share memory and start fast."""
    context = multiprocessing.get_context("fork" if sys.platform == "linux" else "spawn")
    pool = ProcessPoolExecutor(workers, mp_context=context, initializer=_begin)
    try:
        yield pool
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def _begin() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
