"""The evaluation view: from an image of any size to the model's size."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from PIL import Image

from zoo.arrays import Pixels
from zoo.augment.view import View, Window, resample_filter
from zoo.errors import UsageError
from zoo.preprocess import Preprocess

# Above this aspect ratio only the centre of an image is read; pixels may then differ from timm's.
_MAX_ASPECT_RATIO = 16
# Minimum size of a JPEG decoded at reduced size, relative to the resized image. Compared with the full image: 40 dB for
# the sharpest of the photographs in benchmarks/loader.py, 46 dB on average; with 1.0: 31 and 39 dB.
_DECODE_MARGIN = 1.45


def fit(image: Pixels, preprocess: Preprocess) -> Pixels:
    """The evaluation view of an (H, W, C) array: (preprocess.height, preprocess.width, C). See `EvalView`."""
    return EvalView(preprocess).apply(image)


def to_model_input(result: Any, who: str, preprocess: Preprocess) -> Pixels:
    """The output of a user's augmentation at the model's input size, resized as with crop_mode "squash" where needed.

    `who` names the augmentation in errors. Raises UsageError on anything but a uint8 array (H, W, C) with the model's
    channels; (H, W) is accepted for one channel.
    """
    wanted = f"must return a uint8 array (height, width, {preprocess.channels})"
    if not isinstance(result, np.ndarray):
        kind = type(result)
        hint = "return the array under its key 'image'" if isinstance(result, dict) else ""
        if kind.__module__.split(".")[0] == "torch":
            hint = "leave ToTensor out: zoo makes the tensors"
        raise UsageError(f"{who} {wanted}; got {kind.__name__}", hint)
    if result.dtype != np.uint8:
        hint = "leave Normalize and divisions by 255 out: zoo normalises on the device"
        raise UsageError(f"{who} {wanted}; got {result.dtype} {result.shape}", hint)
    if result.ndim == 2 and preprocess.channels == 1:
        result = result[:, :, None]
    if result.ndim != 3 or result.shape[2] != preprocess.channels or 0 in result.shape:
        raise UsageError(f"{who} {wanted}; got {result.dtype} {result.shape}")
    if result.shape[:2] == (preprocess.height, preprocess.width):
        return np.ascontiguousarray(result)  # a flipped view has negative strides, which torch does not support
    return np.array(fit(result, preprocess.with_fit("squash")))


@dataclass(frozen=True)
class EvalView(View):
    """The view of timm's evaluation transform, pixel for pixel, except for aspect ratios above 16. Files are resized by
    `zoo.augment.resize` (differs by 1 or 2 of 255), and large JPEGs are decoded at a reduced size.

    crop_mode "center": resize the short side to floor(size / crop_pct), crop the centre. "squash": resize both sides to
    that size, ignoring the aspect ratio. "border": resize the long side, pad with the mean colour. Raises UsageError on
    an unknown crop mode or interpolation.
    """

    preprocess: Preprocess

    def min_size(self, height: int, width: int) -> tuple[int, int]:
        """Larger than the resized image for "center" and "squash", for 40 dB or more relative to timm's view."""
        if self.window(height, width) is None:
            return height, width
        h, w = self._resized(height, width)
        return min(height, math.ceil(_DECODE_MARGIN * h)), min(width, math.ceil(_DECODE_MARGIN * w))

    def window(self, height: int, width: int) -> Window | None:
        preprocess = self.preprocess
        too_long = preprocess.crop_mode == "center" and max(height, width) > _MAX_ASPECT_RATIO * min(height, width)
        if preprocess.crop_mode == "border" or too_long:
            return None
        h, w = self._resized(height, width)
        if h < preprocess.height or w < preprocess.width:
            return None
        top, left = round((h - preprocess.height) / 2), round((w - preprocess.width) / 2)
        cut = (left, top, left + preprocess.width, top + preprocess.height)
        return Window((0, 0, width, height), (h, w), resample_filter(preprocess.interpolation), cut)

    def cut(self, image: Image.Image, height: int, width: int, plane: int = 0) -> Image.Image:
        preprocess = self.preprocess
        resample = resample_filter(preprocess.interpolation)
        fill: tuple[int, ...] = (0,) * len(image.getbands())
        if preprocess.crop_mode == "center" and image.size == (width, height):
            image = _trim_long_image(image)
            width, height = image.size
        elif preprocess.crop_mode == "border":
            fill = border_colour(preprocess, len(fill), plane)
        new_h, new_w = self._resized(height, width)
        if (new_w, new_h) != image.size:
            image = image.resize((new_w, new_h), resample)
        return _centre_crop(image, preprocess.height, preprocess.width, fill)

    def _resized(self, h: int, w: int) -> tuple[int, int]:
        preprocess = self.preprocess
        target_h, target_w = (
            math.floor(preprocess.height / preprocess.crop_pct),
            math.floor(preprocess.width / preprocess.crop_pct),
        )
        if preprocess.crop_mode == "squash":
            return target_h, target_w
        if preprocess.crop_mode == "border":
            ratio = max(h / target_h, w / target_w)
            return max(1, round(h / ratio)), max(1, round(w / ratio))
        if preprocess.crop_mode != "center":
            raise UsageError(f"no crop mode named {preprocess.crop_mode!r}", "known: center, squash, border")
        if target_h == target_w:  # torchvision's rule for a single size: the long side is truncated, not rounded
            return (target_h, int(target_h * w / h)) if h <= w else (int(target_w * h / w), target_w)
        ratio = min(h / target_h, w / target_w)
        return round(h / ratio), round(w / ratio)


def border_colour(preprocess: Preprocess, bands: int, plane: int = 0) -> tuple[int, ...]:
    """The mean colour, 0..255, for `bands` channels, or for the single channel `plane`."""
    mean = preprocess.mean if bands == len(preprocess.mean) else preprocess.mean[plane : plane + 1]
    return tuple(round(255 * m) for m in mean)


def _trim_long_image(image: Image.Image) -> Image.Image:
    """The centre of a very long image, which would otherwise be enlarged first (10x20,000 to 256x512,000)."""
    longest = _MAX_ASPECT_RATIO * min(image.size)
    if max(image.size) <= longest:
        return image
    w, h = min(image.width, longest), min(image.height, longest)
    left, top = (image.width - w) // 2, (image.height - h) // 2
    return image.crop((left, top, left + w, top + h))


def _centre_crop(image: Image.Image, height: int, width: int, fill: tuple[int, ...]) -> Image.Image:
    """The centre crop, after padding if `image` is smaller; both round as torchvision does."""
    if image.height < height or image.width < width:
        size = (max(image.width, width), max(image.height, height))
        padded = Image.new(image.mode, size, fill if len(fill) > 1 else fill[0])
        padded.paste(image, (max(width - image.width, 0) // 2, max(height - image.height, 0) // 2))
        image = padded
    if image.size == (width, height):
        return image
    top, left = round((image.height - height) / 2), round((image.width - width) / 2)
    return image.crop((left, top, left + width, top + height))
