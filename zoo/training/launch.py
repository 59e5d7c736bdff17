"""`--processes N`: run the same command in N processes on this host, as one distributed training."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from types import FrameType

from zoo import dist_env
from zoo.errors import UsageError

# Seconds for the other processes to report an error and exit after one has failed.
_GRACE = 5.0
# Seconds after Ctrl-C, for rank 0 to finish its step and write its state.
_GRACE_TO_WRITE = 30.0


def is_launched(number: int) -> bool:
    """Whether this is one of `number` processes. Raises UsageError if a launcher started another number."""
    if number < 1:
        raise UsageError(f"--processes {number}", "give 1 or more")
    if dist_env.world_size() not in (1, number):
        raise UsageError(
            f"--processes {number}, but a launcher has started {dist_env.world_size()}", "leave out --processes"
        )
    return dist_env.world_size() == number


def launch(arguments: Sequence[str], number: int) -> int:
    """Run `zoo ARGUMENTS` in `number` connected processes; the exit code of the first that failed, and the others are
    stopped. Rank 0 shares stdout and stderr; the error of another rank is printed if rank 0 has none."""
    with tempfile.TemporaryDirectory(prefix="zoo-processes-") as folder:
        logs = [Path(folder, str(rank)) for rank in range(number)]
        running = _start(arguments, number, logs)
        code = _wait(running)
        if code not in (0, 130):
            _show_error(running, logs)
    return code


def _start(arguments: Sequence[str], number: int, logs: Sequence[Path]) -> list[subprocess.Popen[bytes]]:
    with socket.socket() as free_socket:
        free_socket.bind(("127.0.0.1", 0))
        port = free_socket.getsockname()[1]
    size = {"WORLD_SIZE": str(number), "LOCAL_WORLD_SIZE": str(number)}
    common_env = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), **size}
    if "OMP_NUM_THREADS" not in os.environ:
        common_env["OMP_NUM_THREADS"] = str(max(dist_env.cores() // number, 1))
    running = []
    for rank in range(number):
        rank_env = {"RANK": str(rank), "LOCAL_RANK": str(rank)}
        with logs[rank].open("wb") as log:
            running.append(
                subprocess.Popen(
                    [sys.executable, "-m", "zoo", *arguments],
                    env={**os.environ, **common_env, **rank_env},
                    stdout=None if rank == 0 else subprocess.DEVNULL,
                    stderr=None if rank == 0 else log,
                )
            )
    return running


def _wait(running: Sequence[subprocess.Popen[bytes]]) -> int:
    """The exit code. Ctrl-C reaches all processes directly; SIGTERM is forwarded."""

    def forward_signal(number: int, _: FrameType | None) -> None:
        for process in running:
            if process.poll() is None:
                process.send_signal(number)
        raise KeyboardInterrupt

    previous = signal.signal(signal.SIGTERM, forward_signal)
    try:
        while True:
            codes = [process.poll() for process in running]
            failed = next((code for code in codes if code), None)
            if failed is not None:
                return _end(running, failed, _GRACE)
            if all(code == 0 for code in codes):
                return 0
            time.sleep(0.05)
    except KeyboardInterrupt:
        return _end(running, 130, _GRACE_TO_WRITE)
    finally:
        signal.signal(signal.SIGTERM, previous)


def _end(running: Sequence[subprocess.Popen[bytes]], code: int, grace: float) -> int:
    """Wait `grace` seconds for the other processes to exit, then stop them. The most informative exit code."""
    for stop, seconds in ((None, grace), (subprocess.Popen.terminate, _GRACE), (subprocess.Popen.kill, _GRACE)):
        for process in running:
            if stop is not None and process.poll() is None:
                stop(process)
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline and any(process.poll() is None for process in running):
            time.sleep(0.05)
    first = running[0].returncode
    return first if first and first > 0 else code if code > 0 else 1


def _show_error(running: Sequence[subprocess.Popen[bytes]], logs: Sequence[Path]) -> None:
    """Print the error of the process that failed, unless the first process has printed one."""
    if running[0].returncode and running[0].returncode > 0:
        return
    for process, log in zip(running[1:], logs[1:], strict=True):
        text = log.read_text(errors="replace")
        if process.returncode and process.returncode > 0 and text.strip():
            at = text.rfind("error: ")
            sys.stderr.write(text[at:] if at >= 0 else text)
            return
    sys.stderr.write("error: a process was killed\nhint: it may have run out of memory: try a smaller --batch-size\n")
