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
from zoo.data.check import Report, examine_data
from zoo.data.open import data_config, open_listing
from zoo.data.schema.columns import UNNAMED, Columns
from zoo.dist_env import cores
from zoo.errors import UsageError


def check(
    data: str | os.PathLike[str],
    *,
    val: str | os.PathLike[str] | None = None,
    task: str = "auto",
    columns: Columns = UNNAMED,
    unreadable: Literal["error", "skip"] = "error",
    workers: int | Literal["auto"] = "auto",
    cache: bool = True,
    html: str | os.PathLike[str] | None = None,
) -> Report:
    """Read every image of `data` once and report what is wrong with it.

    Args:
        data: a source of images, as for `finetune`.
        val: a separate source of validation images.
        task: name of a task, or "auto".
        columns: names of a table's columns.
        unreadable: policy of the training; under "skip" unreadable files are a warning, not an error.
        workers: number of processes; "auto": one per core.
        cache: reuse the results of unchanged files, and store new ones.
        html: file for a page with thumbnails.

    Raises:
        DataError: there is nothing to check.
        UsageError: unknown names or invalid numbers.
    """
    number = cores() if workers == "auto" else workers
    if number < 0:
        raise UsageError(f"--workers {number} is less than 0", "give 0 or more, or auto")
    page = None if html is None else check_output_path(Path(html), "check.html")
    config = data_config(os.fspath(data), columns, val=None if val is None else os.fspath(val), unreadable=unreadable)
    listing = open_listing(config, task=task)
    report = examine_data(
        config.source, listing, workers=number, cache=cache, skip_unreadable=config.unreadable == "skip"
    )
    if page is not None:
        from zoo.reports.check_page import write_page

        write_page(report, page)
    return report
