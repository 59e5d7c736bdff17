"""`zoo check`: what is wrong with a data set, before a model is trained on it.

report = zoo.check("photos", html="check.html")
for f in report.findings:
    print(f.severity, f.title)
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Literal

from zoo.atomic_io import check_output_path
from zoo.data.check import PreflightReport, Report, examine_data, open_listing, preflight_check
from zoo.data.schema.columns import UNNAMED, Columns
from zoo.data.sources.registry import Unreadable
from zoo.dist_env import cores
from zoo.errors import UsageError

__all__ = ["PreflightReport", "Report", "check", "preflight_check"]


def check(
    data: str | os.PathLike[str],
    *,
    val: str | os.PathLike[str] | None = None,
    task: str = "auto",
    columns: Columns = UNNAMED,
    unreadable: Unreadable = "error",
    workers: int | Literal["auto"] = "auto",
    cache: bool = True,
    html: str | os.PathLike[str] | None = None,
) -> Report:
    """Read every image of `data` ("digits", a folder, a table) once and say what is wrong with it.

    val, task, columns: as `finetune` takes them. unreadable: the policy of the training, "error" or "skip"; under
    "skip" unreadable files are a warning. workers: processes, "auto" for one a core. cache: use and keep what was read
    of files that have not changed since. html: write a page with thumbnails there.

    Raises DataError if there is nothing to check, UsageError for unknown names and numbers.
    """
    if unreadable not in ("error", "skip"):
        raise UsageError(f"no policy {unreadable!r} for unreadable files", "known: error, skip")
    number = cores() if workers == "auto" else workers
    if number < 0:
        raise UsageError(f"{number} workers are too few", "give 0 or more, or auto")
    page = None if html is None else check_output_path(Path(html), "check.html")
    listing = open_listing(os.fspath(data), val=None if val is None else os.fspath(val), task=task, columns=columns)
    report = examine_data(os.fspath(data), listing, workers=number, cache=cache, skip_unreadable=unreadable == "skip")
    if page is not None:
        from zoo.reports.check_page import write_page

        write_page(report, page)
    return report
