"""The 1,797 handwritten digits of scikit-learn, 8x8 pixels (Alpaydin and Kaynak 1998, UCI, CC BY 4.0)."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from zoo.arrays import Pixels
from zoo.data.dataset import StringTable, Subset, Targets
from zoo.data.decode.intensity import IntensityStats
from zoo.data.decode.multichannel import ChooseView
from zoo.data.listing import ListedSplit, Listing
from zoo.data.schema.labels import from_classes
from zoo.data.sources.source import EvalImages, OpenOptions, Source, SourceSplits
from zoo.data.split.strategy import SplitStrategy
from zoo.errors import UsageError
from zoo.preprocess import IntensityRange
from zoo.tasks import TaskName

_NAMES = tuple("0123456789")
# Pixels: four times the size of the digits, and the size at which the built-in backbone was pretrained.
_USEFUL_SIZE = 32


class DigitsSource(Source):
    """The word "digits"."""

    def matches(self, source: str) -> bool:
        return source == "digits"

    def open_train(self, source: str, val: str | None, options: OpenOptions) -> SourceSplits:
        if val is not None:
            raise UsageError("digits brings its own validation images", "omit --val, or use --data FOLDER")
        task = options.class_task
        whole = Digits(options.channels, task)
        return SourceSplits(source, source, task, whole, flips_ok=False, useful_size=_USEFUL_SIZE)

    def open_eval(self, source: str, split: str | None, classes: tuple[str, ...], options: OpenOptions) -> EvalImages:
        return EvalImages(Digits(options.channels, options.class_task), held_out_only=True)

    def list_for_check(self, source: str, val: str | None, options: OpenOptions) -> Listing:
        found = self.open_train(source, val, options)
        train, held_out, _, notes = SplitStrategy().of(found.train, found.task)
        splits = (
            ListedSplit("training", Subset(found.train, train)),
            ListedSplit("validation", Subset(found.train, held_out)),
        )
        return Listing(found.name, found.task, found.train.classes, splits, notes=notes)


@lru_cache(maxsize=1)
def _arrays() -> tuple[Pixels, NDArray[np.int64]]:
    """Pixels (1797, 8, 8) uint8, with the values 0..16 scaled to 0..255, and targets (1797,) int64."""
    from sklearn.datasets import load_digits

    values, targets = load_digits(return_X_y=True)
    pixels = np.rint(values * 255 / 16).astype(np.uint8).reshape(-1, 8, 8)
    return pixels, targets.astype(np.int64)


@dataclass(frozen=True)
class Digits:
    """All digits, 8x8 pixels, repeated over `channels` channels.

    Targets and classes are as for class folders named 0 to 9; for regression the digit is the value.
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
