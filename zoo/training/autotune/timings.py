"""Timing of alternatives, and the cache of the results.

A result is one file under $ZOO_CACHE/timings, named by everything it depends on. An absent, damaged or outdated file
counts as no result; a failed write is ignored.
"""

from __future__ import annotations

import platform
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from zoo.cache import CacheFile
from zoo.dist_env import cores

K = TypeVar("K")

# Increased when what is measured changes.
_VERSION = 1
# A candidate this many times slower than the best is not measured again.
_TOO_SLOW = 1.6
# Seconds. A first run also builds kernels, which takes less than this; shorter first runs are not reliable.
_MIN_RELIABLE_SECONDS = 0.25


def benchmark(
    candidates: Mapping[K, Callable[[], object]],
    *,
    seconds: float,
    rounds: int = 6,
    clock: Callable[[], float] = time.perf_counter,
) -> dict[K, float]:
    """Seconds of each candidate, the best of up to `rounds`: other programs disturb single measurements.

    At least two rounds, except for candidates that are far slower; no round starts after `seconds`.
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


def synchronize(device: torch.device) -> None:
    """Wait for the work on `device`."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    elif device.type == "mps":
        torch.mps.synchronize()


def run_trial_step(
    module: nn.Module, step: Callable[[], Tensor], device: torch.device, dtype: torch.dtype | None
) -> None:
    """Forward and backward pass of `step() → loss` under autocast to `dtype`, without an optimizer."""
    with torch.autocast(device.type, dtype=dtype, enabled=dtype is not None):
        loss = step()
    if loss.requires_grad:
        loss.backward()  # type: ignore[no-untyped-call]
    module.zero_grad(set_to_none=True)
    synchronize(device)


def machine(device: torch.device) -> dict[str, Any]:
    """What a measured time depends on, besides the work."""
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
    """The value stored under `key`, or None."""
    value = _file(kind, key).load_json()
    return value if isinstance(value, dict) else None


def save_timing(kind: str, key: Mapping[str, Any], value: Mapping[str, Any]) -> None:
    """Store `value` under `key`, both JSON-able. A disk error is ignored."""
    with suppress(OSError):
        _file(kind, key).save_json(value)


def _file(kind: str, key: Mapping[str, Any]) -> CacheFile:
    return CacheFile("timings", key, _VERSION, label=kind)
