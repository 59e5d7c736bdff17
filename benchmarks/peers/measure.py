"""Run a command as a whole process; measure wall time, CPU time, and the memory of it and its children."""

from __future__ import annotations

import os
import subprocess
import tempfile
import threading
import time
from dataclasses import dataclass
from pathlib import Path

_INTERVAL = 0.1  # seconds between two measurements of the memory


@dataclass(frozen=True)
class Measured:
    """A finished process.

    seconds:   wall time from its start to its end.
    processor: CPU seconds, with child processes.
    largest:   peak resident MB of the largest one of its processes.
    tree:      peak MB of all its processes together, with shared memory counted once (proportional set size); None
               without `watch`, because measuring it takes time.
    """

    seconds: float
    processor: float
    largest: float
    tree: float | None
    stdout: str
    stderr: str


class Failed(Exception):
    """The command failed; the message has its last lines."""


def run(command: list[str], *, folder: Path, env: dict[str, str] | None = None, watch: bool = False) -> Measured:
    with tempfile.TemporaryFile("w+") as out, tempfile.TemporaryFile("w+") as err:
        began = time.perf_counter()
        process = subprocess.Popen(
            command, cwd=folder, env={**os.environ, **(env or {})}, stdin=subprocess.DEVNULL, stdout=out, stderr=err
        )
        watcher = _Watcher(process.pid) if watch else None
        _, status, used = os.wait4(process.pid, 0)
        seconds = time.perf_counter() - began
        process.returncode = os.waitstatus_to_exitcode(status)
        tree = watcher.stop() if watcher else None
        out.seek(0)
        err.seek(0)
        stdout, stderr = out.read(), err.read()
    if process.returncode:
        last = "\n".join((stdout + stderr).splitlines()[-12:])
        raise Failed(f"{' '.join(command)}\nexit code {process.returncode}:\n{last}")
    return Measured(seconds, used.ru_utime + used.ru_stime, used.ru_maxrss / 1024, tree, stdout, stderr)


class _Watcher(threading.Thread):
    """The largest sum of /proc/PID/smaps_rollup's Pss over a process and its descendants (Linux)."""

    def __init__(self, root: int) -> None:
        super().__init__(daemon=True)
        self._root, self._peak, self._ended = root, 0.0, threading.Event()
        self.start()

    def run(self) -> None:
        while not self._ended.wait(_INTERVAL):
            self._peak = max(self._peak, sum(_pss(pid) for pid in _tree(self._root)))

    def stop(self) -> float:
        self._ended.set()
        self.join()
        return self._peak


def _tree(root: int) -> list[int]:
    found = [root]
    for pid in found:  # grows during the loop
        for file in Path(f"/proc/{pid}/task").glob("*/children"):
            try:
                found += map(int, file.read_text().split())
            except OSError:
                continue  # the process has ended
    return found


def _pss(pid: int) -> float:
    try:
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    except OSError:
        return 0.0
    return sum(int(line.split()[1]) / 1024 for line in lines if line.startswith("Pss:"))
