"""`zoo list "*densenet*"` against the same search with timm, as whole processes, alternating; and the time of a shell
completion.

    python benchmarks/list_speed.py [--rounds 7]

Prints the median wall times and their ratio, and exits with 1 if zoo is not at least 15 times faster, does not list
every name that timm lists, or takes more than 300 ms to complete a model's name. All run with warm file caches (one
warm-up round), with their output in a pipe.
"""

from __future__ import annotations

import argparse
import ast
import os
import statistics
import subprocess
import sys
import time

TARGET = 15.0
COMPLETION_TARGET = 0.3  # seconds
PATTERN = "*densenet*"
ZOO = [sys.executable, "-m", "zoo", "list", PATTERN]
TIMM = [sys.executable, "-c", f"import timm; print(timm.list_models({PATTERN!r}))"]
# The shell runs the program itself, with the cursor after the last word.
TAB = [sys.executable, "-m", "zoo"]
BASH = {"_ZOO_COMPLETE": "complete_bash", "COMP_CWORD": "2"}
MODEL, RECIPE = {"COMP_WORDS": "zoo inspect resnet3"}, {"COMP_WORDS": "zoo finetune --recipe small", "COMP_CWORD": "3"}


def timed(command: list[str], environment: dict[str, str] | None = None) -> tuple[float, str]:
    """Seconds and standard output of one process."""
    started = time.perf_counter()
    done = subprocess.run(
        command, capture_output=True, text=True, check=True, env={**os.environ, **(environment or {})}
    )
    return time.perf_counter() - started, done.stdout


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=7, help="measured rounds, at least 5 (default: %(default)s)")
    rounds = max(5, parser.parse_args().rounds)

    ours = [line.partition("\t")[0] for line in timed(ZOO)[1].splitlines()]
    theirs = ast.literal_eval(timed(TIMM)[1])
    missing = sorted(set(theirs) - set(ours))

    zoo_times, timm_times, model_times, recipe_times = [], [], [], []
    for _ in range(rounds):
        zoo_times.append(timed(ZOO)[0])
        timm_times.append(timed(TIMM)[0])
        model_times.append(timed(TAB, BASH | MODEL)[0])
        recipe_times.append(timed(TAB, BASH | RECIPE)[0])
    zoo, timm = statistics.median(zoo_times), statistics.median(timm_times)
    tab = statistics.median(model_times)
    offered = len(timed(TAB, BASH | MODEL)[1].split())

    print(f"zoo list    {zoo * 1000:7.0f} ms  (fastest {min(zoo_times) * 1000:.0f}), {len(ours)} names")
    print(f"timm        {timm * 1000:7.0f} ms  (fastest {min(timm_times) * 1000:.0f}), {len(theirs)} names")
    print(f"ratio       {timm / zoo:7.1f} x   target: {TARGET:.0f} x, median of {rounds} rounds")
    for what, times in (("model", model_times), ("recipe", recipe_times)):
        median, fastest = statistics.median(times) * 1000, min(times) * 1000
        print(f"Tab, {what:6} {median:6.0f} ms  (fastest {fastest:.0f}), target: {COMPLETION_TARGET * 1000:.0f} ms")
    if not offered:
        print("completion returns no name")
    if missing:
        print(f"names that zoo does not list: {', '.join(missing)}")
    return 0 if timm / zoo >= TARGET and not missing and offered and tab <= COMPLETION_TARGET else 1


if __name__ == "__main__":
    raise SystemExit(main())
