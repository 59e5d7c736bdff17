"""Every number that a check decides by, with its reason. Nothing else in this room has a limit of its own."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = [
    "ASPECT",
    "BLANK_LEVELS",
    "COLOUR",
    "DETAIL",
    "DISTANCE",
    "FOLDER_UNREADABLE",
    "GREY_LEVELS",
    "IMBALANCE",
    "MIN_CLASS_IMAGES",
    "NEAR_SIDE",
    "SAME_SHAPE",
    "SIMILAR",
    "SIZE_OUTLIER_RATIO",
    "THRESHOLDS",
    "TINY",
    "Threshold",
]

MIN_CLASS_IMAGES = 10
IMBALANCE = 10.0
TINY = 32
ASPECT = 5.0
SIZE_OUTLIER_RATIO = 8.0
GREY_LEVELS = 3
BLANK_LEVELS = 8
FOLDER_UNREADABLE = 0.5
NEAR_SIDE = 32
DETAIL = 4.0
DISTANCE = 7
SIMILAR = 0.99
COLOUR = 12.0
SAME_SHAPE = 1.1


@dataclass(frozen=True)
class Threshold:
    what: str
    value: str
    why: str


THRESHOLDS: tuple[Threshold, ...] = (
    Threshold("images of a class: an error below", "2", "a split needs one on each side"),
    Threshold(
        "images of a class: a warning below",
        str(MIN_CLASS_IMAGES),
        "a fifth held out is one image; its class is then either 0 % or 100 % right",
    ),
    Threshold(
        "largest class : smallest class, a warning from",
        f"{IMBALANCE:g} : 1",
        "our choice: the low end of the ratios of Buda, Maki and Mazurowski, Neural Networks 2018",
    ),
    Threshold(
        "tiny image: shorter side below",
        f"{TINY} px, and half the median",
        "the stride of most networks is 32: less is one cell of the last feature map; a set of small images is none",
    ),
    Threshold(
        "extreme shape: longer side : shorter side from",
        f"{ASPECT:g} : 1, and twice the median",
        "a centre crop sees a fifth of it",
    ),
    Threshold(
        "odd size: side (root of the area) against the median",
        f"{SIZE_OUTLIER_RATIO:g} times or 1/{SIZE_OUTLIER_RATIO:g}",
        "three halvings: things are shown at a scale that the others never have",
    ),
    Threshold(
        "grey image: red, green and blue differ by at most",
        f"{GREY_LEVELS} of 255 levels",
        "our choice: room for JPEG's rounding of colour; taken on the 32x32 reduction",
    ),
    Threshold(
        "blank image: all levels within",
        f"{BLANK_LEVELS} of 255",
        "our choice: what a sensor or JPEG adds to an empty picture",
    ),
    Threshold(
        "class folder: share of unreadable files above",
        f"{FOLDER_UNREADABLE:.0%}",
        "a download or a copy that failed as a whole",
    ),
    Threshold(
        "near-duplicates: shorter side from",
        f"{NEAR_SIDE} px",
        "below that different digits and icons look alike; such images are compared for equality only",
    ),
    Threshold(
        "near-duplicates: standard deviation of the grey levels from",
        f"{DETAIL:g} of 255",
        "a picture of clear sky has no detail to be recognised by",
    ),
    Threshold(
        "near-duplicates: bits of the 64-bit pHash that differ, at most",
        f"{DISTANCE}",
        "finds 97 % of photo crops saved again at JPEG quality 60 and 98 % at half the size (docs/check.md)",
    ),
    Threshold(
        "near-duplicates: correlation of the 16x16 grey reductions from",
        f"{SIMILAR:g}",
        "no false pair among 1.6 million of different digits, nor among 400,000 of crops of the same photos",
    ),
    Threshold(
        "near-duplicates: mean difference of colour, at most",
        f"{COLOUR:g} of 255 levels",
        "the same thing in another colour is another image; grey copies are let through",
    ),
    Threshold(
        "near-duplicates: width / height differ by at most",
        f"{SAME_SHAPE - 1:.0%}",
        "resizing keeps the shape",
    ),
)
