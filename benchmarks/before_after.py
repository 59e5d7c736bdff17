"""Is a checkout slower than another? The same commands of both, whole processes, interleaved.

    python benchmarks/before_after.py BEFORE AFTER [--rounds 7] [--only list,help]

BEFORE and AFTER are folders that contain the package `zoo`. Each command runs once as a warm-up in both checkouts, then
alternately. Each checkout has its own cache, so the head-only run uses the features cached by its warm-up. Prints the
medians of wall time and CPU time (with all child processes), and the median of the ratios of the rounds: above 1, AFTER
is slower. On a shared machine the ratio of CPU times is the more reliable one.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median

# Name → arguments of `zoo`; OUTPUT becomes an empty folder.
OUTPUT = "OUTPUT"
COMMANDS = {
    "list": ["list", "*densenet*"],
    "help": ["--help"],
    "demo": ["demo", "--output-dir", OUTPUT],
    "head-only": ["finetune", "zoo_tiny", "--data", "digits", "--freeze", "backbone", "--output-dir", OUTPUT],
}
Seconds = tuple[float, float]  # wall time, CPU time


def timed(checkout: Path, arguments: list[str], cache: Path) -> Seconds:
    """Wall time and CPU time of `zoo` with `arguments`, seconds. Raises SystemExit if it fails."""
    environment = os.environ | {"PYTHONPATH": str(checkout), "ZOO_CACHE": str(cache), "HF_HUB_OFFLINE": "1"}
    with tempfile.TemporaryDirectory() as folder, tempfile.TemporaryFile() as errors:
        filled = [str(Path(folder, "run")) if argument == OUTPUT else argument for argument in arguments]
        started = time.perf_counter()
        process = subprocess.Popen(
            [sys.executable, "-m", "zoo", *filled],
            cwd=folder, env=environment, stdout=subprocess.DEVNULL, stderr=errors,
        )  # fmt: skip
        _, status, usage = os.wait4(process.pid, 0)
        wall = time.perf_counter() - started
        process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode:
            errors.seek(0)
            raise SystemExit(f"zoo {' '.join(filled)} failed in {checkout}:\n{errors.read().decode()[-2000:]}")
    return wall, usage.ru_utime + usage.ru_stime


def measure(arguments: list[str], checkouts: list[Path], caches: list[Path], rounds: int) -> list[list[Seconds]]:
    """The seconds of each round for BEFORE and for AFTER; they take turns to run first."""
    for checkout, cache in zip(checkouts, caches, strict=True):
        timed(checkout, arguments, cache)
    times: list[list[Seconds]] = [[], []]
    for turn in range(rounds):
        for which in (0, 1) if turn % 2 == 0 else (1, 0):
            times[which].append(timed(checkouts[which], arguments, caches[which]))
    return times


def row(name: str, before: list[Seconds], after: list[Seconds]) -> str:
    cells = [f"`zoo {' '.join(COMMANDS[name])}`".replace(f" --output-dir {OUTPUT}", "")]
    for kind in (0, 1):
        one, two = [times[kind] for times in before], [times[kind] for times in after]
        ratio = median(b / a for a, b in zip(one, two, strict=True))
        cells += [f"{median(one):.2f}", f"{median(two):.2f}", f"**{ratio:.2f}**"]
    return "| " + " | ".join(cells) + " |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("before", type=Path)
    parser.add_argument("after", type=Path)
    parser.add_argument("--rounds", type=int, default=7, help="measured rounds; 5 or more for figures to publish")
    parser.add_argument("--only", default=",".join(COMMANDS), help="names, separated by commas (default: %(default)s)")
    options = parser.parse_args()
    names = options.only.split(",")
    if unknown := sorted(set(names) - set(COMMANDS)):
        parser.error(f"no command {', '.join(unknown)}; there are {', '.join(COMMANDS)}")
    checkouts = [options.before.resolve(), options.after.resolve()]
    for checkout in checkouts:
        if not (checkout / "zoo" / "__init__.py").is_file():
            parser.error(f"{checkout} does not contain the package zoo")
    print(f"{options.rounds} rounds, {os.cpu_count()} cores, load average {os.getloadavg()[0]:.1f} at the start\n")
    print("| command | wall time before, s | after, s | ratio | CPU time before, s | after, s | ratio |")
    print("|---|---|---|---|---|---|---|")
    with tempfile.TemporaryDirectory() as folder:
        caches = [Path(folder, which) for which in ("before", "after")]
        for name in names:
            before, after = measure(COMMANDS[name], checkouts, caches, options.rounds)
            print(row(name, before, after), flush=True)


if __name__ == "__main__":
    main()
