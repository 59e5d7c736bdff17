"""Rank and world size of this process, from the launcher's environment (torchrun, accelerate, `--processes`).

RANK, WORLD_SIZE, LOCAL_RANK and LOCAL_WORLD_SIZE; without them there is a single process. Only rank 0 prints and
writes.
"""

from __future__ import annotations

import os


def rank() -> int:
    """The number of this process, from 0."""
    return _number("RANK", 0)


def world_size() -> int:
    """The number of processes on all hosts."""
    return max(_number("WORLD_SIZE", 1), 1)


def local_rank() -> int:
    """The number of this process on its host, from 0."""
    return _number("LOCAL_RANK", rank())


def local_world_size() -> int:
    """The number of processes on this host."""
    return max(_number("LOCAL_WORLD_SIZE", 1 if world_size() == 1 else local_rank() + 1), 1)


def is_main_process() -> bool:
    return rank() == 0


def cores() -> int:
    """The CPU cores that this process may use: its share of those available."""
    own = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(own // local_world_size(), 1)


def _number(name: str, default: int) -> int:
    text = os.environ.get(name, "")
    return int(text) if text.isdigit() else default
