"""Reading all images once: in any number of processes, cached, and interrupted."""

from __future__ import annotations

import os
import shutil
import signal
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from zoo.data.check import Report, examine_images, scan_images
from zoo.data.check.image_record import RecordCache
from zoo.data.file_dataset import FileDataset
from zoo.data.open import data_config, open_listing
from zoo.errors import DataError

RunCheck = Callable[..., Report]


@pytest.fixture
def many(photo_folder: Path, tmp_path: Path) -> Path:
    """384 files under two classes: enough for a pool."""
    root = tmp_path / "many"
    for source in sorted(photo_folder.glob("*/*.jpg")):
        for copy in range(16):
            target = root / source.parent.name / f"{source.stem}-{copy:02d}.jpg"
            target.parent.mkdir(parents=True, exist_ok=True)
            os.link(source, target)
    return root


def clear_cache() -> None:
    shutil.rmtree(Path(os.environ["ZOO_CACHE"]) / "check", ignore_errors=True)


def test_results_do_not_depend_on_the_number_of_processes(many: Path, run_check: RunCheck) -> None:
    (many / "china/00-00.jpg").unlink()
    (many / "china/00-00.jpg").write_bytes(b"")
    alone, pooled = run_check(many), run_check(many, workers=3)
    assert np.array_equal(alone.rows[list(alone.rows.dtype.names[1:])], pooled.rows[list(alone.rows.dtype.names[1:])])
    assert dict(alone.reasons) == dict(pooled.reasons) == {0: "empty file (zero bytes)"}
    assert [f.title for f in alone.findings] == [f.title for f in pooled.findings]


def test_records_are_cached_until_the_file_changes(
    clean: Path, run_check: RunCheck, monkeypatch: pytest.MonkeyPatch
) -> None:
    (clean / "china/02.jpg").write_bytes(b"")
    first = run_check(clean, cache=True)
    assert first.from_cache == 0
    again = run_check(clean, cache=True)
    assert again.from_cache == 24
    assert np.array_equal(again.rows, first.rows)
    assert dict(again.reasons) == dict(first.reasons)
    assert again.to_dict()["findings"] == first.to_dict()["findings"]

    shutil.copy(clean / "china/03.jpg", clean / "china/02.jpg")
    os.utime(clean / "flower/05.jpg")
    changed = run_check(clean, cache=True)
    assert changed.from_cache == 22
    assert [f.kind for f in changed.findings] == ["duplicates"]
    assert run_check(clean).from_cache == 0


def test_a_damaged_or_older_cache_is_ignored(clean: Path, run_check: RunCheck, monkeypatch: pytest.MonkeyPatch) -> None:
    run_check(clean, cache=True)
    path = RecordCache(str(clean)).file.path
    monkeypatch.setattr("zoo.data.check.image_record.VERSION", 2)
    assert run_check(clean, cache=True).from_cache == 0
    path.write_bytes(path.read_bytes()[:1000])
    assert run_check(clean, cache=True).from_cache == 0
    assert run_check(clean, cache=True).from_cache == 24


def test_a_cache_that_cannot_be_written_gives_a_note(
    clean: Path,
    run_check: RunCheck,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("ZOO_CACHE", str(tmp_path / "file"))
    assert run_check(clean, cache=True).ok
    assert "the results are not cached" in capsys.readouterr().err


def test_ctrl_c_caches_the_records_so_far(many: Path, run_check: RunCheck, monkeypatch: pytest.MonkeyPatch) -> None:
    clear_cache()
    calls = []

    def interrupted(source: FileDataset) -> examine_images.ExaminedImages:
        calls.append(len(source))
        if len(calls) == 4:
            signal.raise_signal(signal.SIGINT)
        return examine_images.examine_files(source)

    with monkeypatch.context() as patched:
        patched.setattr("zoo.data.check.scan_images.examine_files", interrupted)
        with pytest.raises(KeyboardInterrupt):
            run_check(many, cache=True)
    assert run_check(many, cache=True).from_cache >= 3 * 64


def killed(source: FileDataset) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def test_a_killed_process_raises(many: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    listing = open_listing(data_config(str(many)))
    monkeypatch.setattr("zoo.data.check.scan_images.examine_files", killed)
    with pytest.raises(DataError, match="was killed while reading files such as"):
        scan_images.scan_images([p.source for p in listing.splits], workers=2, cache=False)
