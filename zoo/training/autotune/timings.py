"""Ways of doing the same work, timed against each other; and what came of it, kept for the next run.

An answer is a file of its own in $ZOO_CACHE/execution, named after everything that it depends on. One that is absent,
damaged or of another version counts as none, and one that cannot be written costs only the time next time.
"""

from __future__ import annotations

import hashlib
import json
import platform
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, TypeVar

import torch

from zoo.atomic_io import replace_file
from zoo.cache import cache_folder
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
    """What `save_timing` was given for the same `key`, or None."""
    try:
        found = json.loads(_cache_path(kind, key).read_text(encoding="utf-8"))
        value = found["value"] if found["key"] == json.loads(_key_json(key)) else None
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return value if isinstance(value, dict) else None


def save_timing(kind: str, key: Mapping[str, Any], value: Mapping[str, Any]) -> None:
    """Keep `value` (JSON-able) under `key`, if the disk lets us."""
    path = _cache_path(kind, key)
    text = json.dumps({"key": json.loads(_key_json(key)), "value": value}, indent=2) + "\n"

    def write(temporary: Path) -> None:
        temporary.write_text(text, encoding="utf-8")

    with suppress(OSError):
        path.parent.mkdir(parents=True, exist_ok=True)
        replace_file(path, write)


def _cache_path(kind: str, key: Mapping[str, Any]) -> Path:
    digest = hashlib.blake2b(_key_json(key).encode(), digest_size=8).hexdigest()
    return cache_folder() / "execution" / f"{kind}-{digest}.json"


def _key_json(key: Mapping[str, Any]) -> str:
    return json.dumps({"version": _VERSION, **key}, sort_keys=True)
