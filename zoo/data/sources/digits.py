"""scikit-learn's 1,797 handwritten digits of 8x8 pixels (Alpaydin and Kaynak 1998, UCI, CC BY 4.0) as a source."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from zoo.arrays import Pixels
from zoo.data.dataset import Targets
from zoo.data.decode.intensity import IntensityStats
from zoo.data.decode.read import ChooseView
from zoo.data.schema.labels import from_classes
from zoo.data.string_table import StringTable
from zoo.preprocess import IntensityRange
from zoo.tasks import TaskName

__all__ = ["Digits"]


_NAMES = tuple("0123456789")


@lru_cache(maxsize=1)
def _arrays() -> tuple[Pixels, NDArray[np.int64]]:
    """(1797, 8, 8) uint8, their 17 levels 0..16 spread over 0..255, and (1797,) int64."""
    from sklearn.datasets import load_digits

    intensity_range, targets = load_digits(return_X_y=True)
    pixels = np.rint(intensity_range * 255 / 16).astype(np.uint8).reshape(-1, 8, 8)
    return pixels, targets.astype(np.int64)


@dataclass(frozen=True)
class Digits:
    """All digits, 8x8 pixels, the grey level repeated in `channels` channels; the fit enlarges them, as any image.

    Targets and classes are those of class folders with these names: in regression the digit is the number.
    """

    channels: int = 3
    task: TaskName = "single-label"
    name: str = "digits"
    in_memory: bool = True
    skip_unreadable: bool = False
    shards: None = None
    groups: None = None

    @property
    def classes(self) -> tuple[str, ...]:
        return from_classes(_arrays()[1][:0], _NAMES, self.task, self.name)[1]

    @property
    def targets(self) -> Targets:
        return from_classes(_arrays()[1], _NAMES, self.task, self.name)[0]

    @property
    def names(self) -> StringTable:
        return StringTable(map(str, range(len(self))))

    def __len__(self) -> int:
        return len(_arrays()[1])

    def read(self, index: int, choose_view: ChooseView | None = None) -> Pixels:
        image = np.repeat(_arrays()[0][index][:, :, None], self.channels, axis=2)
        return image if choose_view is None else choose_view(*image.shape[:2]).apply(image)

    def read_file_bytes(self, index: int) -> bytes:
        return bytes(_arrays()[0][index].tobytes())

    def intensity_stats(self, index: int) -> IntensityStats:
        return IntensityStats()

    def with_intensity_range(self, intensity_range: IntensityRange) -> Digits:
        return self

    def where(self, index: int) -> str:
        return f"digits[{index}]"

    def fingerprint(self) -> str:
        pixels, targets = _arrays()
        return hashlib.sha256(pixels.tobytes() + targets.astype("<i8").tobytes()).hexdigest()[:16]
