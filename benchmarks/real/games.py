"""Pictures of games: playing cards of many decks, chess pieces of many sets, units of a strategy game by race."""

from __future__ import annotations

import re
from collections.abc import Iterator

from images import Picture
from packages import Packages
from PIL import Image

SUITS = ("clubs", "diamonds", "hearts", "spades")
RANKS = ("ace", *map(str, range(2, 11)), "jack", "queen", "king")
_SHEET_ROWS = 5  # four suits; jokers and back
_SHEET_WIDTH = 13 * 140  # pixels
# Decks with other suits, or saved twice.
NO_DECKS = ("swiss-xvii", "anglo_bitmap", "gnomangelo_bitmap", "Атласные")
# Decks with the pips or the court cards of another one → the one group.
DECK_FAMILIES = {
    "gnomangelo": "anglo", "anglo_modern_4_color": "anglo_modern", "neoclassical_4_color": "neoclassical",
    "atlasnye_skat": "atlasnye", "guyenne-classic": "paris", "bellot": "paris",
    "tango_nuevo": "tango",
}  # fmt: skip
PIECES = {"k": "king", "q": "queen", "r": "rook", "b": "bishop", "n": "knight", "p": "pawn"}
OTHER_GAMES = ("ada", "makruk", "sittuyin")  # Cambodian, Thai and Burmese chess
CHESS_FAMILIES = {"merida_new": "merida", "chessmonk": "merida"}
# Folder of Wesnoth's units → class.
RACES = {
    "drakes": "drakes", "dwarves": "dwarves", "elves-wood": "elves", "goblins": "goblins",
    "human-loyalists": "loyalists", "human-outlaws": "outlaws", "human-magi": "magi", "merfolk": "merfolk",
    "monsters": "monsters", "nagas": "nagas", "orcs": "orcs", "saurians": "saurians", "trolls": "trolls",
    "undead": "undead", "undead-skeletal": "skeletons", "dunefolk": "dunefolk",
}  # fmt: skip
FRAMES = 6  # most animation frames of one unit


def cards(packages: Packages) -> Iterator[Picture]:
    """Cards by rank and suit, cut from the sheets of Aisleriot's decks; a deck is a group."""
    files = sorted((packages.share / "aisleriot" / "cards").glob("*.svgz"))
    files = [file for file in files if file.stem not in NO_DECKS]
    sheets = packages.render((file.read_bytes(), _SHEET_WIDTH) for file in files)
    for file, sheet in zip(files, sheets, strict=True):
        width, height = sheet.width / len(RANKS), sheet.height / _SHEET_ROWS
        for row, suit in enumerate(SUITS):
            for column, rank in enumerate(RANKS):
                image = sheet.crop((column * width, row * height, (column + 1) * width, (row + 1) * height))
                yield Picture(f"{suit} {rank}", file.stem, DECK_FAMILIES.get(file.stem, file.stem), image)


def chess(packages: Packages) -> Iterator[Picture]:
    """Chess pieces by colour and kind; a set of pieces is a group."""
    base = packages.share / "pychess" / "pieces"
    files = [
        file for file in sorted(base.glob("*/[wb][kqrbnp].svg")) if file.parent.name not in (*OTHER_GAMES, "ttf")
    ]  # fmt: skip
    namespace = b'<svg xmlns="http://www.w3.org/2000/svg" viewBox'  # two files lack it
    svgs = [file.read_bytes().replace(b"<svg viewBox", namespace) for file in files]
    for file, image in zip(files, packages.render((svg, 128) for svg in svgs), strict=True):
        pieces = file.parent.name
        colour = "white" if file.stem[0] == "w" else "black"
        yield Picture(f"{colour} {PIECES[file.stem[1]]}", pieces, CHESS_FAMILIES.get(pieces, pieces), image)


def units(packages: Packages) -> Iterator[Picture]:
    """Frames of Wesnoth's units; units whose names begin with the same word are one group."""
    (base,) = (packages.share / "games" / "wesnoth").glob("*/data/core/images/units")
    for folder, race in RACES.items():
        count: dict[str, int] = {}
        for file in sorted((base / folder).rglob("*.png"), key=lambda file: (len(file.stem), file.stem)):
            path = file.relative_to(base / folder)
            if re.search(r"die|death|morph|-mask|teleport|shadow", str(path)):
                continue
            unit = re.split(r"[-+/\d.]", str(path))[0]
            kind = path.parts[0] if len(path.parts) > 1 else re.split(r"[+.]|-(?=[a-z]+-?\d|\d)", path.name)[0]
            count[kind] = count.get(kind, 0) + 1
            if count[kind] <= FRAMES:
                yield Picture(race, str(path), f"{folder} {unit}", Image.open(file))
