"""The fast check before training."""

from __future__ import annotations

import shutil
from pathlib import Path

from zoo.data import data_config, open_data
from zoo.data.check import preflight_check


def test_clean_data_has_no_findings(clean: Path) -> None:
    found = preflight_check(open_data(data_config(str(clean))))
    assert found.findings == ()
    assert found.coverage == "compared all 24 images for duplicates"
    assert preflight_check(open_data(data_config("digits"))).findings == ()


def test_duplicates_separated_by_a_split_are_leakage(clean: Path) -> None:
    for number in range(12):
        shutil.copy(clean / f"china/{number:02d}.jpg", clean / f"china/copy{number:02d}.jpg")
    found = preflight_check(open_data(data_config(str(clean))))
    kinds = {f.kind: f for f in found.findings}
    assert kinds["leakage"].severity == "error"
    for group in kinds["leakage"].groups:
        names = sorted(Path(found.listing.where(int(i))).name.removeprefix("copy") for i in group)
        assert names[0] == names[1]
    assert any("such as " in line and ".jpg" in line for line in found.lines())


def test_files_of_one_size_with_different_bytes_are_not_equal(clean: Path) -> None:
    size = 60_000
    for number in range(6):
        path = clean / f"china/{number:02d}.jpg"
        data = path.read_bytes()
        middle = bytes([number]) * (size - len(data) - 5000)
        path.write_bytes(data + middle + b"\0" * 5000)  # the same ends, the same size
    assert preflight_check(open_data(data_config(str(clean)))).findings == ()


def test_counts_are_those_before_the_split(clean: Path) -> None:
    for number in range(3, 12):
        (clean / f"china/{number:02d}.jpg").unlink()
    (found,) = preflight_check(open_data(data_config(str(clean)))).findings
    assert (found.kind, found.names) == ("few-images", ("china (3)",))


def test_the_time_limit_is_respected_and_reported(split_folder: Path) -> None:
    shutil.copy(split_folder / "train/china/03.jpg", split_folder / "val/china/again.jpg")
    found = preflight_check(open_data(data_config(str(split_folder))), seconds=0)
    assert found.findings == ()
    assert found.coverage.startswith("compared 23 of 25 images")
