"""All limits of `zoo check`, with their reasons."""

from __future__ import annotations

from dataclasses import dataclass

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
    """A limit, as the HTML report and the documentation show it."""

    what: str
    value: str
    why: str


THRESHOLDS: tuple[Threshold, ...] = (
    Threshold("images per class, error below", "2", "a split needs one image on each side"),
    Threshold(
        "images per class, warning below",
        str(MIN_CLASS_IMAGES),
        "with a fifth held out, one or two images decide the accuracy of the class",
    ),
    Threshold(
        "largest class : smallest class, warning from",
        f"{IMBALANCE:g} : 1",
        "our choice: the low end of the ratios of Buda, Maki and Mazurowski, Neural Networks 2018",
    ),
    Threshold(
        "tiny image, shorter side below",
        f"{TINY} px, and half the median",
        "most networks have stride 32: less is one cell of the last feature map; sets of small images are exempt",
    ),
    Threshold(
        "extreme aspect ratio, longer side : shorter side from",
        f"{ASPECT:g} : 1, and twice the median",
        "a center crop shows a fifth of the image",
    ),
    Threshold(
        "unusual size, square root of the area compared to the median",
        f"{SIZE_OUTLIER_RATIO:g} times or 1/{SIZE_OUTLIER_RATIO:g}",
        "three halvings: objects have a scale that does not occur in the other images",
    ),
    Threshold(
        "grey image, difference of red, green and blue at most",
        f"{GREY_LEVELS} of 255",
        "our choice: allows for JPEG rounding; measured on the 32x32 thumbnail",
    ),
    Threshold(
        "blank image, difference of all pixel values at most",
        f"{BLANK_LEVELS} of 255",
        "our choice: sensor noise and JPEG artifacts of an empty image",
    ),
    Threshold("class folder, share of unreadable files above", f"{FOLDER_UNREADABLE:.0%}", "a failed download or copy"),
    Threshold(
        "near-duplicates, shorter side from",
        f"{NEAR_SIDE} px",
        "smaller digits and icons look the same; such images are compared for equality only",
    ),
    Threshold(
        "near-duplicates, standard deviation of the grey values from",
        f"{DETAIL:g} of 255",
        "an image of clear sky has no detail to compare",
    ),
    Threshold(
        "near-duplicates, different bits of the 64-bit pHash at most",
        f"{DISTANCE}",
        "finds 97 % of photo crops saved again at JPEG quality 60 and 98 % at half the size (docs/check.md)",
    ),
    Threshold(
        "near-duplicates, correlation of the 16x16 grey thumbnails from",
        f"{SIMILAR:g}",
        "no false pair among 1.6 million of different digits, nor among 400,000 of crops of the same photos",
    ),
    Threshold(
        "near-duplicates, mean difference of colour at most",
        f"{COLOUR:g} of 255",
        "the same object in another colour is another image; grey copies are accepted",
    ),
    Threshold(
        "near-duplicates, difference of the aspect ratios at most",
        f"{SAME_SHAPE - 1:.0%}",
        "resizing keeps the aspect ratio",
    ),
)
