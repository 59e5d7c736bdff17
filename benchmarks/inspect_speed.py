"""`zoo inspect resnet34` against timm building the same model, as whole processes, alternating.

    python benchmarks/inspect_speed.py [--rounds 7]

Prints the median wall times and their ratio, and exits with 1 if zoo takes more than 1.3 times as long. Both run with
warm file caches (one warm-up round), with their output in a pipe.
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import time

TARGET = 1.3
ZOO = [sys.executable, "-m", "zoo", "inspect", "resnet34"]
TIMM = [sys.executable, "-c", "import timm; timm.create_model('resnet34')"]


def timed(command: list[str]) -> float:
    """Seconds of one process."""
    started = time.perf_counter()
    subprocess.run(command, capture_output=True, check=True)
    return time.perf_counter() - started


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=7, help="measured rounds, at least 7 (default: %(default)s)")
    rounds = max(7, parser.parse_args().rounds)

    timed(ZOO), timed(TIMM)
    zoo_times, timm_times = [], []
    for _ in range(rounds):
        zoo_times.append(timed(ZOO))
        timm_times.append(timed(TIMM))
    zoo, timm = statistics.median(zoo_times), statistics.median(timm_times)

    print(f"zoo inspect    {zoo * 1000:7.0f} ms  (fastest {min(zoo_times) * 1000:.0f})")
    print(f"timm           {timm * 1000:7.0f} ms  (fastest {min(timm_times) * 1000:.0f})")
    print(f"ratio          {zoo / timm:7.2f} x   target: at most {TARGET}, median of {rounds} rounds")
    return 0 if zoo / timm <= TARGET else 1


if __name__ == "__main__":
    raise SystemExit(main())
