"""`zoo check` of 100,000 images, without and with its cache, against a loop of Pillow and md5.

    python benchmarks/check_speed.py [--images 100000] [--different 5000] [--size 240x180]

The images are JPEG crops of scikit-learn's two photographs, `--different` of them, each under several names (hard
links), in ten class folders of a temporary folder. Prints wall time, CPU time, images per second, and the peak memory
of all processes (proportional set size, /proc, Linux). The loop opens, decodes and hashes each file in one process and
finds equal files only; it runs on a tenth of the images, and its time is multiplied by ten. On a shared machine,
compare CPU times. Exits with 1 if the memory reaches 1 GB or the second run is not five times as fast.

Also measures the search for near-duplicates alone, on the same number of random hashes.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import numpy as np
from PIL import Image

LIMIT_MB = 1000
MIN_SPEEDUP = 5.0


def make(root: Path, images: int, different: int, width: int = 240, height: int = 180) -> None:
    from sklearn.datasets import load_sample_images

    rng = np.random.default_rng(0)
    photos = load_sample_images().images
    originals = []
    for c in range(10):
        (root / f"class{c}").mkdir(parents=True)
    for i in range(different):
        photo = photos[i % 2]
        top, left = rng.integers(0, photo.shape[0] - height), rng.integers(0, photo.shape[1] - width)
        path = root / f"class{i % 10}" / f"{i:06d}.jpg"
        Image.fromarray(photo[top : top + height, left : left + width]).save(path, quality=90)
        originals.append(path)
    for i in range(different, images):
        original = originals[i % different]
        os.link(original, original.with_name(f"{i:06d}.jpg"))


class Memory(threading.Thread):
    """Peak memory in MB: resident set size of a process, and proportional set size of it and its children together."""

    def __init__(self, pid: int) -> None:
        super().__init__(daemon=True)
        self.pid, self.own, self.together, self.done = pid, 0.0, 0.0, False

    def run(self) -> None:
        while not self.done:
            try:
                pids = [self.pid, *map(int, Path(f"/proc/{self.pid}/task/{self.pid}/children").read_text().split())]
                self.together = max(self.together, sum(field(p, "smaps_rollup", "Pss:") for p in pids))
                self.own = max(self.own, field(self.pid, "status", "VmHWM:"))
            except OSError:
                pass  # a process that has just ended
            time.sleep(0.2)


def field(pid: int, file: str, name: str) -> float:
    for line in Path(f"/proc/{pid}/{file}").read_text().splitlines():
        if line.startswith(name):
            return int(line.split()[1]) / 1024
    return 0.0


def check(root: Path, cache: Path) -> tuple[float, float, float, float]:
    """(wall time in s, CPU time in s, peak MB of the process, peak MB of all processes)."""
    began, used = time.perf_counter(), children()
    process = subprocess.Popen(
        [sys.executable, "-m", "zoo", "check", root],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        env={**os.environ, "ZOO_CACHE": str(cache)},
    )
    memory = Memory(process.pid)
    memory.start()
    code = process.wait()
    memory.done = True
    if code not in (0, 3):
        raise SystemExit(f"zoo check ended with {code}")
    return time.perf_counter() - began, children() - used, memory.own, memory.together


def children() -> float:
    """CPU seconds of the child processes that have ended."""
    spent = os.times()
    return spent.children_user + spent.children_system


def loop(root: Path, every: int) -> tuple[float, float]:
    """Wall time and CPU time per image, seconds."""
    paths = sorted(root.glob("*/*.jpg"))[::every]
    began, used = time.perf_counter(), time.process_time()
    seen: dict[str, Path] = {}
    for path in paths:
        with Image.open(path) as image:
            image.load()
        seen.setdefault(hashlib.md5(path.read_bytes()).hexdigest(), path)
    return (time.perf_counter() - began) / len(paths), (time.process_time() - used) / len(paths)


def search(n: int) -> tuple[float, int]:
    from zoo.data.check.perceptual_hash import close_pairs

    hashes = np.unique(np.random.default_rng(0).integers(0, 1 << 63, n).astype(np.uint64) * np.uint64(2))
    began = time.perf_counter()
    left, _, _ = close_pairs(hashes)
    return time.perf_counter() - began, len(left)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=100_000)
    parser.add_argument("--different", type=int, default=5_000)
    parser.add_argument("--size", default="240x180")
    args = parser.parse_args()
    width, height = map(int, args.size.split("x"))
    with tempfile.TemporaryDirectory() as folder:
        root, cache = Path(folder, "images"), Path(folder, "cache")
        make(root, args.images, args.different, width, height)
        naive, naive_cpu = (seconds * args.images for seconds in loop(root, 10))
        print(f"{args.images:,} images of {args.size}, {args.different:,} different, {os.cpu_count()} cores")
        line = f"{naive:7.1f} s  {args.images / naive:8,.0f} images/s  CPU time {naive_cpu:6.1f} s"
        print(f"loop of Pillow and md5   {line}  (one process)")
        peaks, times, spent = [], [], []
        for name in ("zoo check, first run", "zoo check, second run"):
            seconds, used, own, together = check(root, cache)
            spent.append(used)
            peaks.append(max(own, together))
            times.append(seconds)
            line = f"{seconds:7.1f} s  {args.images / seconds:8,.0f} images/s  CPU time {used:6.1f} s"
            print(f"{name:25}{line}  {own:,.0f} MB, with its workers {together:,.0f} MB")
        size = sum(f.stat().st_size for f in cache.rglob("*") if f.is_file())
        print(f"cache                    {size / 2**20:7.1f} MB")
    print(f"speedup by wall time     {naive / times[0]:7.2f} x first run, {naive / times[1]:.1f} x second run")
    print(f"speedup by CPU time      {naive_cpu / spent[0]:7.2f} x first run, {naive_cpu / spent[1]:.1f} x second run")
    seconds, pairs = search(args.images)
    print(f"near-duplicate search    {seconds:7.1f} s  {args.images:,} random hashes, {pairs:,} pairs")
    return 0 if max(peaks) < LIMIT_MB and times[0] / times[1] >= MIN_SPEEDUP else 1


if __name__ == "__main__":
    raise SystemExit(main())
