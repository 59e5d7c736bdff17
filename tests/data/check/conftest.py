"""Clean folders, to which tests add problems."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from zoo.data.check import Report, examine_data
from zoo.data.open import data_config, open_listing


@pytest.fixture
def clean(photo_folder: Path, tmp_path: Path) -> Path:
    """china/ and flower/, 12 photographs each, not split."""
    root = tmp_path / "photos"
    shutil.copytree(photo_folder, root)
    return root


@pytest.fixture
def split_folder(photo_folder: Path, tmp_path: Path) -> Path:
    """The same as train/ (10 each) and val/ (2 each)."""
    root = tmp_path / "split_folder"
    for source in sorted(photo_folder.glob("*/*.jpg")):
        part = "val" if int(source.stem) >= 10 else "train"
        target = root / part / source.parent.name / source.name
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(source, target)
    return root


@pytest.fixture
def run_check() -> Callable[..., Report]:
    """`run_check(folder, val=…, task=…, workers=…)`."""

    def run_check(
        data: Path | str,
        *,
        val: Path | None = None,
        task: str = "auto",
        workers: int = 0,
        cache: bool = False,
        skip: bool = False,
    ) -> Report:
        listing = open_listing(data_config(str(data), val=None if val is None else str(val)), task=task)
        return examine_data(str(data), listing, workers=workers, cache=cache, skip_unreadable=skip)

    return run_check
