"""A grid of augmented images: one row per image, first without augmentation, then as seen in training."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from zoo.arrays import Pixels
from zoo.reports.canvas import GREY, INK, new_figure, save, set_names, shorten

_MIN_SIDE, _MAX_SIDE = 96, 256  # pixels per side of a drawn image; smaller images are enlarged by an integer factor
_GAP = 6
_CAPTION_HEIGHT = 22  # pixels below an image with a caption
_MAX_NAME_LENGTH = 28


@dataclass(frozen=True)
class GridRow:
    """images: (H, W, C) uint8 of one size; the first three channels are drawn, of two channels the first. captions: a
    text below each image, or none. Texts have passed `canvas.drawable`."""

    name: str
    images: Sequence[Pixels]
    captions: Sequence[str] = ()


def augment_grid(rows: Sequence[GridRow], columns: Sequence[str], title: str, path: Path) -> None:
    """Write a PNG. Only images larger than 256 pixels are resampled; smaller ones are enlarged by an integer factor.
    Raises TrainingError if the file cannot be written."""
    drawn = [[_drawable(image) for image in row.images] for row in rows]
    height, width = drawn[0][0].shape[:2]
    captions = any(any(row.captions) for row in rows)
    step_y, step_x = height + _GAP + (_CAPTION_HEIGHT if captions else 0), width + _GAP
    sheet = np.full((len(rows) * step_y - _GAP, len(columns) * step_x - _GAP, 3), 255, np.uint8)
    for r, images in enumerate(drawn):
        for c, image in enumerate(images):
            sheet[r * step_y : r * step_y + height, c * step_x : c * step_x + width] = image
    figure = new_figure(sheet.shape[1] / 120, sheet.shape[0] / 120)
    figure.set_layout_engine("none")  # it would shrink the images to fit the names
    axes = figure.add_axes((0, 0, 1, 1))
    axes.imshow(sheet, interpolation="nearest", aspect="auto")
    axes.set_axis_off()
    texts = []
    for r, row in enumerate(rows):
        middle = r * step_y + height / 2
        name = shorten(row.name, _MAX_NAME_LENGTH)
        texts.append(axes.text(-2 * _GAP, middle, name, ha="right", va="center", fontsize=11, color=INK))
        for c, caption in enumerate(row.captions):
            x, y = c * step_x + width / 2, r * step_y + height + 2
            texts.append(axes.text(x, y, shorten(caption, width // 6), ha="center", va="top", fontsize=7, color=GREY))
    for c, name in enumerate(columns):
        texts.append(axes.text(c * step_x + width / 2, -8, name, ha="center", va="bottom", fontsize=9, color=GREY))
    texts.append(axes.text(0, -28, title, ha="left", va="bottom", fontsize=11, color=INK))
    set_names(texts)
    save(figure, path)


def _drawable(image: Pixels) -> Pixels:
    """The image as (h, w, 3), at the size at which it is drawn."""
    channels = image.shape[2]
    colour = image[:, :, :3] if channels >= 3 else np.repeat(image[:, :, :1], 3, axis=2)
    longest = max(colour.shape[:2])
    if longest > _MAX_SIDE:
        size = tuple(max(1, round(side * _MAX_SIDE / longest)) for side in colour.shape[1::-1])
        return np.asarray(Image.fromarray(np.ascontiguousarray(colour)).resize((size[0], size[1])))
    times = max(1, math.ceil(_MIN_SIDE / longest))
    return colour.repeat(times, axis=0).repeat(times, axis=1)
