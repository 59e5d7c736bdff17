"""`zoo check` as typed."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest


@pytest.fixture
def photos(photo_folder: Path, tmp_path: Path) -> Path:
    root = tmp_path / "photos"
    shutil.copytree(photo_folder, root)
    return root


def lines(text: str) -> list[list[str]]:
    return [line.split("\t") for line in text.splitlines()]


def test_a_folder_without_problems(photos: Path, zoo: Callable[..., Any]) -> None:
    result = zoo("check", photos)
    assert (result.code, result.err) == (0, "")
    assert lines(result.out) == [["images", "all", "24"], ["class", "china", "12"], ["class", "flower", "12"]]


def test_an_error_exits_with_3(photos: Path, zoo: Callable[..., Any]) -> None:
    shutil.copy(photos / "china/03.jpg", photos / "flower/same.jpg")
    (photos / "china/04.jpg").write_bytes(b"")
    result = zoo("check", photos)
    assert result.code == 3
    assert lines(result.out)[3:] == [
        ["error", "conflicting-labels", "0", f"{photos}/china/03.jpg", ""],
        ["error", "conflicting-labels", "0", f"{photos}/flower/same.jpg", ""],
        ["error", "unreadable", "0", f"{photos}/china/04.jpg", "empty file (zero bytes)"],
    ]
    (photos / "flower/same.jpg").unlink()
    assert zoo("check", photos, "--unreadable", "skip").code == 0


def test_json_holds_everything(photos: Path, zoo: Callable[..., Any]) -> None:
    shutil.copytree(photos, photos.with_name("others"))
    result = zoo("check", photos, "--val", photos.with_name("others"), "--json")
    found = json.loads(result.out)
    assert result.code == 3
    assert found["ok"] is False
    assert found["splits"] == {"training": 24, "validation": 24}
    assert found["classes"]["china"] == {"training": 12, "validation": 12}
    assert found["facts"]["formats"] == {"JPEG": 48}
    (leak,) = found["findings"]
    assert leak["kind"] == "leakage"
    assert len(leak["groups"]) == 24
    assert {image["split"] for image in leak["groups"][0]} == {"training", "validation"}


def test_the_most_severe_finding_comes_first(
    photos: Path, zoo: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("zoo.console.is_terminal", lambda stream: stream is sys.stdout)
    shutil.copy(photos / "china/03.jpg", photos / "flower/same.jpg")
    shutil.copy(photos / "china/05.jpg", photos / "china/copy.jpg")
    result = zoo("check", photos)
    assert result.code == 3
    assert "  classes  2: " in result.out
    error, warning = (
        result.out.index("ERROR: 1 image under different classes"),
        result.out.index("warning: 1 duplicate of 1 image"),
    )
    assert error < warning
    assert "    china/03.jpg = flower/same.jpg\n  → keep the correct one" in result.out
    assert result.out.rstrip().endswith("1 error, 1 warning. Fix the error before training.")
    assert "--html" in result.err
    (photos / "flower/same.jpg").unlink()
    (photos / "china/copy.jpg").unlink()
    assert "no problems found: ready for training" in zoo("check", photos).out


def test_html_report(photos: Path, tmp_path: Path, zoo: Callable[..., Any]) -> None:
    result = zoo("check", photos, "--html", tmp_path / "check.html")
    assert f"wrote {tmp_path / 'check.html'}" in result.err
    assert "<!doctype html>" in (tmp_path / "check.html").read_text()
    for place, code in ((tmp_path / "none/check.html", 3), (tmp_path, 2)):
        assert zoo("check", photos, "--html", place).code == code


@pytest.mark.parametrize(
    ("arguments", "code", "text"),
    [
        (("gone",), 3, "no such path: gone"),
        (("photos", "--workers", "many"), 2, "neither a number nor auto"),
        (("photos", "--workers", "-1"), 2, "less than 0"),
        (("photos", "--unreadable", "maybe"), 2, "is not a mode"),
        (("photos", "--image-column", "path"), 2, "photos is not a table"),
        (("photos", "--task", "guess"), 2, "no task named 'guess'"),
        (("photos", "--val", "nowhere"), 3, "no such path: nowhere"),
        (("digits", "--val", "photos"), 2, "digits brings its own"),
    ],
)
def test_bad_input(photos: Path, zoo: Callable[..., Any], arguments: tuple[str, ...], code: int, text: str) -> None:
    result = zoo("check", *arguments)
    assert result.code == code
    assert result.err.startswith("error: ")
    assert text in result.err
    assert result.out == ""


def test_a_table(photos: Path, zoo: Callable[..., Any]) -> None:
    rows = [f"{p.relative_to(photos)}\t{p.parent.name}" for p in sorted(photos.glob("*/*.jpg"))]
    table = photos / "all.tsv"
    table.write_text("where\twhat\n" + "\n".join([*rows, "gone.jpg\tchina"]) + "\n")
    result = zoo("check", table, "--image-column", "where", "--label-column", "what")
    assert result.code == 3
    assert lines(result.out)[-1][:2] == ["error", "unreadable"]
    assert "gone.jpg" in lines(result.out)[-1][3]
