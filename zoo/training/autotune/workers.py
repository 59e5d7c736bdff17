"""Threads of the model and worker processes of the loader, where both live on the same cores."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

__all__ = ["ONE_THREAD", "Layout", "layouts", "race_layouts", "same_threads", "threads"]

# Products of a linear layer's pass up to which threads take longer to meet than one takes alone, on cores that others
# use, too.
ONE_THREAD = 20_000_000
# Batches before the clock starts (workers begin with two each), seconds and batches that are timed, and in all.
_WARM = 2
_ARM_SECONDS = 0.3
_ARM_BATCHES = 24
_SECONDS = 3.0


@dataclass(frozen=True)
class Layout:
    """Threads of torch in the training process, and worker processes that load images."""

    threads: int
    workers: int

    def __str__(self) -> str:
        return f"{_number(self.threads, 'thread')}, {_number(self.workers, 'worker')}"


def _number(n: int, what: str) -> str:
    return f"{n} {what}" if n == 1 else f"{n} {what}s"


def threads(wanted: int) -> None:
    """Have torch compute with `wanted` threads from here on, in this process."""
    if wanted != torch.get_num_threads():
        torch.set_num_threads(wanted)


@contextmanager
def same_threads() -> Iterator[None]:
    """What a run sets ends with it: a program that fine-tunes twice begins with its own number both times."""
    before = torch.get_num_threads()
    try:
        yield
    finally:
        threads(before)


class Batches(Protocol):
    def __len__(self) -> int: ...
    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]: ...


def layouts(usual: Layout, cores: int, *, threads: int | None, workers: int | None) -> list[Layout]:
    """What is worth trying instead of `usual`, which comes first. threads, workers: those that are fixed.

    Together they should be no more than the cores: half or a quarter of these for the workers; or none, in turn with
    the model. Nothing else if the usual ones do not meet.
    """
    if usual.workers == 0 or usual.threads + usual.workers <= cores:
        return [usual]
    tried = [usual]
    for own in (max(cores // 2, 1), max(cores // 4, 1)):
        tried.append(Layout(min(max(cores - own, 1), usual.threads), min(own, usual.workers)))
    tried.append(Layout(usual.threads, 0))
    fixed = [Layout(threads or one.threads, one.workers if workers is None else workers) for one in tried]
    return list(dict.fromkeys(fixed))


def race_layouts(
    arms: Sequence[Layout],
    batches: Callable[[int], Batches],
    learn: Callable[[Tensor], object],
) -> Mapping[Layout, float]:
    """Images a second of each, loading and learning at once; of up to two rounds the better.

    batches(workers): a new loader of the training images. learn(images): the model's part of a step.
    """
    best: dict[Layout, float] = {}
    start = time.perf_counter()
    with same_threads():
        for _ in range(2):
            for arm in arms:
                threads(arm.threads)
                best[arm] = max(best.get(arm, 0.0), _speed(batches(arm.workers), learn))
            if time.perf_counter() - start > _SECONDS / 2:
                break
    return best


def _speed(batches: Batches, learn: Callable[[Tensor], object]) -> float:
    seen, start, end = 0, 0.0, 0.0
    warm = _WARM + 1 if len(batches) > 2 * _WARM else 1
    for number, (images, _) in enumerate(batches):
        learn(images)
        end = time.perf_counter()
        if number + 1 == warm:
            start = end
        elif number + 1 > warm:
            seen += len(images)
        if number + 1 == warm + _ARM_BATCHES or (seen and end - start > _ARM_SECONDS):
            break
    return seen / (end - start) if seen else 0.0
