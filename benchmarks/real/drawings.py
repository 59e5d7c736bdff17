"""Drawings: clip art by subject, desktop icons by purpose, flags by continent, letters by writing system."""

from __future__ import annotations

import json
import re
import sys
import unicodedata
import warnings
from collections.abc import Iterator

from images import Picture, crop_white, on_white
from packages import Packages
from PIL import Image, ImageDraw, ImageFont

CLIPART = (
    "animals/birds", "animals/bugs", "animals/fish", "animals/mammals", "buildings/homes", "computer/hardware",
    "education/books", "food/beverages", "food/breads_and_carbs", "food/desserts", "food/fruit",
    "food/meats_and_eggs", "people/bodypart", "people/clothing", "plants/flowers", "plants/trees",
    "recreation/music", "recreation/sports", "recreation/toys", "signs_and_symbols/weather", "tools/weapons",
    "transportation/boating", "transportation/vehicles",
)  # fmt: skip
CONTEXTS = ("actions", "apps", "devices", "mimetypes", "places", "categories", "status")
# Folder of a context in each icon theme, at 48 pixels.
THEMES = {"oxygen": "oxygen/base/48x48/{}", "mate": "mate/48x48/{}", "faenza": "Faenza/{}/48"}
# Words in the names of icons that say nothing of what is drawn.
_GENERIC = {"application", "applications", "gnome", "gtk", "kde", "mate", "mime", "stock", "text", "vnd", "x", "xfce"}
# Files of Noto Sans → first words of the names of the letters in Unicode.
SCRIPTS = {
    "Arabic": "ARABIC", "Armenian": "ARMENIAN", "Balinese": "BALINESE", "Bengali": "BENGALI", "Cherokee": "CHEROKEE",
    "Coptic": "COPTIC", "Deseret": "DESERET", "Devanagari": "DEVANAGARI", "Ethiopic": "ETHIOPIC",
    "Georgian": "GEORGIAN", "Glagolitic": "GLAGOLITIC", "Gothic": "GOTHIC", "Gujarati": "GUJARATI",
    "Gurmukhi": "GURMUKHI", "Hebrew": "HEBREW", "Javanese": "JAVANESE", "Kannada": "KANNADA", "Khmer": "KHMER",
    "Lao": "LAO", "Malayalam": "MALAYALAM", "Mongolian": "MONGOLIAN", "Myanmar": "MYANMAR", "NKo": "NKO",
    "Oriya": "ORIYA", "Osage": "OSAGE", "Runic": "RUNIC", "Sinhala": "SINHALA", "Syriac": "SYRIAC", "Tamil": "TAMIL",
    "Telugu": "TELUGU", "Thaana": "THAANA", "Thai": "THAI", "Tifinagh": "TIFINAGH", "Vai": "VAI", "Yi": "YI",
}  # fmt: skip
_CANVAS = 128  # pixels
_LARGEST = 10_000_000  # pixels; some drawings were saved at the size of a poster


def clipart(packages: Packages) -> Iterator[Picture]:
    """Open Clip Art; drawings whose names begin with the same word are one group."""
    base = packages.share / "openclipart" / "png"
    for subject in CLIPART:
        for file in sorted((base / subject).rglob("*.png")):
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", Image.DecompressionBombWarning)
                image = Image.open(file)
            if image.width * image.height < _LARGEST:
                first_word = re.split(r"[\d_-]", file.stem)[0]
                drawing = crop_white(on_white(image))  # some are small on a large page
                yield Picture(subject.split("/")[1], file.stem, f"{subject} {first_word}", drawing)


def icons(packages: Packages) -> Iterator[Picture]:
    """Icons of three themes; icons of all themes whose names have the same first telling word are one group."""
    for theme, pattern in THEMES.items():
        for context in CONTEXTS:
            for file in sorted((packages.share / "icons" / pattern.format(context)).glob("*.png")):
                target = file.resolve()  # many are links to one file
                if target.is_file() and target.stat().st_size:
                    words = [word for word in re.split(r"[-_.]", target.stem) if word not in _GENERIC]
                    yield Picture(context, f"{theme} {target.stem}", (words or [target.stem])[0], Image.open(target))


def flags(packages: Packages) -> Iterator[Picture]:
    """Flags of countries and territories."""
    countries = json.loads((packages.npm("world-countries") / "countries.json").read_text(encoding="utf-8"))
    for country in countries:
        file = packages.share / "iso-flags-png-320x240" / f"{country['cca2'].lower()}.png"
        if file.is_file():
            yield Picture(country["region"], country["name"]["common"], country["cca2"], Image.open(file))


def scripts(packages: Packages) -> Iterator[Picture]:
    """Letters; those that differ only in their marks are one group."""
    fonts = packages.share / "fonts" / "truetype" / "noto"
    letters = [chr(c) for c in range(sys.maxunicode + 1) if unicodedata.category(chr(c)) in ("Lo", "Lu", "Ll")]
    for script, word in SCRIPTS.items():
        font = ImageFont.truetype(str(fonts / f"NotoSans{script}-Regular.ttf"), size=_CANVAS // 2)
        missing = bytes(font.getmask("\U0010fffd"))
        for letter in letters:
            name = unicodedata.name(letter, "")
            if name.startswith(f"{word} ") and bytes(font.getmask(letter)) != missing:
                group = re.sub(r" WITH .*| SMALL| CAPITAL", "", name)
                yield Picture(script, name, group, _draw(letter, font))


def _draw(letter: str, font: ImageFont.FreeTypeFont) -> Image.Image:
    image = Image.new("RGB", (_CANVAS, _CANVAS), "white")
    ImageDraw.Draw(image).text((_CANVAS / 2, _CANVAS / 2), letter, fill="black", font=font, anchor="mm")
    return image
