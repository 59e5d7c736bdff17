"""Emoji as six designers drew them: by category, faces by expression, and a class for each thing."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from typing import Any

from images import Picture, fraction, slug
from packages import Packages
from PIL import Image

RASTER = "fluent-3d"  # Microsoft's Fluent 3D, the only one in pixels
VECTOR = ("noto", "twemoji", "openmoji", "emojione", "fluent-emoji-flat")
FACE_DESIGNERS = ("noto", "twemoji", "openmoji", RASTER)
# The drawings of these are the test part of emoji-things; the two Fluent styles are of one hand.
TEST_DESIGNERS = ("twemoji", "emojione")
FACES = (
    "face-smiling", "face-affection", "face-tongue", "face-hand", "face-neutral-skeptical", "face-sleepy",
    "face-unwell", "face-concerned", "face-negative", "cat-face",
)  # fmt: skip
CATEGORIES = (
    "smileys-emotion", "people-body", "animals-nature", "food-drink", "travel-places", "activities", "objects",
    "symbols",
)  # fmt: skip
THINGS = 60
_WIDTH = 128  # pixels
_UNDRAWABLE = ("1F4E6",)  # the renderer stops at Noto's package
_JOINERS = ("200D", "FE0F", "2640", "2642")  # zero-width joiner, emoji style, female and male sign
_PERSONS = ("1F468", "1F469", "1F9D1")  # man, woman, person
_CLOCKS = range(0x1F550, 0x1F568)


def emoji_category(packages: Packages) -> Iterator[Picture]:
    """Noto's drawings by category."""
    emoji = [e for e in _list(packages) if e["category"] in CATEGORIES]
    drawings = _draw(packages, "noto", emoji)
    for e in emoji:
        if e["hexcode"] in drawings:
            yield Picture(e["category"], e["hexcode"], _family(e["hexcode"]), drawings[e["hexcode"]])


def emoji_faces(packages: Packages) -> Iterator[Picture]:
    """Faces by expression; the drawings of one face by four designers are one group."""
    emoji = [e for e in _list(packages) if e["subcategory"] in FACES]
    for designer in FACE_DESIGNERS:
        drawings = _draw(packages, designer, emoji)
        for e in emoji:
            if e["hexcode"] in drawings:
                image = drawings[e["hexcode"]]
                yield Picture(e["subcategory"], f"{designer} {e['hexcode']}", e["hexcode"], image)


def emoji_things(packages: Packages) -> Iterator[Picture]:
    """Animals and food: each a class, each designer a group."""
    emoji = [
        e for e in _list(packages)
        if e["category"] in ("animals-nature", "food-drink") and "-" not in e["hexcode"].removesuffix("-FE0F")
    ]  # fmt: skip
    drawn = {designer: _draw(packages, designer, emoji) for designer in (*VECTOR, RASTER)}
    complete = [e for e in emoji if all(e["hexcode"] in drawings for drawings in drawn.values())]
    for e in sorted(complete, key=lambda e: fraction(f"thing {e['hexcode']}"))[:THINGS]:
        for designer, drawings in drawn.items():
            yield Picture(e["label"], f"{e['label']} {designer}", designer, drawings[e["hexcode"]])


def _list(packages: Packages) -> list[dict[str, Any]]:
    """Hexcode, label, category and subcategory of every emoji."""
    folder = packages.npm("emojibase-data")
    names = json.loads((folder / "meta" / "groups.json").read_text(encoding="utf-8"))
    emoji = json.loads((folder / "en" / "data.json").read_text(encoding="utf-8"))
    return [
        {
            "hexcode": e["hexcode"],
            "label": e["label"],
            "category": names["groups"][str(e["group"])],
            "subcategory": names["subgroups"][str(e["subgroup"])],
        }
        for e in emoji
        if "group" in e and e["hexcode"] not in _UNDRAWABLE
    ]


def _draw(packages: Packages, designer: str, emoji: Iterable[dict[str, Any]]) -> dict[str, Image.Image]:
    """Hexcode → drawing, of the emoji that the designer has."""
    if designer == RASTER:
        files = {e["hexcode"]: _raster_file(packages, e["hexcode"]) for e in emoji}
        return {code: Image.open(file) for code, file in files.items() if file.is_file()}
    folder = packages.npm(f"@iconify-json/{designer}")
    names = json.loads((folder / "chars.json").read_text(encoding="utf-8"))
    icons = json.loads((folder / "icons.json").read_text(encoding="utf-8"))
    # EmojiOne's package has no table of codes, and names its icons as Unicode does.
    found = {e["hexcode"]: names.get(e["hexcode"].lower().replace("-fe0f", ""), slug(e["label"])) for e in emoji}
    svgs = {code: _svg(icons, name) for code, name in found.items() if name in icons["icons"]}
    images = packages.render((svg, _WIDTH) for svg in svgs.values())
    return dict(zip(svgs, images, strict=True))


def _raster_file(packages: Packages, hexcode: str) -> Any:
    return packages.npm("@lobehub/fluent-emoji-3d") / "assets" / f"{hexcode.lower()}.webp"


def _svg(icons: dict[str, Any], name: str) -> str:
    """An icon of Iconify's JSON as a whole SVG; the size of the set holds where the icon has none."""
    of = {"left": 0, "top": 0, "width": 16, "height": 16, **icons, **icons["icons"][name]}
    return (
        '<svg xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink" '
        f'viewBox="{of["left"]} {of["top"]} {of["width"]} {of["height"]}">{of["body"]}</svg>'
    )


def _family(hexcode: str) -> str:
    """Emoji that show nearly the same: variants of gender, of profession, and of the time on a clock."""
    codes = [c for c in hexcode.split("-") if c not in _JOINERS] or [hexcode]
    if codes[0] in _PERSONS and len(codes) > 1:
        return f"person {codes[1]}"
    return "clock" if int(codes[0], 16) in _CLOCKS else codes[0]
