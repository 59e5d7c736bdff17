"""Download a URL to a file: resumes an interrupted download, and checks the hash before renaming the file.

    with file_lock(lock, "resnet34 of timm"):
        download(url, path, size=87_275_112, expected=ExpectedHash("b627a593"), what="resnet34 of timm")

The bytes go to `NAME.incomplete` next to the target. After an interruption, also of a killed process, the next download
continues that file. A file with a wrong hash is deleted and downloaded once more.
"""

from __future__ import annotations

import errno
import os
import re
import shutil
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from zoo.console import is_terminal, note
from zoo.errors import WeightsError, no_space
from zoo.hub.hashes import ExpectedHash
from zoo.hub.http import Unreachable, as_unreachable, open_url

NO_WEIGHTS_HINT = "or start with --weights none"
TARGET_HINT = "free some disk space, or choose another --to DIR"

# Seconds without a single byte after which a download has stalled.
READ_TIMEOUT = 8.0
# Consecutive connections that may be lost without downloading another `_CHUNK`.
_MAX_RECONNECTS = 5
_CHUNK = 1 << 20


_ProgressCallback = Callable[[int], None]


class CorruptDownload(Exception):
    """The downloaded file had a wrong size or hash, twice."""


class _ConnectionLost(Exception):
    """The connection ended before the end of the file."""


@contextmanager
def file_lock(lock: Path, what: str) -> Iterator[None]:
    """Hold a lock between processes of this machine. The file `lock` is not deleted. Raises OSError."""
    from filelock import FileLock, Timeout

    lock.parent.mkdir(parents=True, exist_ok=True)
    handle = FileLock(str(lock))
    try:
        handle.acquire(timeout=1)
    except Timeout:
        note(f"waiting for another process that downloads {what}")
        handle.acquire()
    try:
        yield
    finally:
        handle.release()


def download(
    url: str,
    target: Path,
    *,
    what: str,
    size: int | None = None,
    expected: ExpectedHash | None = None,
    headers: Mapping[str, str] | None = None,
) -> None:
    """Download `url` to `target`, replacing an existing file. what: name of the file for messages.

    Without an `expected` hash an interrupted download is not resumed. Raises Unreachable if the download fails or
    stalls for `READ_TIMEOUT`, CorruptDownload if size or hash are wrong twice, OSError.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    part = target.with_name(f"{target.name}.incomplete")
    if expected is None:
        part.unlink(missing_ok=True)  # it may belong to another file, and no hash would tell
    _require_free_space(part, size)
    note(f"downloading {what}" + (f" ({format_size(size)})" if size else ""))
    for attempt in (0, 1):
        try:
            _download_all(part, url, size, headers or {}, what)
        except OSError:
            part.unlink(missing_ok=True)  # do not leave a full disk full
            raise
        if (size is None or part.stat().st_size == size) and (expected is None or expected.matches(part)):
            os.replace(part, target)
            return
        part.unlink()
        note("the downloaded file has a wrong size or hash" + ("" if attempt else ": downloading it again"))
    raise CorruptDownload


def _download_all(part: Path, url: str, size: int | None, headers: Mapping[str, str], what: str) -> None:
    """Append to `part` until it is complete."""
    furthest, failures = _length(part), 0
    with _progress_bar(what, size) as report_progress:
        while size is None or _length(part) < size:
            try:
                _append(part, url, _length(part), size, headers, report_progress)
                return
            except _ConnectionLost as e:
                there = _length(part)
                # A bad connection that makes progress may go on; one that starts again and again may not.
                failures = 0 if there >= furthest + _CHUNK else failures + 1
                furthest = max(furthest, there)
                if failures > _MAX_RECONNECTS:
                    raise Unreachable(f"{e}; the next attempt continues after {format_size(there)}") from e


def _length(part: Path) -> int:
    return part.stat().st_size if part.is_file() else 0


def _append(
    part: Path, url: str, start: int, size: int | None, headers: Mapping[str, str], report_progress: _ProgressCallback
) -> None:
    range_headers = {**headers, "Range": f"bytes={start}-"} if start else headers
    try:
        with as_unreachable():
            response = open_url(url, range_headers, READ_TIMEOUT)
    except Unreachable as e:
        if start and "416" in str(e):
            part.unlink()  # it is longer than the file
            raise _ConnectionLost(str(e)) from None
        raise
    with response:
        resumed = response.status == 206 and _starts_at(response.headers.get("Content-Range"), start)
        if start and not resumed:
            start = 0  # the server ignored Range and sends the whole file
        content_length = response.headers.get("Content-Length")
        end = start + int(content_length) if content_length is not None and content_length.isdigit() else size
        received = start
        with part.open("ab" if start else "wb") as out:
            report_progress(received)
            while True:
                try:
                    with as_unreachable():
                        chunk = response.read1(_CHUNK)
                except Unreachable as e:
                    if "does not answer" in str(e):
                        raise Unreachable(
                            f"it stopped after {format_size(received)} and sent nothing for {READ_TIMEOUT:.0f} s; "
                            "the next attempt continues from there"
                        ) from None
                    raise _ConnectionLost(str(e)) from None
                if not chunk:
                    break
                out.write(chunk)
                received += len(chunk)
                report_progress(received)
                if size is not None and received > size:
                    return  # larger than expected: the caller rejects it
    if end is not None and received < end:
        raise _ConnectionLost(f"the connection was lost after {received:,} of {end:,} bytes")


def _starts_at(content_range: str | None, start: int) -> bool:
    found = re.match(r"bytes (\d+)-", content_range or "")
    return found is not None and int(found[1]) == start


def _require_free_space(part: Path, size: int | None) -> None:
    """Raises OSError, as the disk would do later."""
    missing = (size or 0) - _length(part)
    free = shutil.disk_usage(part.parent).free
    if missing > free:
        raise OSError(errno.ENOSPC, f"{format_size(missing)} needed, {format_size(free)} free")


@contextmanager
def _progress_bar(what: str, size: int | None) -> Iterator[_ProgressCallback]:
    """A function to call with the bytes received so far. It shows a bar on a terminal, removed at the end."""
    if not is_terminal(sys.stderr):
        yield lambda _: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn, TransferSpeedColumn

    columns = (TextColumn("{task.description}"), BarColumn(bar_width=20), DownloadColumn(), TransferSpeedColumn())
    with Progress(*columns, TimeRemainingColumn(), console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task(what, total=size)
        yield lambda received: progress.update(task, completed=received)


def format_size(size: int) -> str:
    """87.3 MB, 312 kB, 12 bytes."""
    if size >= 1e6:
        return f"{size / 1e6:,.1f} MB"
    return f"{size / 1e3:.0f} kB" if size >= 1e3 else f"{size} bytes"


def alternatives_hint(variable: str = "") -> str:
    """What to do without the server. variable: environment variable with the URL of another hub server."""
    other = f"; or set {variable}=URL to use another server" if variable else ""
    return f"download the file on another machine (zoo fetch) and use --weights FILE, {NO_WEIGHTS_HINT}{other}"


def write_error(path: Path, error: OSError, hint: str) -> WeightsError:
    detail = error.strerror or str(error)
    why = f"no space left on the disk ({detail})" if no_space(error) else detail
    return WeightsError(f"cannot write weights to {path}: {why}", hint)
