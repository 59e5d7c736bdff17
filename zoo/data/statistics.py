"""Statistics of the images of a data set: their intensity range, mean and standard deviation per channel."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from zoo.augment.fit import EvalView
from zoo.data.dataset import ImageDataset
from zoo.data.decode.errors import UnreadableImage
from zoo.data.decode.intensity import IntensityStats, white_level
from zoo.data.validate import FULL_CHECK
from zoo.dist_env import cores
from zoo.preprocess import IntensityRange, Preprocess

T = TypeVar("T")

# Images. The means of natural images have a standard deviation of 0.15, so the error for 1,000 images is 0.005.
STATISTICS_SAMPLE = 1000
_PROBE_IMAGES = 64  # images that show whether any has more than 8 bits
_MIN_GREY_LEVELS = 64  # of 256 grey levels


def measure_intensity_range(train: ImageDataset, val: ImageDataset) -> tuple[IntensityRange, str]:
    """(white level of the images of more than 8 bits, a sentence about it, "" if there are none).

    White is the largest value of the smallest bit depth (8, 10, 12, 14, 16) that contains all values of all images (of
    20,000 at most), separately for integers and floating point; 1 for floating point within 0..1. Grey and colour
    images have one white level for all channels, which preserves the colours; other numbers of channels have one each.
    Validation images are included: the bit depth of a camera is not learned.
    """
    probe = _intensity_stats(train, _sample(len(train), _PROBE_IMAGES, 0))
    if not any(found.kind for found in probe):
        return IntensityRange(), ""
    found = [
        *_intensity_stats(train, _sample(len(train), FULL_CHECK, 0)),
        *_intensity_stats(val, _sample(len(val), FULL_CHECK, 0)),
    ]
    per_channel = train.channels not in (1, 3)
    integers, message = _whites([f for f in found if f.kind == "integers"], "", per_channel)
    floats, float_message = _whites([f for f in found if f.kind == "floats"], "floating point ", per_channel)
    intensity_range = IntensityRange(tuple(map(int, integers)) or IntensityRange.integers, floats or None)
    return intensity_range, "; ".join(text for text in (message, float_message) if text)


def _whites(found: Sequence[IntensityStats], kind: str, per_channel: bool) -> tuple[tuple[float, ...], str]:
    """(white level of all channels, or of each with `per_channel`; a sentence about it)."""
    if not found:
        return (), ""
    one_each = per_channel and len({len(f.high) for f in found}) == 1
    high = [max(v) for v in zip(*(f.high if one_each else (max(f.high),) for f in found), strict=True)]
    p999 = [max(v) for v in zip(*(f.p999 if one_each else (max(f.p999),) for f in found), strict=True)]
    whites = tuple(1.0 if kind and top <= 1 else float(white_level(top)) for top in high)
    message = f"{kind}levels up to {_format_values(high)} become 0..255, with {_format_values(whites)} as white"
    used = [int(255 * b / w) + 1 for b, w in zip(p999, whites, strict=True)]
    if min(used) < _MIN_GREY_LEVELS:
        better = ",".join(f"{max(1, math.ceil(b)):g}" for b in p999)
        message += (
            f"; but 99.9 % of every image is on {_format_values(used)} of 256 grey levels: "
            f"--set data.intensity_range=[{better}] spreads those, and makes all above white"
        )
    return whites, message


def _format_values(numbers: Sequence[float]) -> str:
    """One number if all are equal."""
    return ", ".join(f"{n:g}" for n in numbers) if len(set(numbers)) > 1 else f"{numbers[0]:g}"


def channel_statistics(
    source: ImageDataset,
    preprocess: Preprocess,
    *,
    seed: int,
    max_images: int = STATISTICS_SAMPLE,
    threads: int | None = None,
) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and standard deviation per channel, of pixels scaled to 0..1, of a sample of at most `max_images` images.

    The images are fitted as for evaluation, but squashed instead of padded. Sums are of integers, so the result does
    not depend on the number of threads. A constant channel has the standard deviation 1. Raises UnreadableImage, unless
    the source skips such files.
    """
    if preprocess.crop_mode == "border":
        preprocess = preprocess.with_fit("squash")
    view = EvalView(preprocess)

    def sums(index: int) -> NDArray[np.int64] | None:
        try:
            pixels = source.read(index, lambda height, width: view)
        except UnreadableImage:
            if source.skip_unreadable:
                return None
            raise
        flat = pixels.reshape(-1, pixels.shape[2]).astype(np.int64)
        return np.stack([flat.sum(axis=0), np.square(flat).sum(axis=0)])

    total = np.zeros((2, source.channels), np.int64)
    images = 0
    for part in _map_threads(sums, _sample(len(source), max_images, seed), threads):
        if part is not None:
            total += part
            images += 1
    count = max(1, images * preprocess.height * preprocess.width)
    means, stds = [], []
    for first, second in zip(total[0].tolist(), total[1].tolist(), strict=True):
        means.append(first / count / 255)
        stds.append(math.sqrt(count * second - first**2) / count / 255 or 1.0)
    return tuple(means), tuple(stds)


def _intensity_stats(source: ImageDataset, indices: Sequence[int]) -> list[IntensityStats]:
    return list(_map_threads(source.intensity_stats, indices, None))


def _sample(n: int, max_images: int, seed: int) -> list[int]:
    """At most `max_images` of 0..n-1, in rising order."""
    if n <= max_images:
        return list(range(n))
    chosen: list[int] = np.sort(np.random.default_rng(seed).choice(n, max_images, replace=False)).tolist()
    return chosen


def _map_threads(work: Callable[[int], T], indices: Sequence[int], threads: int | None) -> Iterable[T]:
    with ThreadPoolExecutor(threads or cores()) as pool:  # NumPy and Pillow release the GIL
        yield from pool.map(work, indices)
