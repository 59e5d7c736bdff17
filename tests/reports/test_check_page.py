"""The HTML page of a check: complete, escaped and readable."""

from __future__ import annotations

import base64
import io
import re
import shutil
from html.parser import HTMLParser
from pathlib import Path

import pytest
from PIL import Image

import zoo

EVIL = "<script>alert('x')<b onerror=\"y\">&.jpg"


class Page(HTMLParser):
    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text: list[str] = []
        self.open: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in ("meta", "img", "br"):
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text.append(data)


@pytest.fixture
def folder(photo_folder: Path, tmp_path: Path) -> Path:
    root = tmp_path / "photos"
    shutil.copytree(photo_folder, root)
    shutil.copy(root / "china/03.jpg", root / "china" / EVIL)
    (root / "china" / "<i>empty.jpg").touch()
    (root / "<u>roses").mkdir()
    shutil.move(root / "flower/01.jpg", root / "<u>roses/1.jpg")
    return root


def test_names_are_escaped(folder: Path, tmp_path: Path) -> None:
    report = zoo.check(folder, html=tmp_path / "check.html")
    text = (tmp_path / "check.html").read_text(encoding="utf-8")
    page = Page(text)
    assert page.open == []
    tags = {tag for tag, _ in page.tags}
    assert not tags & {"script", "link", "iframe", "u", "i", "object"}
    assert not any(name.startswith("on") for _, attributes in page.tags for name in attributes)
    shown = "".join(page.text)
    assert f"china/{EVIL}" in shown
    assert "china/<i>empty.jpg" in shown
    assert "<u>roses" in shown
    for finding in report.findings:
        assert finding.title in shown
        assert finding.advice in shown


def test_page_is_one_file_with_embedded_images(folder: Path, tmp_path: Path) -> None:
    zoo.check(folder, html=tmp_path / "check.html")
    text = (tmp_path / "check.html").read_text(encoding="utf-8")
    assert not re.search(r"https?://|url\(|@import", text)
    sources = [a["src"] or "" for tag, a in Page(text).tags if tag == "img"]
    assert len(sources) == 2  # the image and its copy
    for source in sources:
        head, data = source.split(",")
        assert head == "data:image/jpeg;base64"
        with Image.open(io.BytesIO(base64.b64decode(data))) as image:
            assert max(image.size) <= 152


def test_number_of_thumbnails_is_limited(folder: Path, tmp_path: Path) -> None:
    for number in range(60):
        shutil.copy(folder / "flower/05.jpg", folder / f"flower/again{number}.jpg")
        Image.new("RGB", (80, 90), (number, 0, 0)).save(folder / f"flower/blank{number}.png")
    zoo.check(folder, html=tmp_path / "check.html")
    text = (tmp_path / "check.html").read_text(encoding="utf-8")
    assert len([1 for tag, _ in Page(text).tags if tag == "img"]) < 60
    assert "and 55 more" in text
    assert "zoo check --json lists all" in text


def test_an_image_deleted_after_the_check_is_left_blank(folder: Path, tmp_path: Path) -> None:
    from zoo.reports.check_page import write_page

    report = zoo.check(folder)
    (folder / "china" / EVIL).unlink()
    write_page(report, tmp_path / "check.html")
    assert "china/03.jpg" in (tmp_path / "check.html").read_text(encoding="utf-8")
