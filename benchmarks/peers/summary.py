"""Print the results as a table for RESULTS.md."""

from __future__ import annotations

import os
import platform
from collections.abc import Callable
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from statistics import median
from typing import Any

from commands import TITLES

_LIBRARIES = ("zoo", "torch", "torchvision", "timm", "transformers", "accelerate", "fastai", "pillow", "numpy")
Row = dict[str, Any]


def show(rows: list[Row], peers: list[str]) -> None:
    """Print medians over the rounds; ratios are medians of the ratios of the rounds."""
    print(f"{machine()}\n{versions()}\n")
    if not rows:
        print("nothing measured yet")
        return
    first = rows[0]
    rounds = {row["round"] for row in rows}
    print(f"{first['scenario']}: {first['model']}, {first['images']:,} images, {first['epochs']} epochs,", end=" ")
    print(f"{len(rounds)} rounds, load average before {min(r['load_before'] for r in rows):.1f}", end=" to ")
    print(f"{max(r['load_before'] for r in rows):.1f}\n")
    by_peer = {peer: {r["round"]: r for r in rows if r["peer"] == peer} for peer in peers}
    by_peer = {peer: found for peer, found in by_peer.items() if found}
    {"first-step": _first_step, "synthetic": _synthetic}.get(first["scenario"], _peers)(by_peer)


def _peers(by_peer: dict[str, dict[int, Row]]) -> None:
    watched = any(r["tree_mb"] is not None for found in by_peer.values() for r in found.values())
    bases = [peer for peer in ("zoo", "zoo-again") if peer in by_peer]
    heads = ["tool", "time, s", "min–max", "CPU time, s", "top-1", "largest process, MB"]
    heads += ["all processes, MB"] * watched + [f"time / {'zoo' if b == 'zoo' else 'second run of zoo'}" for b in bases]
    print(f"| {' | '.join(heads)} |\n|{'---|' * len(heads)}")
    for peer, found in by_peer.items():
        seconds = [r["seconds"] for r in found.values()]
        cells = [
            f"**{TITLES[peer]}**" if peer in bases else TITLES[peer],
            f"{median(seconds):.1f}",
            f"{min(seconds):.1f}–{max(seconds):.1f}",
            f"{_median(found, 'processor'):.1f}",
            f"{100 * _median(found, 'top1'):.1f} %",
            f"{_median(found, 'largest_mb'):,.0f}",
        ]
        if watched:
            cells.append(f"{_median(found, 'tree_mb'):,.0f}")
        cells += [_ratio(found, by_peer[base], "seconds") for base in bases]
        print(f"| {' | '.join(cells)} |")


def _first_step(by_peer: dict[str, dict[int, Row]]) -> None:
    print("| tool | time, s | min–max | time / baseline |\n|---|---|---|---|")
    baseline = by_peer.get("imports", {})
    for peer, found in by_peer.items():
        for key in ("seconds",) if peer == "imports" else ("begins", "ends"):
            values = [r[key] for r in found.values()]
            event = {"begins": ", start of the first step", "ends": ", end of the first step"}.get(key, "")
            shared = [r[key] / baseline[n]["seconds"] for n, r in found.items() if n in baseline]
            ratio = f"{median(shared):.2f}" if shared else "–"
            print(f"| {TITLES[peer]}{event} | {median(values):.2f} | {min(values):.2f}–{max(values):.2f} | {ratio} |")


def _synthetic(by_peer: dict[str, dict[int, Row]]) -> None:
    for found in by_peer.values():
        shares = [r["top1"] for r in found.values()]
        print(f"throughput relative to synthetic images: median {100 * median(shares):.1f} %", end=", ")
        print("each round " + " ".join(f"{100 * s:.1f}" for s in shares))


def _median(found: dict[int, Row], key: str) -> float:
    return median(r[key] for r in found.values())


def _ratio(found: dict[int, Row], base: dict[int, Row], key: str) -> str:
    shared = [r[key] / base[n][key] for n, r in found.items() if n in base]
    return f"{median(shared):.2f}" if shared else "–"


def machine() -> str:
    processor, memory = _from("/proc/cpuinfo", "model name", str), _from("/proc/meminfo", "MemTotal", _gib)
    return f"{processor}, {os.cpu_count()} cores, {memory}"


def _gib(text: str) -> str:
    return f"{int(text.split(maxsplit=1)[0]) / 2**20:.0f} GiB"


def _from(path: str, name: str, read: Callable[[str], str]) -> str:
    for line in Path(path).read_text().splitlines():
        if line.startswith(name):
            return read(line.split(":", 1)[1].strip())
    return "?"


def versions() -> str:
    found = [f"Python {platform.python_version()}"]
    for name in _LIBRARIES:
        try:
            found.append(f"{name} {version(name)}")
        except PackageNotFoundError:
            continue
    return ", ".join(found)
