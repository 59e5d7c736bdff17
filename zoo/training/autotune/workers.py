"""Threads of the model and worker processes of the loader, where both live on the same cores."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

__all__ = [
    "SINGLE_THREAD_OPS",
    "CpuLayout",
    "benchmark_layouts",
    "candidate_layouts",
    "preserve_num_threads",
    "threads",
]

# Products of a linear layer's pass up to which threads take longer to meet than one takes alone, on cores that others
# use, too.
SINGLE_THREAD_OPS = 20_000_000
# Batches before the clock starts (workers begin with two each), seconds and batches that are timed, and in all.
_WARMUP_BATCHES = 2
_CANDIDATE_SECONDS = 0.3
_CANDIDATE_BATCHES = 24
_TIME_BUDGET = 3.0


@dataclass(frozen=True)
class CpuLayout:
    """Threads of torch in the training process, and worker processes that load images."""

    threads: int
    workers: int

    def __str__(self) -> str:
        return f"{_plural(self.threads, 'thread')}, {_plural(self.workers, 'worker')}"


def _plural(n: int, what: str) -> str:
    return f"{n} {what}" if n == 1 else f"{n} {what}s"


def threads(count: int) -> None:
    """Have torch compute with `count` threads from here on, in this process."""
    if count != torch.get_num_threads():
        torch.set_num_threads(count)


@contextmanager
def preserve_num_threads() -> Iterator[None]:
    """What a run sets ends with it: a program that fine-tunes twice begins with its own number both times."""
    before = torch.get_num_threads()
    try:
        yield
    finally:
        threads(before)


class Batches(Protocol):
    def __len__(self) -> int: ...
    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]: ...


def candidate_layouts(default: CpuLayout, cores: int, *, threads: int | None, workers: int | None) -> list[CpuLayout]:
    """What is worth trying instead of `default`, which comes first. threads, workers: those that are fixed.

    Together they should be no more than the cores: half or a quarter of these for the workers; or none, in turn with
    the model. Nothing else if the usual ones do not meet.
    """
    if default.workers == 0 or default.threads + default.workers <= cores:
        return [default]
    tried = [default]
    for worker_count in (max(cores // 2, 1), max(cores // 4, 1)):
        tried.append(CpuLayout(min(max(cores - worker_count, 1), default.threads), min(worker_count, default.workers)))
    tried.append(CpuLayout(default.threads, 0))
    fixed = [CpuLayout(threads or layout.threads, layout.workers if workers is None else workers) for layout in tried]
    return list(dict.fromkeys(fixed))


def benchmark_layouts(
    candidates: Sequence[CpuLayout],
    batches: Callable[[int], Batches],
    train_step: Callable[[Tensor], object],
) -> Mapping[CpuLayout, float]:
    """Images a second of each, loading and learning at once; of up to two rounds the better.

    batches(workers): a new loader of the training images. learn(images): the model's part of a step.
    """
    best: dict[CpuLayout, float] = {}
    start = time.perf_counter()
    with preserve_num_threads():
        for _ in range(2):
            for candidate in candidates:
                threads(candidate.threads)
                best[candidate] = max(
                    best.get(candidate, 0.0), _images_per_second(batches(candidate.workers), train_step)
                )
            if time.perf_counter() - start > _TIME_BUDGET / 2:
                break
    return best


def _images_per_second(batches: Batches, train_step: Callable[[Tensor], object]) -> float:
    seen, start, end = 0, 0.0, 0.0
    warmup = _WARMUP_BATCHES + 1 if len(batches) > 2 * _WARMUP_BATCHES else 1
    for number, (images, _) in enumerate(batches):
        train_step(images)
        end = time.perf_counter()
        if number + 1 == warmup:
            start = end
        elif number + 1 > warmup:
            seen += len(images)
        if number + 1 == warmup + _CANDIDATE_BATCHES or (seen and end - start > _CANDIDATE_SECONDS):
            break
    return seen / (end - start) if seen else 0.0
