"""Which of several processes of one training this is, as the launcher says (torchrun, accelerate, `--processes`).

They set RANK, WORLD_SIZE, LOCAL_RANK and LOCAL_WORLD_SIZE; without them a process is alone. Of several only the first
speaks and writes.
"""

from __future__ import annotations

import os

__all__ = ["cores", "is_main_process", "local_rank", "local_world_size", "rank", "world_size"]


def rank() -> int:
    """The number of this process among all, from 0."""
    return _number("RANK", 0)


def world_size() -> int:
    """Processes in all, on all hosts."""
    return max(_number("WORLD_SIZE", 1), 1)


def local_rank() -> int:
    """The number of this process among those of its host, from 0."""
    return _number("LOCAL_RANK", rank())


def local_world_size() -> int:
    """Processes on this host."""
    return max(_number("LOCAL_WORLD_SIZE", 1 if world_size() == 1 else local_rank() + 1), 1)


def is_main_process() -> bool:
    return rank() == 0


def cores() -> int:
    """The processor cores that this process may use: its share, if there are several processes on the host."""
    own = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(own // local_world_size(), 1)


def _number(name: str, default: int) -> int:
    text = os.environ.get(name, "")
    return int(text) if text.isdigit() else default
