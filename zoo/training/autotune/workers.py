"""Threads for the model and worker processes for the loader, which share the CPU cores."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor

from zoo.training.batches import Batches

# Products in a pass of a linear layer up to which one thread is faster than several, on a shared machine.
SINGLE_THREAD_OPS = 20_000_000
# Batches before the clock starts (each worker prefetches two); limits of a measurement, and of all together.
_WARMUP_BATCHES = 2
_CANDIDATE_SECONDS = 0.3
_CANDIDATE_BATCHES = 24
_TIME_BUDGET = 3.0


@dataclass(frozen=True)
class CpuLayout:
    """torch threads of the training process, and worker processes of the loader."""

    threads: int
    workers: int

    def __str__(self) -> str:
        return f"{_plural(self.threads, 'thread')}, {_plural(self.workers, 'worker')}"


def _plural(n: int, what: str) -> str:
    return f"{n} {what}" if n == 1 else f"{n} {what}s"


def threads(count: int) -> None:
    """Set the number of torch threads of this process."""
    if count != torch.get_num_threads():
        torch.set_num_threads(count)


@contextmanager
def preserve_num_threads() -> Iterator[None]:
    """Restore the number of torch threads at the end."""
    before = torch.get_num_threads()
    try:
        yield
    finally:
        threads(before)


def candidate_layouts(default: CpuLayout, cores: int, *, threads: int | None, workers: int | None) -> list[CpuLayout]:
    """`default`, and alternatives if its threads and workers exceed the cores: half or a quarter of the cores for
    workers, or no workers. threads, workers: numbers that are fixed."""
    if default.workers == 0 or default.threads + default.workers <= cores:
        return [default]
    tried = [default]
    for worker_count in (max(cores // 2, 1), max(cores // 4, 1)):
        tried.append(CpuLayout(min(max(cores - worker_count, 1), default.threads), min(worker_count, default.workers)))
    tried.append(CpuLayout(default.threads, 0))
    fixed = [CpuLayout(threads or layout.threads, layout.workers if workers is None else workers) for layout in tried]
    return list(dict.fromkeys(fixed))


def benchmark_layouts(
    candidates: Sequence[CpuLayout], batches: Callable[[int], Batches], train_step: Callable[[Tensor], object]
) -> Mapping[CpuLayout, float]:
    """Images per second of each candidate, loading and training together; the better of up to two rounds.

    batches(workers): a new loader. train_step(images): the model's part of a step.
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
