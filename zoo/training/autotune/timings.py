"""Ways of doing the same work, timed against each other; and what came of it, kept for the next run.

An answer is a file of its own in $ZOO_CACHE/execution, named after everything that it depends on. One that is absent,
damaged or of another version counts as none, and one that cannot be written costs only the time next time.
"""

from __future__ import annotations

import platform
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, TypeVar

import torch

from zoo.cache import CacheFile
from zoo.dist_env import cores

__all__ = ["benchmark", "load_timing", "machine", "save_timing"]

K = TypeVar("K")

# Another version of what is measured, or how.
_VERSION = 1
# An arm that takes so many times the best one's time will not come first: it is not tried again.
_TOO_SLOW = 1.6
# Seconds. A first pass also makes the kernels of its shapes, which takes less than this; shorter ones say nothing.
_MIN_RELIABLE_SECONDS = 0.25


def benchmark(
    candidates: Mapping[K, Callable[[], object]],
    *,
    seconds: float,
    rounds: int = 6,
    clock: Callable[[], float] = time.perf_counter,
) -> dict[K, float]:
    """Seconds that each arm takes, the best of up to `rounds` in turn, as other programs disturb one and all.

    Two rounds at least, for those that are not hopelessly slow in the first; then none is begun after `seconds`.
    """
    best = dict.fromkeys(candidates, float("inf"))
    remaining = list(candidates)
    start = clock()
    for number in range(rounds):
        for candidate in remaining:
            started = clock()
            candidates[candidate]()
            best[candidate] = min(best[candidate], clock() - started)
        fastest = min(best.values())
        if number or fastest > _MIN_RELIABLE_SECONDS:
            remaining = [candidate for candidate in remaining if best[candidate] <= _TOO_SLOW * fastest]
        if (number or fastest > _MIN_RELIABLE_SECONDS) and (len(remaining) == 1 or clock() - start > seconds):
            break
    return best


def machine(device: torch.device) -> dict[str, Any]:
    """What a measured time depends on beside the work."""
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else device.type
    return {
        "processor": _processor(),
        "cores": cores(),
        "threads": torch.get_num_threads(),
        "device": name,
        "torch": torch.__version__,
    }


def _processor() -> str:
    with suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def load_timing(kind: str, key: Mapping[str, Any]) -> dict[str, Any] | None:
    """The value that `save_timing` stored under the same `key`, or None."""
    value = _file(kind, key).load_json()
    return value if isinstance(value, dict) else None


def save_timing(kind: str, key: Mapping[str, Any], value: Mapping[str, Any]) -> None:
    """Store `value` under `key`, both JSON-able. Does nothing if the disk refuses."""
    with suppress(OSError):
        _file(kind, key).save_json(value)


def _file(kind: str, key: Mapping[str, Any]) -> CacheFile:
    return CacheFile("timings", key, _VERSION, label=kind)
