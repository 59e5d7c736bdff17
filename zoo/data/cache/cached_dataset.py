"""A dataset that reads decoded images from the image cache.

The cache holds one view per image: either the fixed view that the loader requests, bit for bit, or the whole image,
reduced as far as the random crops allow (`zoo.augment.reduced`). Crops are always drawn from the reduced image, cached
or just decoded, so that pixels do not depend on the state of the cache.
"""

from __future__ import annotations

import hashlib
import json
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import asdict, dataclass
from itertools import islice
from typing import Any, Protocol

import numpy as np
import PIL
import torch
from numpy.typing import NDArray

from zoo.arrays import Indices, Pixels
from zoo.augment.build import Augment
from zoo.augment.fit import EvalView
from zoo.augment.reduced import RESIZE_MARGIN, Reduced
from zoo.augment.resize import resize_and_crop
from zoo.augment.view import View
from zoo.cache import kind_folder
from zoo.data.cache.image_store import DecodedImage, ImageStore
from zoo.data.dataset import DatasetWrapper, ImageDataset, StringTable, Subset, Targets
from zoo.data.decode.errors import UnreadableImage
from zoo.data.decode.intensity import IntensityStats
from zoo.data.decode.multichannel import ChooseView
from zoo.data.file_dataset import FileDataset, file_keys
from zoo.dist_env import cores
from zoo.preprocess import IntensityRange, Preprocess

Keys = NDArray[np.uint64]

# Increase when the rules from file to pixels change.
_VERSION = 1


def cache_view(preprocess: Preprocess, augment: object) -> EvalView | Reduced | None:
    """The view to cache for an augmentation (None: evaluation). None if `augment` is a user function, which gets whole
    images."""
    if augment is None:
        return EvalView(preprocess)
    if not isinstance(augment, Augment):
        return None
    crops = augment.pipeline.crops
    return EvalView(preprocess) if crops is None else Reduced(preprocess, crops)


class CachedImages(Protocol):
    """Cached images by index, such as `zoo.data.cache.image_store.MappedImages`."""

    def get(self, index: int) -> tuple[Pixels, tuple[int, int]] | None: ...


@dataclass(frozen=True)
class CachedDataset(DatasetWrapper):
    """`source` with cached images of `view`; images that are not cached are decoded, to the same pixels.

    With an `EvalView`, other views are read from `source`. With a `Reduced`, every view is one of the reduced image.
    """

    view: EvalView | Reduced
    cached_images: CachedImages

    @property
    def targets(self) -> Targets:
        return self.source.targets

    @property
    def shards(self) -> Indices | None:
        return self.source.shards  # keeps the epoch order the same as without the cache

    @property
    def groups(self) -> Indices | None:
        return self.source.groups

    @property
    def names(self) -> StringTable:
        return self.source.names

    def __len__(self) -> int:
        return len(self.source)

    def read(self, index: int, choose_view: ChooseView | None = None) -> Pixels:
        if isinstance(self.view, Reduced):
            found = self.cached_images.get(index)
            pixels = found[0] if found else self.source.read(index, lambda height, width: self.view)
            return pixels if choose_view is None else _apply_view(choose_view(*pixels.shape[:2]), pixels)
        found = self.cached_images.get(index) if choose_view is not None else None
        if found is None or choose_view is None:
            return self.source.read(index, choose_view)
        pixels, original_size = found
        wanted = choose_view(*original_size)
        return pixels if wanted == self.view else self.source.read(index, lambda height, width: wanted)

    def intensity_stats(self, index: int) -> IntensityStats:
        return self.source.intensity_stats(index)

    def with_intensity_range(self, intensity_range: IntensityRange) -> ImageDataset:
        """The uncached images: the cache holds another intensity range."""
        return self.source.with_intensity_range(intensity_range)

    def read_file_bytes(self, index: int) -> bytes:
        return self.source.read_file_bytes(index)

    def where(self, index: int) -> str:
        return self.source.where(index)

    def fingerprint(self) -> str:
        return self.source.fingerprint()


def _apply_view(view: View, pixels: Pixels) -> Pixels:
    window = view.window(*pixels.shape[:2]) if pixels.shape[2] in (1, 3) else None
    return view.apply(pixels) if window is None else resize_and_crop(pixels, window)


# --- the store -------------------------------------------------------------------------------------------------------


def image_keys(source: ImageDataset, view: EvalView | Reduced) -> Keys | None:
    """(n, 2) cache keys, from the path, size and modification time of each file and the view; 0 for a missing file.
    None for datasets without files."""
    files = _file_keys(source)
    if files is None:
        return None
    settings: dict[str, Any] = {
        "version": _VERSION,
        "channels": source.channels,
        "preprocess": view.preprocess.to_dict(),
        "reduced": [asdict(view.crops), RESIZE_MARGIN] if isinstance(view, Reduced) else None,
        "libraries": [PIL.__version__, torch.__version__, torch.backends.cpu.get_cpu_capability()],
    }
    digest = hashlib.blake2b(json.dumps(settings, sort_keys=True).encode(), digest_size=16).digest()
    mixed: Keys = np.where(files.any(axis=1, keepdims=True), files ^ np.frombuffer(digest, "<u8"), 0).astype(np.uint64)
    return mixed


def _file_keys(source: ImageDataset) -> Keys | None:
    if isinstance(source, Subset):
        if isinstance(source.source, FileDataset):
            return file_keys(source.source.take(source.indices))
        inner = _file_keys(source.source)
        return None if inner is None else inner[source.indices]
    return file_keys(source) if isinstance(source, FileDataset) else None


def open_image_store(where: str, name: str) -> ImageStore:
    """The store of the data set at `where`, a path or name; `name` is its display name."""
    digest = hashlib.blake2b(where.encode("utf-8", "surrogateescape"), digest_size=10).hexdigest()
    return ImageStore(kind_folder("images") / digest, {"data": name})


def fill(
    store: ImageStore, source: ImageDataset, view: View, keys: Keys, indices: Sequence[int], *, max_bytes: int
) -> int:
    """Decode the images at `indices`, one thread per core, and cache up to `max_bytes`; returns the bytes written.

    Unreadable images are skipped. Raises OSError if writing fails.
    """

    def decode(index: int) -> DecodedImage | None:
        original_size = (0, 0)

        def choose_view(height: int, width: int) -> View:
            nonlocal original_size
            original_size = height, width
            return view

        try:
            pixels = source.read(index, choose_view)
        except UnreadableImage:
            return None
        return DecodedImage(keys[index], pixels, original_size)

    def prefetch(pool: ThreadPoolExecutor) -> Iterator[DecodedImage]:
        remaining = iter(indices)
        pending: deque[Future[DecodedImage | None]] = deque()
        while True:
            pending.extend(pool.submit(decode, p) for p in islice(remaining, 4 * cores() - len(pending)))
            if not pending:
                return
            done = pending.popleft().result()
            if done is not None:
                yield done

    with ThreadPoolExecutor(cores()) as pool:
        return store.fill(prefetch(pool), max_bytes=max_bytes)
