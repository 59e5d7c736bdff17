"""Pixel values of any type → 0..255, by the range of the type or the data set, never by the single image's."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from zoo.arrays import Pixels
from zoo.data.decode.errors import UnsupportedPixels
from zoo.preprocess import IntensityRange

Array = NDArray[Any]

DTYPE_RANGE = IntensityRange()
# Maximum values at the usual bit depths: 8, 10, 12, 14 and 16 bits.
WHITE_LEVELS = (255, 1023, 4095, 16383, 65535)
_MAX_QUANTILE_SIDE = 256  # rows and columns sampled to estimate a quantile


def to_uint8(numbers: Array, rule: IntensityRange = DTYPE_RANGE, whole: Array | None = None) -> Pixels:
    """Convert (H, W, C) pixel values to uint8.

    uint8 is unchanged, booleans become 0 and 255, other values are scaled by 255 / maximum of the range.

    Args:
        numbers: the pixel values.
        rule: the intensity range.
        whole: the full image, if `numbers` is a part of it; its range decides between 0..1 and 0..255.

    Raises:
        UnsupportedPixels: NaN, infinity, negative values, values above the range, or an unsupported type.
    """
    if numbers.dtype == np.uint8:
        same: Pixels = np.asarray(numbers, np.uint8)
        return same
    if numbers.dtype == np.bool_:
        both: Pixels = numbers.astype(np.uint8) * np.uint8(255)
        return both
    whites: tuple[float, ...] = rule.integers
    if numbers.dtype.kind == "f":
        whites = rule.floats or ((1.0,) if min_max(numbers if whole is None else whole)[1] <= 1 else (255.0,))
    if len(whites) not in (1, numbers.shape[2]):
        whites = (max(whites),)  # a grey image in a data set of colour images
    min_max(numbers)
    white = np.array(whites)
    too_high = numbers.max(axis=(0, 1)) > white
    if too_high.any() and not rule.clips:
        raise UnsupportedPixels(_above_white_message(numbers, rule, white, int(np.argmax(too_high))))
    exact = np.float32 if white.max() <= WHITE_LEVELS[-1] else np.float64
    scaled = np.multiply(numbers, (255 / white).astype(exact), dtype=exact)
    if too_high.any():
        np.minimum(scaled, 255, out=scaled)
    done: Pixels = np.rint(scaled, out=scaled).astype(np.uint8)
    return done


def _above_white_message(numbers: Array, rule: IntensityRange, white: NDArray[Any], channel: int) -> str:
    low, high = min_max(numbers[:, :, channel])
    is_float = numbers.dtype.kind == "f"
    text = f"{'floating point ' if is_float else ''}values from {low:g} to {high:g}"
    if rule == DTYPE_RANGE:
        wanted = "beyond 255; scale them to 0..1 or 0..255" if is_float else "beyond 16 bits; scale them to 0..65535"
        return f"{text}, {wanted}"
    where = f" in channel {channel + 1}" if len(white) > 1 else ""
    return f"{text}{where}, but {white[channel % len(white)]:g} is white in the training images (data.intensity_range)"


def require_known_range(numbers: Array) -> None:
    """Raises UnsupportedPixels unless all of `numbers` fit a range of up to 16 bits."""
    if numbers.dtype not in (np.uint8, np.bool_):
        low, high = min_max(numbers)
        if high > WHITE_LEVELS[-1]:
            raise UnsupportedPixels(f"values from {low:g} to {high:g}, beyond 16 bits; scale them to 0..65535")


class IntensityStats(NamedTuple):
    """Intensity statistics of an image of more than 8 bits.

    kind: "integers" or "floats"; "" for 8 bits. high: maximum per channel. p999: 99.9th percentile per channel.
    """

    kind: str = ""
    high: tuple[float, ...] = ()
    p999: tuple[float, ...] = ()


def measure_intensity(numbers: Array) -> IntensityStats:
    """The statistics of an image (H, W, C). Raises UnsupportedPixels on invalid values."""
    if numbers.dtype in (np.uint8, np.bool_):
        return IntensityStats()
    min_max(numbers)
    some = numbers[:: 1 + numbers.shape[0] // _MAX_QUANTILE_SIDE, :: 1 + numbers.shape[1] // _MAX_QUANTILE_SIDE]
    p999 = np.quantile(some, 0.999, axis=(0, 1), method="higher")
    kind = "floats" if numbers.dtype.kind == "f" else "integers"
    return IntensityStats(kind, tuple(map(float, numbers.max(axis=(0, 1)))), tuple(map(float, p999)))


def min_max(numbers: Array) -> tuple[float, float]:
    """The minimum and maximum. Raises UnsupportedPixels on NaN, infinity, negative values or an unsupported type."""
    if numbers.dtype.kind not in "uif":
        raise UnsupportedPixels(f"numbers of type {numbers.dtype}; pixels are bool, uint8, uint16 or floating point")
    low, high = float(numbers.min()), float(numbers.max())
    kind = "floating point " if numbers.dtype.kind == "f" else ""
    if not (np.isfinite(low) and np.isfinite(high)):
        raise UnsupportedPixels(f"{kind}values that are not finite (NaN or infinity)")
    if low < 0:
        raise UnsupportedPixels(f"negative {kind}values, from {low:g} to {high:g}; scale them to 0 and above")
    return low, high


def white_level(high: float) -> int:
    """The maximum of the smallest usual bit depth that holds the value `high`, at most 16 bits."""
    return next((white for white in WHITE_LEVELS if high <= white), WHITE_LEVELS[-1])
