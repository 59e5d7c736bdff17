"""What is measured over the images of a data set: the range of their levels, the mean and spread of each channel."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from zoo.augment.fit import Fit
from zoo.data.dataset import ImageSource
from zoo.data.decode.intensity import Extent, depth_of
from zoo.data.decode.read import UnreadableImage
from zoo.data.validate import FULL_CHECK
from zoo.dist_env import cores
from zoo.preprocess import Levels, Preprocess

__all__ = ["SAMPLE", "channel_statistics", "measure_levels"]

T = TypeVar("T")

# Images whose mean and spread are measured: those of natural images differ by 0.15 from one to the next, so that the
# mean of a thousand is known to half a hundredth.
SAMPLE = 1000
_FEW = 64  # images that tell whether there are levels beyond 8 bits at all
_FEW_LEVELS = 64  # of 256 grey levels


def measure_levels(train: ImageSource, val: ImageSource) -> tuple[Levels, str]:
    """White of the images beyond 8 bits, and a sentence about it, "" if there are none.

    White is that of the fewest bits (8, 10, 12, 14, 16) that hold the highest level of all images (of 20,000, if there
    are more), of whole numbers and of floating point each for itself; 1 for floating point within 0..1. Of grey and of
    colour it is one, so that colours keep their balance; each of other numbers of channels has its own, as each is a
    picture of its own. The validation images are looked at too: which bits a camera gives is not learned.
    """
    few = _ranges(train, _sample(len(train), _FEW, 0))
    if not any(found.kind for found in few):
        return Levels(), ""
    found = [*_ranges(train, _sample(len(train), FULL_CHECK, 0)), *_ranges(val, _sample(len(val), FULL_CHECK, 0))]
    several = train.channels not in (1, 3)
    integers, said = _whites([f for f in found if f.kind == "integers"], "", several)
    floats, also_said = _whites([f for f in found if f.kind == "floats"], "floating point ", several)
    levels = Levels(tuple(map(int, integers)) or Levels.integers, floats or None)
    return levels, "; ".join(text for text in (said, also_said) if text)


def _whites(found: Sequence[Extent], kind: str, several: bool) -> tuple[tuple[float, ...], str]:
    """White of all channels or, with `several`, of each, and what is to be said of it."""
    if not found:
        return (), ""
    one_each = several and len({len(f.high) for f in found}) == 1
    high = [max(v) for v in zip(*(f.high if one_each else (max(f.high),) for f in found), strict=True)]
    bulk = [max(v) for v in zip(*(f.bulk if one_each else (max(f.bulk),) for f in found), strict=True)]
    whites = tuple(1.0 if kind and top <= 1 else float(depth_of(top)) for top in high)
    said = f"{kind}levels up to {_listed(high)} become 0..255, with {_listed(whites)} as white"
    used = [int(255 * b / w) + 1 for b, w in zip(bulk, whites, strict=True)]
    if min(used) < _FEW_LEVELS:
        better = ",".join(f"{max(1, math.ceil(b)):g}" for b in bulk)
        said += (
            f"; but 99.9 % of every image is on {_listed(used)} of 256 grey levels: --set data.levels=[{better}] "
            "spreads those, and makes all above white"
        )
    return whites, said


def _listed(numbers: Sequence[float]) -> str:
    """One number where all are alike."""
    return ", ".join(f"{n:g}" for n in numbers) if len(set(numbers)) > 1 else f"{numbers[0]:g}"


def channel_statistics(
    source: ImageSource, preprocess: Preprocess, *, seed: int, most: int = SAMPLE, threads: int | None = None
) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and standard deviation of each channel, of pixels scaled to 0..1, over a sample of at most `most` images.

    The images are fitted as for evaluation, but squashed where that would pad them: the border is no image. All sums
    are of whole numbers, so that the result is the same for any number of threads. A channel that never changes has the
    deviation 1. Raises UnreadableImage, unless the source skips such files.
    """
    if preprocess.crop_mode == "border":
        preprocess = preprocess.with_fit("squash")
    view = Fit(preprocess)

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
    for part in _each(sums, _sample(len(source), most, seed), threads):
        if part is not None:
            total += part
            images += 1
    count = max(1, images * preprocess.height * preprocess.width)
    means, deviations = [], []
    for first, second in zip(total[0].tolist(), total[1].tolist(), strict=True):
        means.append(first / count / 255)
        deviations.append(math.sqrt(count * second - first**2) / count / 255 or 1.0)
    return tuple(means), tuple(deviations)


def _ranges(source: ImageSource, indices: Sequence[int]) -> list[Extent]:
    return list(_each(source.level_range, indices, None))


def _sample(n: int, most: int, seed: int) -> list[int]:
    """At most so many of 0..n-1, in rising order."""
    if n <= most:
        return list(range(n))
    chosen: list[int] = np.sort(np.random.default_rng(seed).choice(n, most, replace=False)).tolist()
    return chosen


def _each(work: Callable[[int], T], indices: Sequence[int], threads: int | None) -> Iterable[T]:
    """Threads suffice: NumPy and Pillow let go of the lock while they read."""
    with ThreadPoolExecutor(threads or cores()) as pool:
        yield from pool.map(work, indices)
